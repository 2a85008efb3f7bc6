"""What a command writes never destroys something else: every command that is told where to write."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from conftest import Octavo
from octavo import cli
from octavo.data.png import write_png
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.files import write_csv
from octavo.overwrite import RUN_FILES, RUN_FOLDERS, UNREADABLE, Kind, is_image, require_writable
from octavo.run import Run
from octavo.tasks.classification.prediction import TABLE
from octavo.tasks.segmentation.mask_targets import plan

OURS = Kind("note", lambda path: path.read_text() == "ours")

FILES = {
    "evaluate {run} --out": ".json",
    "predict {run} {images} --out": ".csv",
    "score {labels} --truth {truth} --out": ".json",
    "score {masks} --truth {scenes} --out": ".json",
    "report {run} {other} --out": ".html",
    "check {scenes} --write-classes": ".toml",
}
"""Commands that write a file where they are told."""
FOLDERS = {
    "predict {segmented} {scenes} --out",
    "train demo --data {images} --out",
    "distil {run} --student squeeze --out",
    "reproduce {run} --out",
    "weights pack quick",
    "demo --out",
}
"""Commands that write a folder where they are told."""


def options_of(command: Any, words: tuple[str, ...] = ()) -> set[str]:
    """The names of all commands that are told where to write."""
    if hasattr(command, "commands"):
        return set().union(*(options_of(c, (*words, name)) for name, c in command.commands.items()))
    named = {option for parameter in command.params for option in parameter.opts}
    return {" ".join(words)} if named & {"--out", "--write-classes"} else set()


def test_every_command_that_is_told_where_to_write_is_tried_here() -> None:
    tried = {line.split(" {")[0].split(" --")[0].removesuffix(" demo") for line in {*FILES, *FOLDERS}}
    assert options_of(typer.main.get_command(cli.app)) == tried - {"weights pack quick"} | {"demo"}


@pytest.fixture
def places(
    trained: RunFolder, segmented: RunFolder, digits_folder: Path, scenes_folder: Path, tmp_path: Path
) -> dict[str, Path]:
    run, scenes = tmp_path / "run", tmp_path / "segmented"
    shutil.copytree(trained.path, run)
    shutil.copytree(segmented.path, scenes)
    shutil.copytree(run, tmp_path / "other")
    (tmp_path / "masks").mkdir()
    write_csv(tmp_path / "labels.csv", [{"image_id": "0_16.png", "label": "0"}])
    return {
        "run": run,
        "other": tmp_path / "other",
        "segmented": scenes,
        "images": digits_folder,
        "truth": digits_folder,
        "scenes": scenes_folder,
        "masks": tmp_path / "masks",
        "labels": tmp_path / "labels.csv",
    }


def make(kind: str, tmp_path: Path, run: Path, suffix: str) -> Path:
    """Something that must not be replaced, of one kind."""
    path = tmp_path / f"there{suffix}"
    match kind:
        case "foreign":
            path.write_text("image_id,label,reviewer\na.png,cat,me\n")
        case "image":
            path = tmp_path / f"photo{suffix}"
            Image.new("RGB", (3, 3)).save(path, format="JPEG")
        case "link to an image":
            Image.new("RGB", (3, 3)).save(tmp_path / "photo.jpg")
            path.symlink_to("photo.jpg")
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(path))
        case "device":
            path.symlink_to(os.devnull)
        case "folder":
            path.mkdir()
        case "of a run":
            return run / "samples.csv"
        case "below a file":
            (tmp_path / "file").write_text("x")
            return tmp_path / "file" / f"x{suffix}"
    return path


@pytest.mark.parametrize(
    "kind", ["foreign", "image", "link to an image", "fifo", "socket", "device", "folder", "of a run", "below a file"]
)
def test_files_are_refused_before_anything_is_computed(
    kind: str, places: dict[str, Path], tmp_path: Path, run_cli: Octavo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def computed(*_: object, **__: object) -> None:
        pytest.fail("something was computed")

    for place in ("tasks.classification.evaluation.evaluate", "tasks.classification.predictor.ClassPredictor",
                  "tasks.classification.score.score", "tasks.segmentation.score.score_masks", "verbs.compare.compared",
                  "tasks.segmentation.check.report_on"):  # fmt: skip
        monkeypatch.setattr(f"octavo.{place}", computed)
    for number, (line, suffix) in enumerate(FILES.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        out = make(kind, folder, places["run"], suffix)
        before = out.read_bytes() if out.is_file() and not out.is_char_device() else None
        for more in ([], ["--overwrite"]) if kind != "foreign" else ([],):
            words = [word.format(**places) for word in line.split()]
            code, shown, err = run_cli(*words, out, *more)
            assert (code, shown, err.count("\n")) == (2, "", 1), (line, err)
            assert err.startswith(f"error: {words[-1]} {out}: ") and (
                "choose" in err or "expected" in err or "not a" in err
            )
        assert before is None or out.read_bytes() == before
        assert kind != "link to an image" or out.is_symlink()


def test_masks_land_on_nothing_but_masks(places: dict[str, Path], tmp_path: Path, run_cli: Octavo) -> None:
    images, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(places["scenes"] / "validation", images)
    command = ["predict", places["segmented"], images, "--device", "cpu", "--out"]
    others = places["segmented"] / "masks", places["segmented"] / "members" / "new", images
    for place in others:
        code, _, err = run_cli(*command, place)
        assert code == 2 and ("belongs to the run" in err or "holds images that are predicted" in err), err
    assert run_cli(*command, out)[0] == 0 and run_cli(*command, out)[0] == 0  # its own masks are replaced
    truth = out / "0000_sat.png"
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(truth)
    before = truth.read_bytes()
    code, _, err = run_cli(*command, out)
    assert code == 2 and f"{truth}: is there already, and is no mask of ours" in err and truth.read_bytes() == before
    assert run_cli(*command, out, "--overwrite")[0] == 0 and truth.read_bytes() != before
    (out / "0000_sat_overlay.png").write_bytes(before)
    assert run_cli(*command, out, "--overlay", 0.5)[0] == 2
    (out / "0000_sat_overlay.png").unlink()
    (out / "errors.csv").write_text("my,own\n1,2\n")
    assert run_cli(*command, out)[0] == 2 and (out / "errors.csv").read_text() == "my,own\n1,2\n"
    assert run_cli(*command, out, "--overwrite")[0] == 0 and (out / "errors.csv").is_file()


def test_masks_never_replace_images_that_a_run_learned_from(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("data/a.png", "b/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (3, 3)).save(tmp_path / name)
    with pytest.raises(UserError, match="is there already"):
        plan([tmp_path / "b"], tmp_path / "data", data=tmp_path / "data")


def test_predictions_replace_predictions_and_nothing_else(
    places: dict[str, Path], tmp_path: Path, run_cli: Octavo
) -> None:
    images = tmp_path / "some"
    images.mkdir()
    shutil.copy(next(places["images"].rglob("*.png")), images / "a.png")
    found = Run(places["run"], "cpu").predict(images)
    for name in ("out.csv", "new/out.csv"):
        found.write(tmp_path / name)
        found.write(tmp_path / name, probabilities=True)
        found.write(tmp_path / name)
    (tmp_path / "link.csv").symlink_to("out.csv")
    (tmp_path / "out.csv").write_text("image_id,label\n")
    found.write(tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink() and len((tmp_path / "out.csv").read_text().splitlines()) == 2
    before = (images / "a.png").read_bytes()
    for place in (images / "a.png", places["run"] / "predictions" / "val.csv", tmp_path / "x.jpg", "/dev/full"):
        with pytest.raises(UserError, match=r"image|belongs to the run|device"):
            found.write(place, overwrite=True)
    assert (images / "a.png").read_bytes() == before
    (tmp_path / "out.errors.csv").write_text("line,error\n1,2\n")
    with pytest.raises(UserError, match=r"out\.errors\.csv: is there already, and is no list of files"):
        found.write(tmp_path / "out.csv")
    found.write(tmp_path / "out.csv", overwrite=True)  # there is no error to list, so the other file stays
    assert (tmp_path / "out.errors.csv").read_text() == "line,error\n1,2\n"


def test_a_table_among_the_images_of_training_may_be_the_truth(trained: RunFolder, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_csv(data / "labels.csv", [{"image_id": "a.png", "label": "0"}])
    write_csv(tmp_path / "mine.csv", [{"image_id": "a.png", "label": "0"}])
    with pytest.raises(UserError, match="lies among the data, so it may be no prediction but the truth"):
        require_writable(data / "labels.csv", TABLE, data=[data])
    with pytest.raises(UserError, match="is read by this command"):
        require_writable(tmp_path / "mine.csv", TABLE, inputs=[tmp_path / "mine.csv"], overwrite=True)


@pytest.mark.parametrize("line", sorted(FOLDERS))
def test_folders_are_refused_before_anything_is_computed(
    line: str, places: dict[str, Path], tmp_path: Path, run_cli: Octavo
) -> None:
    words = [word.format(**places) for word in line.split()]
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "file", tmp_path / "pipe", Path(os.devnull), tmp_path / "file" / "below"):
        code, _, err = run_cli(*words, place)
        assert code == 2 and err.splitlines()[-1].startswith("error: ") and str(place) in err.splitlines()[-1]
        assert "Traceback" not in err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_finished_run_holds_what_runs_hold(trained: RunFolder, segmented: RunFolder) -> None:
    for run in (trained, segmented):
        assert {path.name for path in run.path.iterdir()} <= {*RUN_FILES, *RUN_FOLDERS}


def test_overwriting_a_run_deletes_nothing_else(places: dict[str, Path], tmp_path: Path) -> None:
    (places["run"] / "notes.md").write_text("months")
    with pytest.raises(UserError, match=r"notes\.md: is no file of a run, and --overwrite would delete it"):
        RunFolder.new(places["run"], overwrite=True)
    extension = tmp_path / "extension"
    extension.mkdir()
    (extension / "manifest.json").write_text('{"manifest_version": 3}')
    with pytest.raises(UserError, match=r"has no recipe\.toml, so it may be no run"):
        RunFolder.new(extension, overwrite=True)
    assert RunFolder.new(places["other"], overwrite=True).begun
    with pytest.raises(UserError, match="belongs to the run"):
        RunFolder.new(places["other"] / "members" / "x")


@pytest.mark.parametrize(("content", "expected"), [("ours", True), ("", True), ("theirs", False)])
def test_what_octavo_wrote_and_empty_files_are_replaced(content: str, expected: bool, tmp_path: Path) -> None:
    path: Path = tmp_path / "a.txt"
    path.write_text(content)
    refused: Callable[[], object] = lambda: require_writable(path, OURS)  # noqa: E731
    if expected:
        assert refused() == path
    else:
        with pytest.raises(UserError, match="is there already, and is no note; choose another name, or --overwrite"):
            refused()
    assert require_writable(path, OURS, overwrite=True) == path


def test_links_in_a_circle_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UserError, match=r"--out .*a: "):
        require_writable(tmp_path / "a", OURS)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
def test_images_are_known_by_their_first_bytes(format: str, tmp_path: Path) -> None:
    if f".{format.lower()}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow writes no {format}")
    Image.new("RGB", (4, 4)).save(tmp_path / "x", format=format)
    assert is_image(tmp_path / "x") and not UNREADABLE.wrote(tmp_path / "x")


def test_masks_do_not_land_among_foreign_images(tmp_path: Path) -> None:
    for folder, name in (("in", "a"), ("photos", "b")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / folder / f"{name}.png")
    with pytest.raises(UserError, match=r"holds images that are no masks of ours \(b.png\)"):
        plan([tmp_path / "in"], tmp_path / "photos")
    assert plan([tmp_path / "in"], tmp_path / "photos", overwrite=True)
    with (tmp_path / "photos" / "b.png").open("wb") as file:
        write_png(file, [np.zeros((4, 4, 3), np.uint8)], 4, 4)
    assert plan([tmp_path / "in"], tmp_path / "photos")
