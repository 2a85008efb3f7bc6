"""Scores of prediction files: against scikit-learn, in every way to name images and labels, and all refusals."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score

from octavo.data.samples import Samples
from octavo.errors import UserError
from octavo.numbers.tables import score_tables
from octavo.tasks.classification.prediction_rows import read_rows
from octavo.tasks.classification.score import score

ANIMALS = ("cat", "dog", "owl")


def truth(
    files: Sequence[str], labels: Sequence[int], classes: Sequence[str] = ANIMALS, val: int | None = 0
) -> Samples:
    """Samples whose images from index `val` on are the val split; `None`: without a split."""
    everything = np.arange(len(files))
    splits = {"train": everything} if val is None else {"train": everything[:val], "val": everything[val:]}
    return Samples(
        "DATA", "folders", tuple(files), np.array(labels, np.int64), tuple(classes), splits, own_split=val is not None
    )


def written(path: Path, rows: Iterable[Sequence[object]], header: Sequence[str] = ("image_id", "label")) -> Path:
    """The path of a CSV file with these rows."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    file = path / "out.csv"
    file.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))
    return file


FOUR = truth(["val/cat/1.png", "val/cat/2.png", "val/dog/3.png", "val/owl/4.png"], [0, 0, 1, 2])


def test_numbers_equal_scikit_learn(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 3, 300), random.integers(0, 3, 300)
    predicted[:200] = labels[:200]
    names = [f"val/{i}.png" for i in range(300)]
    rows = [(name, ANIMALS[p]) for name, p in zip(names, predicted, strict=True)]
    random.shuffle(rows)
    found = score(written(tmp_path, rows), truth(names, labels.tolist()), replicates=200)
    right = int((labels == predicted).sum())
    wilson = binomtest(right, 300).proportion_ci(method="wilson")
    assert (found.n, found.correct, found.missing, found.split) == (300, right, 0, "val")
    assert found.accuracy.value == pytest.approx(right / 300, abs=1e-9)
    # With many hits and misses a bootstrap's, as in an evaluation, and close to Wilson's.
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((wilson.low, wilson.high), abs=0.01)
    assert found.macro_f1.value == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-9)
    assert found.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(labels, predicted), abs=1e-9)
    assert found.majority == pytest.approx(np.bincount(labels).max() / 300, abs=1e-9)
    assert [r.support for r in found.per_class] == np.bincount(labels).tolist()
    assert found.to_json() == score(written(tmp_path, rows), truth(names, labels.tolist()), replicates=200).to_json()


@pytest.mark.parametrize(
    ("ids", "way"),
    [
        (["val/cat/1.png", "val/cat/2.png", "val/dog/3.png", "val/owl/4.png"], "path"),
        (["./val/cat/1.png", "./val/cat/2.png", "./val/dog/3.png", "./val/owl/4.png"], "path"),
        ([f"/home/me/data/val/{x}.png" for x in ("cat/1", "cat/2", "dog/3", "owl/4")], "path"),
        ([f"val\\{x}.png" for x in ("cat\\1", "cat\\2", "dog\\3", "owl\\4")], "path"),
        (["cat/1.png", "cat/2.png", "dog/3.png", "owl/4.png"], "end of path"),
        (["other/cat/1.png", "other/cat/2.png", "other/dog/3.png", "other/owl/4.png"], "end of path"),
        (["1.png", "2.png", "3.png", "4.png"], "name"),
        (["images/1.png", "images/2.png", "images/3.png", "images/4.png"], "name"),
    ],
)
def test_ways_to_name_images(tmp_path: Path, ids: list[str], way: str) -> None:
    found = score(written(tmp_path, zip(ids, ["cat", "dog", "dog", "owl"], strict=True)), FOUR, replicates=20)
    assert found.correct == 3 and found.matched_by == {way: 4}


@pytest.mark.parametrize(
    "name", ["a,b.png", 'a "b".png', "=1+1.png", " a .png", "né.png", "日本.png", "a\nb.png", "x\udcff.png"]
)
def test_awkward_file_names(tmp_path: Path, name: str) -> None:
    assert score(written(tmp_path, [(name, "dog")]), truth([f"val/{name}"], [1]), replicates=20).correct == 1


def test_composed_and_decomposed_names_are_the_same(tmp_path: Path) -> None:
    data = truth(["val/né.png"], [0], ["café", "b"])
    assert score(written(tmp_path, [("ne\u0301.png", "cafe\u0301")]), data, replicates=20).correct == 1


