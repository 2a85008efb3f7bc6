"""Corrected labels: what a CSV file changes, what it is refused for, and what a run that is trained with it says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import Octavo
from octavo.data.corrections import beware_of, corrected, filled_in
from octavo.data.readers import read
from octavo.data.samples import Samples
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.files import read_csv, write_csv
from octavo.looks.suspects import LIST
from octavo.options import Options
from octavo.tasks.classification.check import check
from octavo.verbs.explain import explain
from octavo.verbs.training import train
from octavo.words import counted

FILES = ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "train/dog/2.png", "train/dog/3.png", "val/dog/1.png")
QUICK = """\
name = "one"
data = {size = 32, resize = "stretch", stored = 32, normalize = "none", holdout = 0.25%s}
train = {epochs = 1, batch_size = 40, mode = "frozen", optimizer = "adam", lr = 1e-3}
[[members]]
name = "squeeze"
backbone = "squeezenet1_1"
weights = "none"
"""


@pytest.fixture
def samples() -> Samples:
    labels = np.array([0, 0, 1, 1, 1, 1], np.int64)
    splits = {"train": np.arange(5), "val": np.array([5])}
    return Samples("pets", "split-folders", FILES, labels, ("cat", "dog"), splits, True)


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "corrected.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_labels_are_changed_and_images_dropped(samples: Samples, tmp_path: Path) -> None:
    text = "file,corrected\ntrain/cat/1.png,dog\ntrain/dog/3.png,-\ntrain/dog/1.png,\nval/dog/1.png,cat\n"
    right, found = corrected(samples, table(tmp_path, text))
    assert right.labels.tolist() == [1, 0, 1, 1, 1, 0]
    assert {split: places.tolist() for split, places in right.splits.items()} == {"train": [0, 1, 2, 3], "val": [5]}
    assert (right.files, right.classes) == (samples.files, samples.classes)
    assert samples.labels.tolist() == [0, 0, 1, 1, 1, 1] and samples.splits["train"].tolist() == [0, 1, 2, 3, 4]
    assert found.given == {0: "cat", 4: "dog", 5: "dog"} and found.dropped == (4,)
    assert found.words == (
        "2 labels corrected, 1 image dropped, by corrected.csv (among them 1 label of val corrected, 0 images dropped)"
    )
    assert [problem.text for problem in right.problems] == [found.words] and not right.problems[0].fatal
    facts = json.loads(json.dumps(found.facts()))
    assert facts["changed"] == {"train": 1, "val": 1} and facts["dropped"] == {"train": 1}
    assert facts["file"] == str(tmp_path / "corrected.csv") and len(facts["sha256"]) == 64


@pytest.mark.parametrize(
    "text",
    [
        "file,label\ntrain/cat/1.png,dog\n",
        "image_id,class\ntrain/cat/1.png,dog\n",
        "\ufeffFile;Corrected;self_confidence\r\ntrain/cat/1.png; dog ;0,01\r\n;;\r\n",  # as spreadsheets write it
        "file\tcorrected\ntrain/cat/1.png\tdog\n",
        "file,label,corrected\n./train/cat/1.png,cat,dog\ntrain/dog/2.png,dog,\ntrain/cat/2.png,cat,cat\n",
        'part,corrected,file\nfit,dog,train/cat/1.png\nfit,dog,"train/cat/1.png"\nfit,,train/cat/1.png\n',
    ],
)
def test_forms_of_a_list(samples: Samples, tmp_path: Path, text: str) -> None:
    right, found = corrected(samples, table(tmp_path, text))
    assert right.labels.tolist() == [1, 0, 1, 1, 1, 1] and dict(found.changed) == {"train": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corrected\ndog\n", r'line 1: no column "file" in the header corrected; expected file,corrected'),
        ("file,wrong\na,b\n", r'line 1: no column "corrected" in the header file,wrong'),
        ("", r'line 1: no column "file"'),
        ("file,corrected\ntrain/cat/9.png,dog\n", r'line 2: no image "train/cat/9.png" in pets; paths are as in'),
        ("file,corrected\ncat/2.png,dog\n", r'line 2: no image "cat/2.png" in pets; did you mean "train/cat/2.png"\?'),
        ("file,corrected\n,dog\n", r'line 2: no image "" in pets'),
        ("file,corrected\ntrain/cat/1.png,dgo\n", r'line 2: unknown class "dgo"; did you mean "dog"\?'),
        ("file,corrected\ntrain/cat/1.png,dog\n\ntrain/cat/1.png,-\n",
         r'line 4: "train/cat/1.png" is "-" here and "dog" in line 2; keep one'),
        ("file,label,corrected\ntrain/cat/1.png,dog,\n", r'line 2: label is "dog", but train/cat/1.png has "cat"'),
        ("file,corrected\ntrain/cat/1.png,\n", r"nothing is filled in; write a class, or - to drop the image"),
        ("file,corrected\ntrain/cat/1.png,dog,x\n", r"line 2: 3 fields, expected 2"),
        ("file,label\ntrain/cat/1.png,dog\ntrain/cat/2.png,-\n", r'class "cat" is left without training images'),
    ],
)  # fmt: skip
def test_what_is_refused(samples: Samples, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        corrected(samples, table(tmp_path, text))
    assert str(error.value).startswith(str(tmp_path / "corrected.csv")) and "\n" not in str(error.value)


def test_another_encoding_is_named(samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 2: unknown class .*; the file isn't UTF-8: save it as such"):
        corrected(samples, table(tmp_path, "file,corrected\ntrain/cat/1.png,chien réel\n", "cp1252"))
    with pytest.raises(UserError, match=r"--labels .*: no such file or directory; expected a CSV"):
        corrected(samples, tmp_path / "none.csv")
    with pytest.raises(UserError, match=r"--labels .*: is a directory"):
        corrected(samples, tmp_path)


def test_names_of_files_that_are_no_unicode(samples: Samples, tmp_path: Path) -> None:
    odd = replace(samples, files=("train/cat/\udce9.png", *FILES[1:]))
    path = tmp_path / "corrected.csv"
    path.write_bytes(b"file,corrected\ntrain/cat/\xe9.png,dog\n")
    assert corrected(odd, path)[0].labels[0] == 1


def test_a_class_may_have_the_name_that_drops(samples: Samples, tmp_path: Path) -> None:
    right, found = corrected(replace(samples, classes=("-", "dog")), table(tmp_path, "file,label\ntrain/dog/1.png,-\n"))
    assert right.labels[2] == 0 and not found.dropped


def test_only_scores_on_corrected_labels_are_warned_of() -> None:
    data = {
        "labels": {"file": "/somewhere/c.csv", "sha256": "", "changed": {"train": 9, "val": 2}, "dropped": {"val": 1}}
    }
    (told,) = beware_of(data, "val")
    assert told.startswith("2 labels of val corrected, 1 image dropped, by c.csv: ") and "not comparable" in told
    assert not beware_of(data, "train") and not beware_of(data, "test") and not beware_of({}, "val")


# ── In a run ────────────────────────────────────────────────────────────────────────────────────────────────────────


def recipe(folder: Path, more: str = "") -> Path:
    path = folder / "one.toml"
    path.write_text(QUICK % more)
    return path


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> RunFolder:
    """A run that was trained with three labels corrected, one of validation, and two images dropped."""
    folder = tmp_path_factory.mktemp("fixed")
    rows = "train_10/3_0.png,8\ntrain_10/3_1.png,-\nval_10/5_16.png,6\nval_10/5_17.png,-\ntrain_10/0_0.png,1\n"
    labels = table(folder, f"file,corrected\n{rows}")
    options = Options(out=folder / "run", cache=folder / "cache", device="cpu", labels=labels, report=True)
    said: list[str] = []
    run = train(recipe(folder), digits_folder, (), options, say=said.append)
    assert (
        "note: 3 labels corrected, 2 images dropped, by corrected.csv (among them 1 label of val corrected, 1 image "
        "dropped)" in said
    )
    return run


def test_a_run_is_trained_and_scored_with_them(fixed: RunFolder, trained: RunFolder) -> None:
    rows = {row["file"]: row for row in fixed.samples()}
    assert {file: (row["label"], row["given"]) for file, row in rows.items() if row["given"]} == {
        "train_10/0_0.png": ("1", "0"),
        "train_10/3_0.png": ("8", "3"),
        "train_10/3_1.png": ("3", "3"),
        "val_10/5_16.png": ("6", "5"),
        "val_10/5_17.png": ("5", "5"),
    }
    assert [file for file, row in rows.items() if row["part"] == "unused"] == ["train_10/3_1.png", "val_10/5_17.png"]
    assert len(fixed.member("squeeze").outputs()["val"]) == len(fixed.labels("val")) == 39 == fixed.metrics.n
    facts = fixed.manifest["data"]["labels"]
    assert (facts["changed"], facts["dropped"]) == ({"train": 2, "val": 1}, {"train": 1, "val": 1})
    assert fixed.manifest["options"]["labels"] == facts["file"]
    assert any("1 label of val corrected, 1 image dropped, by corrected.csv" in text for text in fixed.metrics.warnings)
    assert "1 label of val corrected" in fixed.page.read_text(encoding="utf-8")
    # the parts are those of the same data without corrections
    plain = {row["file"]: row["part"] for row in trained.samples()}
    assert {file: row["part"] for file, row in rows.items() if row["part"] != "unused"}.items() <= plain.items()


def test_going_on_asks_for_the_same_labels(fixed: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    run = RunFolder.open(shutil.copytree(fixed.path, tmp_path / "run"))
    (run.member("squeeze").folder / "member.json").unlink()  # as if it were not trained yet
    labels = Path(run.manifest["options"]["labels"])
    again = train(None, None, (), Options(out=run.path, resume=True, device="cpu"))
    assert again.metrics == fixed.metrics
    other = tmp_path / "other.csv"
    shutil.copy(labels, other)
    train(None, None, (), Options(out=run.path, resume=True, device="cpu", labels=other))
    other.write_text("file,corrected\ntrain_10/3_0.png,8\n")
    with pytest.raises(UserError, match=r"--resume, but the corrected labels are others now \(.*other.csv, was .*corr"):
        train(None, None, (), Options(out=run.path, resume=True, device="cpu", labels=other))


def test_a_list_in_the_run_that_is_deleted_is_refused(fixed: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    run = RunFolder.open(shutil.copytree(fixed.path, tmp_path / "run"))
    options = Options(out=run.path, overwrite=True, labels=run.explained(LIST))
    with pytest.raises(UserError, match="lies in the run that --overwrite deletes; copy it elsewhere first"):
        train(recipe(tmp_path), digits_folder, (), options)
    assert run.begun


def test_a_runs_list_goes_all_the_way(fixed: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    run = RunFolder.open(shutil.copytree(fixed.path, tmp_path / "run"))
    path = run.explained(LIST)
    rows = read_csv(path)
    assert list(rows[0]) == [
        "file", "part", "label", "suggested", "self_confidence", "suggested_probability", "corrected",
    ]  # fmt: skip
    ranked = [row for row in rows if row["suggested"]]
    assert ranked and [float(row["self_confidence"]) for row in ranked] == sorted(
        float(row["self_confidence"]) for row in ranked
    )
    assert {row["part"] for row in ranked} <= {"val", "holdout"}
    # what the run was trained with is in it, so that the next list loses nothing
    assert filled_in(path) == filled_in(Path(run.manifest["options"]["labels"]))
    own = read(digits_folder)
    _, before = corrected(own, path)
    assert dict(before.changed) == {"train": 2, "val": 1} and dict(before.left_out) == {"train": 1, "val": 1}
    # a user fills in one more; the list stays as it is
    place = next(i for i, row in enumerate(rows) if not row["corrected"])
    rows[place]["corrected"] = rows[place]["suggested"]
    write_csv(path, rows)
    content, said = path.read_bytes(), []
    explain(run, ["suspects"], device="cpu", say=said.append)
    assert path.read_bytes() == content and said == [f"{path}: left as it is filled in; --labels {path} trains with it"]
    _, after = corrected(own, path)
    assert sum(after.changed.values()) == 4


def test_a_list_is_said_to_be_there(trained: RunFolder, tmp_path: Path) -> None:
    run, said = RunFolder.open(shutil.copytree(trained.path, tmp_path / "run")), []
    explain(run, ["suspects"], device="cpu", say=said.append)
    path = run.explained(LIST)
    count = counted(len(read_csv(path)), "suspicious label")
    assert said == [
        f"{path}: {count}; write the right class into its column corrected, or - to drop the image, "
        f"and train with --labels {path}"
    ]
    assert not filled_in(path) and f"explained/{LIST}" in run.explained("suspects.json").read_text()


def test_with_folds_the_split_is_that_of_the_data(digits_folder: Path, tmp_path: Path) -> None:
    from octavo.data.samples import Samples as Read
    from octavo.progress import silent
    from octavo.recipe import ClassifyRecipe, load
    from octavo.tasks.classification.data import prepare

    found = load(recipe(tmp_path, ", folds = 3"))
    assert isinstance(found, ClassifyRecipe)
    labels = table(tmp_path, "file,corrected\ntrain_10/3_0.png,8\ntrain_10/3_1.png,-\n")
    plain, fixed = (
        prepare(found, str(digits_folder), None, tmp_path / "cache", False, path, progress=silent)
        for path in (None, labels)
    )
    assert isinstance(fixed.samples, Read)
    np.testing.assert_array_equal(plain.folds, fixed.folds)
    place = fixed.samples.files.index("train_10/3_1.png")
    assert set(plain.parts["holdout"]) - set(fixed.parts["holdout"]) == {place}
    assert "given" not in plain.rows[0] and fixed.rows[place]["given"] == "3"


def test_the_command_line(run_cli: Octavo, digits_folder: Path, scenes_folder: Path, tmp_path: Path) -> None:
    labels = table(tmp_path, "file,corrected\ntrain_10/3_0.png,8\ntrain_10/3_1.png,-\n")
    code, out, _ = run_cli("check", digits_folder, "--labels", labels)
    assert code == 0 and "1 label corrected, 1 image dropped, by corrected.csv" in out
    assert check(digits_folder, labels=labels).counts["train"] == (16, 16, 16, 14, 16, 16, 16, 16, 17, 16)
    code, _, err = run_cli("check", scenes_folder, "--labels", labels)
    assert (code, err) == (2, "error: --labels: means nothing for images with masks; leave it away\n")
    bad = table(tmp_path, "file,corrected\ntrain_10/3_0.png,88\n")
    words = ["--data", digits_folder, "--out", tmp_path / "run", "--no-report", "--labels", bad]
    code, _, err = run_cli("train", recipe(tmp_path), *words)
    assert code == 2 and f'error: {bad}, line 2: unknown class "88"; did you mean "8"?' in err
    code, _, err = run_cli("train", "fcn8s", "--data", scenes_folder, "--out", tmp_path / "run", "--labels", bad)
    assert code == 2 and err.count("\n") == 1 and "is trained on masks" in err
    assert not (tmp_path / "run").exists()
