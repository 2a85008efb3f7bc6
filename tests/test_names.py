"""What others read: names that any program can write, and no word of the machine that a run was made on."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from conftest import reseal
from octavo.data import readers
from octavo.engine.folder import RunFolder
from octavo.files import write_csv
from octavo.looks.names import displayable, last_parts, travelling, without_machine
from octavo.looks.subject import SegmentSubject
from octavo.options import Options
from octavo.recipe import dumps, load
from octavo.tasks.known import subject_of, task_of
from octavo.verbs.compare import compare
from octavo.verbs.explain import explain
from octavo.verbs.report import report
from octavo.verbs.training import train

TWO = """\
name = "two"
data = {size = 32, resize = "stretch", stored = 32, normalize = "none"}
train = {epochs = 1, batch_size = 8}
[[members]]
name = "squeeze"
backbone = "squeezenet1_1"
weights = "none"
[[members]]
name = "mobile"
backbone = "mobilenet_v3_small"
weights = "none"
"""


def lists(run: RunFolder, folder: Path, columns: dict[str, str]) -> RunFolder:
    """Return a copy of a run as if its data had been a list of absolute paths, for which all that is stored holds."""
    copy = RunFolder.open(shutil.copytree(run.path, folder / "run"))
    manifest = copy.manifest
    root = Path(manifest["data"]["root"])
    rows = [row | {key: str(root / row[key]) for key in columns if key != "label"} for row in copy.samples()]
    write_csv(copy.path / "samples.csv", rows)
    splits = {"fit": "train", "holdout": "train", "val": "val"}
    listed = [{to: row[key] for key, to in columns.items()} | {"split": splits[row["part"]]} for row in rows]
    write_csv(folder / "list.csv", listed)
    manifest["data"] |= {"root": str(folder / "list.csv"), "layout": "csv"}
    (copy.path / "manifest.json").write_text(json.dumps(manifest))
    reseal(copy)
    return copy


def no_machine(page: Path, *folders: Path) -> None:
    """Check that a page names no folder of this machine, with its root or without."""
    text = page.read_text(encoding="utf-8")
    for folder in (*folders, page.parent, Path.home(), Path.cwd()):
        assert str(folder) not in text and str(folder).lstrip("/") + "/" not in text, folder


@pytest.fixture
def listed(trained: RunFolder, tmp_path: Path) -> RunFolder:
    return lists(trained, tmp_path, {"file": "image", "label": "label"})


def test_a_report_on_a_list_of_absolute_paths_names_none(listed: RunFolder, trained: RunFolder) -> None:
    root = Path(trained.manifest["data"]["root"])
    report(listed)
    no_machine(listed.page, root, root.parent)
    names = subject_of(listed).names
    assert names == trained.files("val") and names[0] in listed.page.read_text()
    found = explain(listed, ("gradcam",), given={"gradcam": {"images": [names[0], str(root / names[1])]}}, device="cpu")
    assert [path.name for path in found.pictures] == ["gradcam.png"]
    for path in (listed.path / "explained").glob("*.json"):
        assert str(root) not in path.read_text(), path


def test_a_report_on_data_that_are_gone_names_no_path(listed: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "list.csv").unlink()
    text = report(listed).read_text()
    assert "Left out: mistakes. run: its data are gone from list.csv" in text
    no_machine(listed.page, tmp_path)


def test_a_file_of_a_list_that_is_gone_is_named_without_its_folder(listed: RunFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "two words" / "data"
    rows = listed.samples()
    root = Path(rows[0]["file"]).parents[1]
    shutil.copytree(root, elsewhere)
    write_csv(listed.path / "samples.csv", [r | {"file": r["file"].replace(str(root), str(elsewhere))} for r in rows])
    reseal(listed)
    text = (tmp_path / "list.csv").read_text().replace(str(root), str(elsewhere))
    (tmp_path / "list.csv").write_text(text)
    Path(listed.samples()[0]["file"]).unlink()
    page = report(listed).read_text()
    assert "Left out: mistakes. list.csv, line 2: no image" in page.replace("&#34;", '"')
    no_machine(listed.page, tmp_path, root, elsewhere)


def test_a_segmenters_report_on_a_list_names_no_path(segmented: RunFolder, tmp_path: Path) -> None:
    run = lists(segmented, tmp_path, {"file": "image", "mask": "mask"})
    rows = run.samples()
    write_csv(run.path / "samples.csv", [row | {"name": row["file"].lstrip("/").removesuffix(".jpg")} for row in rows])
    reseal(run)
    folder = run.path / "predictions" / "val"
    for old, new in zip([r["name"] for r in rows], run.samples(), strict=True):
        if new["part"] == "val":
            target = folder / f"{new['name']}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{old}.png").rename(target)
    shutil.rmtree(run.path / "masks")
    reseal(run)
    report(run)
    root = Path(segmented.manifest["data"]["root"])
    no_machine(run.page, root, root.parent)
    subject = subject_of(run)
    assert isinstance(subject, SegmentSubject) and subject.titles[0] == "validation/0000_sat"
    worst = json.loads(run.explained("worst.json").read_text())
    assert {row[0] for row in worst["tables"][0]["rows"]} == set(subject.titles)


def test_a_comparison_of_lists_names_no_path(listed: RunFolder, trained: RunFolder, tmp_path: Path) -> None:
    other = RunFolder.open(shutil.copytree(listed.path, tmp_path / "other"))
    for run, place in ((listed, "a b/one"), (other, "a b/two")):
        recipe = load(run.path / "recipe.toml")
        first = recipe.networks[0].model_copy(update={"weights": str(tmp_path / place / "w.safetensors")})
        members = (first, *recipe.networks[1:])
        (run.path / "recipe.toml").write_text(dumps(recipe.model_copy(update={"members": members})))
        reseal(run)
    page = compare([listed, other], tmp_path / "c.html")
    no_machine(page, tmp_path, Path(trained.manifest["data"]["root"]))
    text = page.read_text()
    assert "one/w.safetensors" in text and "two/w.safetensors" in text
    names, hardest = subject_of(listed).names, json.loads((tmp_path / "c.json").read_text())["hardest"]
    assert hardest and {image["file"] for image in hardest} <= set(names)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_every_look_takes_names_that_are_no_text(tmp_path: Path, digits_folder: Path, cache: Path) -> None:
    classes = (b"caf\xe9", b"_\xff$x$", b"t\nea")
    for place, name in enumerate(classes):
        for part, count in ((b"train", 5), (b"val", 3)):
            folder = os.path.join(os.fsencode(tmp_path), b"d\xe9ta", part, name)  # noqa: PTH118 (bytes)
            os.makedirs(folder)  # noqa: PTH103
            for i in range(count):
                image = Image.open(digits_folder / "train_10" / f"{place}_{i + (5 if part == b'val' else 0)}.png")
                image.save(os.fsdecode(os.path.join(folder, b"a\xff_%d.png" % i)))  # noqa: PTH118
    (tmp_path / "two.toml").write_text(TWO)
    data = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"d\xe9ta"))  # noqa: PTH118
    assert any("\udcff" in name for name in readers.read(data).files)
    run = train(tmp_path / "two.toml", data, (), Options(out=tmp_path / "run", cache=cache, device="cpu"))
    found = explain(run, device="cpu")
    assert not found.failed
    for name in task_of(run.recipe).sections():
        for path in (run.path / "explained").glob(f"{name}.json"):
            path.read_text(encoding="utf-8").encode()
    text = report(run).read_text(encoding="utf-8")
    assert "caf\N{REPLACEMENT CHARACTER}" in text and "of d\N{REPLACEMENT CHARACTER}ta to tell 3 classes apart" in text
    assert explain(run, ("gradcam",), given={"gradcam": {"images": [subject_of(run).names[0]]}}).pictures


def test_names_in_the_datas_folder_stay_as_they_are() -> None:
    files = ["train/a/1.png", "val/b..c/2 3.png", "~x/1.png", "é.png"]
    assert travelling(files, "/home/someone/data") == files


@pytest.mark.parametrize(
    ("files", "root", "shown"),
    [
        (["/data/set/a/1.png", "/data/set/b/1.png"], "/home/me/list.csv", ["a/1.png", "b/1.png"]),
        (["/data/set/a/1.png", "../set/b/1.png"], "/data/lists/list.csv", ["a/1.png", "b/1.png"]),
        (["/data/set/a/1.png", "b/1.png"], "/data/set/list.CSV", ["a/1.png", "b/1.png"]),
        (["../x/1.png", "2.png"], "/srv/data/set", ["x/1.png", "set/2.png"]),
        (["/home/me/a/1.png", "/mnt/disk/b/1.png"], "/x/list.csv", ["a/1.png", "b/1.png"]),
        (["/home/me/a/1.png", "/home/you/2.png"], "/x/list.csv", ["1.png", "2.png"]),
        (["C:/Users/me/a/1.png", "C:\\Users\\me\\2.png"], "C:/x/list.csv", ["a/1.png", "2.png"]),
        (["C:/a/1.png", "D:/b/1.png"], "C:/x/list.csv", ["a/1.png", "b/1.png"]),
        (["/a/b/\udcff\n.png"], "/a/list.csv", ["\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.png"]),
    ],
)
def test_files_elsewhere_are_named_by_what_they_have_in_common(files: list[str], root: str, shown: list[str]) -> None:
    assert travelling(files, root) == shown


def test_last_parts_are_as_many_as_it_takes() -> None:
    assert last_parts(["/a/x/w.pt", "/b/x/w.pt", "/a/x/w.pt"]) == ["a/x/w.pt", "b/x/w.pt", "a/x/w.pt"]
    assert last_parts(["/a/x", "/b/a/x"]) == ["a/x", "b/a/x"] and last_parts(["/w.pt"]) == ["w.pt"]
    assert last_parts([]) == []


def test_sentences_lose_the_folders_of_the_machine() -> None:
    text = (
        'can\'t read "/srv/two words/x.png" (/root/.cache/octavo/y.bin), C:\\Users\\me\\z.txt: '
        "and/or 3/4; see /etc/passwd."
    )
    found = without_machine(text, {"/srv/two words/x.png": "x.png"}, ["/root/.cache", "/"])
    assert found == 'can\'t read "x.png" (.cache/octavo/y.bin), z.txt: and/or 3/4; see passwd'
    assert without_machine("https://a.org/b/c stays", {}, []) == "https://a.org/b/c stays"


def test_what_is_no_character_is_replaced() -> None:
    assert displayable("a\udce9b\x00\u2028c") == "a\N{REPLACEMENT CHARACTER}b" + 2 * "\N{REPLACEMENT CHARACTER}" + "c"
    assert displayable("日本\u200c語 é") == "日本\u200c語 é"