def test_byte_order_mark_extra_columns_blank_lines_and_column_order(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    lines = ["confidence, Label ,image_id", ".9,cat,1.png", "", ".8, dog ,2.png", ".7,dog,3.png", ".1,owl,4.png", ""]
    file.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    found = score(file, FOUR, replicates=20)
    assert found.correct == 3
    assert [row.line for row in read_rows(file)] == [2, 4, 5, 6]


def test_lines_of_rows_behind_a_field_of_two_lines(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.write_text('image_id,label\n"a\nb.png",cat\nc.png,dog\n')
    assert [(row.line, row.image) for row in read_rows(file)] == [(2, "a\nb.png"), (4, "c.png")]


def test_labels_are_names_first_then_ids(tmp_path: Path) -> None:
    ids = ["1.png", "2.png", "3.png", "4.png"]
    by_id = score(written(tmp_path, zip(ids, [0, 1, 1, 2], strict=True)), FOUR, replicates=20)
    assert by_id.correct == 3 and by_id.labels_as == "ids"
    # names that are numbers are names: "0" is the class called 0, which has id 2 here
    data = truth(FOUR.files, [0, 0, 1, 2], ["2", "1", "0"])
    by_name = score(written(tmp_path, zip(ids, [2, 2, 1, 0], strict=True)), data, replicates=20)
    assert by_name.correct == 4 and by_name.labels_as == "names"


def test_numbers_that_are_not_among_numeric_names_are_refused(tmp_path: Path) -> None:
    data = truth(FOUR.files, [0, 0, 1, 2], ["10", "20", "30"])
    file = written(tmp_path, zip(["1.png", "2.png", "3.png", "4.png"], [0, 1, 10, 2], strict=True))
    with pytest.raises(UserError, match=r'3 of 4 labels are no class names: line 2 "0"'):
        score(file, data)


def test_images_matched_by_name_in_other_folders_are_told(tmp_path: Path) -> None:
    data = truth(["val/cat/1.png", "val/dog/2.png"], [0, 1], ["cat", "dog"])
    crossed = written(tmp_path, [("dog/1.png", "cat"), ("cat/2.png", "dog")])
    told = [text for text in score(crossed, data, replicates=20).warnings if "matched by name alone" in text]
    assert len(told) == 1 and told[0].startswith("2 image ids name another folder") and 'line 2 "dog/1.png"' in told[0]
    for rows in ([("1.png", "cat"), ("2.png", "dog")], [("cat/1.png", "cat"), ("x/val/dog/2.png", "dog")]):
        assert not any("name alone" in text for text in score(written(tmp_path, rows), data, replicates=20).warnings)


def test_classes_that_the_truth_lacks_are_taken_where_asked(tmp_path: Path) -> None:
    """By the same macro F1 as scikit-learn's, in which such a class has 0."""
    rows = [("1.png", "cat"), ("2.png", "fox"), ("3.png", "dog"), ("4.png", "cat")]
    file = written(tmp_path, rows)
    with pytest.raises(UserError, match=r'1 of 4 labels are no class names: line 3 "fox".*; .*--extra-classes'):
        score(file, FOUR)
    found = score(file, FOUR, replicates=20, extra_classes=True)
    words, right = [label for _, label in rows], ["cat", "cat", "dog", "owl"]
    assert found.macro_f1.value == pytest.approx(f1_score(right, words, average="macro", zero_division=0), abs=1e-9)
    assert [(row.name, row.support) for row in found.per_class] == [("cat", 2), ("dog", 1), ("owl", 1), ("fox", 0)]
    numbers = written(tmp_path, [(f"{i}.png", "7") for i in range(1, 5)])
    with pytest.raises(UserError, match="labels are no class ids"):
        score(numbers, FOUR, extra_classes=True)
    blank = written(tmp_path, [(f"{i}.png", "cat") for i in range(1, 5)])
    found = score(blank, replace(FOUR, classes=(" cat", "dog", "owl")), replicates=20, extra_classes=True)
    assert [row.name for row in found.per_class] == [" cat", "dog", "owl", "cat"]
    for label in ("dgo", "7"):  # a typing error, and an id that is none
        mistaken = written(tmp_path, [("1.png", "cat"), ("2.png", label)])
        with pytest.raises(UserError) as caught:
            score(mistaken, FOUR)
        assert "--extra-classes" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("1.png", "cat"), ("9.png", "cat")], r'1 of 2 image ids are unknown: line 3 "9\.png"; .*val/cat/1\.png'),
        ([("1.png", "cat"), ("cat/1.png", "cat")], r'1 of 2 image ids come twice: line 3 "cat/1\.png"'),
        ([("1.png", "cat"), ("2.png", "dgo")], r'1 of 2 labels are no class names: line 3 "dgo"; did you mean "dog"'),
        ([("1.png", "0"), ("2.png", "3")], r'1 of 2 labels are no class ids: line 3 "3"; expected 0 to 2'),
        ([("1.png", "0"), ("2.png", "cat")], r'1 of 2 labels are no class names: line 2 "0"'),
        ([("1.png", "-1")], r'labels are no class names: line 2 "-1"'),
        ([("1.png", "cat"), ("", "cat")], r"line 3: image_id is empty"),
        ([("1.png", "cat"), ("2.png",)], r"line 3: label is empty"),
        ([("1.png", "cat")], r'3 of 4 images of val have no prediction, first "val/cat/2\.png"'),
        ([], r"no predictions under the header"),
        ([(f"{i}.jpg", "cat") for i in range(9)], r'9 of 9 image ids are unknown: .*line 4 "2\.jpg", …;'),
    ],
)
def test_refused_rows(tmp_path: Path, rows: list[tuple[str, ...]], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        score(written(tmp_path, rows), FOUR)
    assert "\n" not in str(caught.value) and "out.csv" in str(caught.value)


def test_an_id_that_fits_two_images_is_refused(tmp_path: Path) -> None:
    data = truth(["val/cat/1.png", "val/dog/1.png"], [0, 1])
    with pytest.raises(UserError, match=r'2 of 2 image ids fit several images: line 2 "1\.png", line 3 "x/1\.png"'):
        score(written(tmp_path, [("1.png", "cat"), ("x/1.png", "dog")]), data)
    assert score(written(tmp_path, [("cat/1.png", "cat"), ("dog/1.png", "dog")]), data, replicates=20).correct == 2


def test_images_of_another_split_are_not_taken_for_those_of_the_same_name(tmp_path: Path) -> None:
    data = truth(["train/cat/1.png", "val/cat/1.png"], [0, 0], val=1)
    with pytest.raises(UserError, match=r"1 of 1 image ids belong to another split: line 2"):
        score(written(tmp_path, [("train/cat/1.png", "cat")]), data)
    assert score(written(tmp_path, [("cat/1.png", "cat")]), data, replicates=20).matched_by == {"end of path": 1}
    assert score(written(tmp_path, [("train/cat/1.png", "cat")]), data, split="train", replicates=20).n == 1


def test_missing_predictions_can_count_as_wrong(tmp_path: Path) -> None:
    found = score(written(tmp_path, [("1.png", "cat"), ("3.png", "dog")]), FOUR, missing="wrong", replicates=20)
    assert (found.n, found.correct, found.missing) == (4, 2, 2)
    # class by class 2·TP/(support + called): 2/3, 1, 0
    assert found.macro_f1.value == pytest.approx((2 / 3 + 1 + 0) / 3, abs=1e-9)
    with pytest.raises(UserError, match="missing: unknown"):
        score(written(tmp_path, [("1.png", "cat")]), FOUR, missing="ignore")  # pyright: ignore[reportArgumentType]


def test_splits(tmp_path: Path) -> None:
    whole = truth(["a.png", "b.png"], [0, 1], val=None)
    rows = [("a.png", "cat"), ("b.png", "cat")]
    found = score(written(tmp_path, rows), whole, replicates=20)
    assert (found.split, found.n, found.correct) == ("all", 2, 1)
    assert found.rule.startswith("Scored on the 2 labelled images of the whole truth. Accuracy")
    parted = truth(["a.png", "b.png"], [0, 1], val=1)
    assert score(written(tmp_path, rows), parted, split="all", replicates=20).n == 2
    with pytest.raises(UserError, match='unknown "vall"; did you mean "val"'):
        score(written(tmp_path, rows), parted, split="vall")


@pytest.mark.parametrize(
    ("val", "split", "scored"),
    [
        (None, None, "scored on all images; "),
        (1, "all", "scored on all images; "),
        (1, "train", "scored on training images; "),
        (1, None, None),
        (1, "val", None),
    ],
)
def test_images_that_may_have_been_trained_on_are_told(
    tmp_path: Path, val: int | None, split: str | None, scored: str | None
) -> None:
    data = truth(["a.png", "b.png"], [0, 0], val=val, classes=["cat"])
    rows = [(f, "cat") for f in ("a.png", "b.png") if split != "train" or f == "a.png"]
    rows = rows[1:] if scored is None else rows
    found = score(written(tmp_path, rows), data, split=split, replicates=20)
    flattered = [w for w in found.warnings if "flattered" in w]
    if scored is None:
        assert not flattered
    else:
        assert flattered == [f"{scored}if some of them were trained on, the score is flattered"]


@pytest.mark.parametrize(
    "header",
    [
        "image,label",
        "file,class",
        "Path,Label",
        "filename,class",
        "image_id,label,image,class",
        "label,extra,file",
        "Image Path,Target",
    ],
)
def test_columns_may_be_called_as_in_training(tmp_path: Path, header: str) -> None:
    """Failed before for all but `image_id` and `label`."""
    names = header.lower().split(",")
    image = next(n for n in ("image_id", "image", "file", "filename", "path", "image path") if n in names)
    label = next(n for n in ("label", "class", "target") if n in names)
    file = tmp_path / "out.csv"
    cells = [{image: f"val/{k}/{i}.png", label: k} for i, k in enumerate(("cat", "cat", "dog", "owl"), 1)]
    rows = [",".join(own.get(name, "else") for name in names) for own in cells]
    file.write_text("\n".join([header, *rows]) + "\n")
    assert score(file, FOUR, replicates=20).correct == 4


def test_a_folder_of_another_split_is_refused(tmp_path: Path) -> None:
    """Failed before: the file name alone was matched."""
    data = truth(["data/train/a/1.png", "data/val/b/1.png"], [0, 1])
    data = replace(data, splits={"train": np.array([0]), "val": np.array([1])})
    with pytest.raises(UserError, match="1 of 1 image ids belong to another split"):
        score(written(tmp_path, [("a/1.png", "cat")]), data, replicates=20)
    found = score(written(tmp_path, [("b/1.png", "cat")]), data, replicates=20)
    assert found.matched_by == {"end of path": 1}
    found = score(written(tmp_path, [("c/1.png", "cat")]), data, replicates=20)
    assert found.matched_by == {"name": 1} and any("another folder" in text for text in found.warnings)


def test_images_without_a_label_are_left_out_and_told(tmp_path: Path) -> None:
    data = truth(["a.png", "b.png"], [0, -1])
    found = score(written(tmp_path, [("a.png", "cat"), ("b.png", "cat")]), data, replicates=20)
    assert found.n == 1 and "1 image of val has no known label and is left out" in found.warnings
    two = truth(["a.png", "b.png", "c.png"], [0, -1, -1])
    rows = [(f, "cat") for f in two.files]
    assert "2 images of val have no known label and are left out" in score(written(tmp_path, rows), two).warnings
    assert any("2 of 3 classes" in w for w in found.warnings)
    with pytest.raises(UserError, match="no labelled image"):
        score(written(tmp_path, [("b.png", "cat")]), truth(["b.png"], [-1]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"line 1: .*found nothing"),
        (b"picture,animal\na.png,cat\n", r"found picture,animal"),
        (b"file,file,class\na.png,a.png,cat\n", r'one column "file"'),
        (b"image_id,label,label\na,b,c\n", r'one column "label"'),
        (b'image_id,label\n"a.png,cat\n', r"line 2: not CSV"),
        ("image_id,label\na.png,cat\n".encode("utf-16"), r"line 1: expected"),
    ],
)
def test_files_that_are_no_predictions(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "out.csv"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        score(file, FOUR)
    assert str(caught.value).isprintable()


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        score(tmp_path / "none.csv", FOUR)
    with pytest.raises(UserError, match="expected a CSV file"):
        score(tmp_path, FOUR)


def test_a_folder_in_the_form_of_the_reference(tmp_path: Path) -> None:
    for split, first in (("train_50", 0), ("val_50", 450)):
        (tmp_path / "data" / split).mkdir(parents=True)
        for label in (3, 17):
            for i in range(first, first + 2):
                Image.new("RGB", (4, 4)).save(tmp_path / "data" / split / f"{label}_{i}.png")
    rows = [("17_450.png", 17), ("17_451.png", 3), ("3_450.png", 3), ("3_451.png", 3)]
    found = score(written(tmp_path, rows), tmp_path / "data", replicates=20)
    assert (found.split, found.n, found.correct, found.labels_as) == ("val", 4, 3, "names")


def test_tables_of_a_score(tmp_path: Path) -> None:
    rows = [("1.png", "cat"), ("2.png", "cat"), ("3.png", "dog"), ("4.png", "dog")]
    console = Console(file=io.StringIO(), width=80)
    for table in score_tables(score(written(tmp_path, rows), FOUR, replicates=20)):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "3 of 4 right" in text and "0.7500 [0.3006, 0.9544]" in text and "owl" in text
