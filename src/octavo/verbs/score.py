"""A file of predictions, ours or another tool's, against the truth."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from natsort import natsorted
from numpy.typing import NDArray

from octavo.data.samples import Samples
from octavo.data.torchvision_data import read
from octavo.errors import UserError, lookup, suggest
from octavo.numbers.bootstrap import Bootstrap, group_ids
from octavo.numbers.grade import class_results
from octavo.numbers.grade_rule import absent_classes
from octavo.numbers.metrics import METRICS, accuracy_of, balanced_accuracy_of, macro_f1_of
from octavo.numbers.power import majority_warning
from octavo.numbers.results import Score, wilson
from octavo.words import counted

COLUMNS = ("image_id", "label")
_SHOWN = 3  # how many offending lines an error quotes
_AMBIGUOUS = -1
_WHOLE = re.compile(r"\d+")


@dataclass(frozen=True)
class Row:
    """One prediction and the line of the file it began in."""

    line: int
    image: str
    label: str


def score(
    predictions: str | Path,
    truth: str | Path | Samples,
    *,
    split: str | None = None,
    layout: str | None = None,
    missing: Literal["refuse", "wrong"] = "refuse",
    extra_classes: bool = False,
    seed: int = 0,
    replicates: int = 2000,
    level: float = 0.95,
) -> Score:
    """Return how predictions compare with the truth.

    An image id is matched to the image with that path (relative to the truth's folder), else to the one whose path ends
    with it, else to the one with its file name; more than one such image is an error. Labels are class names if all of
    them are; else class ids 0..C-1, if all are and no class name is a whole number.

    Args:
        predictions: a CSV file in UTF-8 with the columns `image_id` and `label`; others are not read.
        truth: a folder, CSV file or `torchvision:NAME`, or what was read from one.
        split: the part to score on; by default `val`, or everything where there is none.
        layout: the truth's layout, if it can't be found by looking.
        missing: what to do with images without prediction: `refuse`, or count them as `wrong`.
        extra_classes: labels that the truth lacks are classes without an image there, whose F1 is 0 in macro F1.
        seed: of the bootstrap for macro F1 and balanced accuracy.
        replicates: of the same.
        level: of all intervals.

    Raises:
        UserError: an unreadable file, unknown, ambiguous or doubled image ids, labels that are no class (with their
            lines), or missing predictions.
    """
    lookup({"refuse": 0, "wrong": 0}, missing, "missing")
    samples = truth if isinstance(truth, Samples) else read(truth, layout)
    if extra_classes:
        samples = replace(samples, classes=(*samples.classes, *_extra(Path(predictions), samples.classes)))
    part, name = _part(samples, split)
    scored = part[samples.labels[part] >= 0]
    predicted, facts = _answers(Path(predictions), samples, part, scored, name, missing)
    groups = group_ids([samples.groups[i] for i in scored]) if samples.groups else None
    boot = Bootstrap(samples.labels[scored], replicates, seed, level, groups=groups)
    numbers, counts = _numbers(predicted, samples, boot), np.bincount(boot.labels, minlength=len(samples.classes))
    beware = (*_warnings(boot, samples, part, name), *filter(None, [majority_warning(counts, numbers["accuracy"])]))
    words = {"rule": _rule(boot, name, facts["missing"]), "warnings": beware}
    return Score.model_validate(numbers | facts | words | {"split": name})


def _answers(
    path: Path, samples: Samples, part: NDArray[np.int64], scored: NDArray[np.int64], name: str, missing: str
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Return class ids [N] for the labelled images of a part, -1 for none, and what a Score says of how they came."""
    rows = read_rows(path)
    if not len(scored):
        raise UserError(f"{samples.root}: split {name} has no labelled image to score")
    images, matched = _matched(path, rows, samples, part, name)
    ids, labels_as = _ids(path, rows, samples.classes)
    answer = dict(zip(images, ids, strict=True))
    gone = [samples.files[i] for i in scored.tolist() if i not in answer]
    if gone and missing == "refuse":
        raise UserError(
            f'{path}: {len(gone):,} of {len(scored):,} images of {name} have no prediction, first "{_plain(gone[0])}"; '
            "add them, or ask for missing ones to be counted as wrong"
        )
    predicted = np.array([answer.get(i, -1) for i in scored.tolist()], np.int64)
    return predicted, {"missing": len(gone), "matched_by": matched, "labels_as": labels_as}


def _rule(boot: Bootstrap, name: str, gone: int) -> str:
    """Return how the numbers were made, in words."""
    images, part = counted(len(boot.labels), "labelled image"), "the whole truth" if name == "all" else f"split {name}"
    left = f", {gone:,} of them without a prediction and so wrong" if gone else ""
    return (
        f"Scored on the {images} of {part}{left}. Accuracy: share of right ones, with Wilson's interval. Macro F1: "
        f"{METRICS['macro_f1'].rule} Balanced accuracy: {METRICS['balanced_accuracy'].rule} {boot.rule}"
    )


def _warnings(boot: Bootstrap, samples: Samples, part: NDArray[np.int64], name: str) -> tuple[str, ...]:
    """Return what to beware of: images that may have been trained on, images and classes that aren't scored."""
    notes = []
    if name in ("all", "train"):
        what = "all images" if name == "all" else "training images"
        notes.append(f"scored on {what}; if some of them were trained on, the score is flattered")
    if unlabelled := len(part) - len(boot.labels):
        are = "has no known label and is" if unlabelled == 1 else "have no known label and are"
        notes.append(f"{counted(unlabelled, 'image')} of {name} {are} left out")
    return (*notes, *absent_classes(np.bincount(boot.labels, minlength=len(samples.classes)), samples.classes))


def _numbers(predicted: NDArray[np.int64], samples: Samples, boot: Bootstrap) -> dict[str, Any]:
    """Return the fields of a Score that follow from class ids [N], -1 for none."""
    truth, classes = boot.labels, len(samples.classes)
    draws = boot.draw(
        {
            "accuracy": accuracy_of(predicted, truth),
            "macro_f1": macro_f1_of(predicted, truth, classes),
            "balanced_accuracy": balanced_accuracy_of(predicted, truth, classes),
        }
    )
    correct = int(np.count_nonzero(predicted == truth))
    return {
        "n": len(truth),
        "correct": correct,
        "accuracy": wilson(correct, len(truth), boot.level),
        "macro_f1": boot.interval(draws["macro_f1"], METRICS["macro_f1"]),
        "balanced_accuracy": boot.interval(draws["balanced_accuracy"], METRICS["balanced_accuracy"]),
        "majority": np.bincount(truth).max() / len(truth),
        "per_class": class_results(predicted, truth, samples.classes, boot.level),
    }


def read_rows(path: Path) -> list[Row]:
    """Return the predictions of a CSV file, in its order.

    Raises:
        UserError: not there, not UTF-8 CSV, without the columns, without rows, or with an empty field.
    """
    try:
        # Bytes that are no UTF-8 are kept: on Linux a file name may hold any.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            text = file.read()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; expected a CSV file image_id,label") from None
    reader, line = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    rows: list[Row] = []
    try:
        places = _places(path, next(reader, []))
        line = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append(_row(path, line, cells, places))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {line}: not CSV ({error}); quote fields that hold commas or quotes") from None
    if not rows:
        raise UserError(f"{path}: no predictions under the header; expected a row image_id,label for each image")
    return rows


def _places(path: Path, header: Sequence[str]) -> tuple[int, int]:
    names = [cell.strip().lower() for cell in header]
    for column in COLUMNS:
        if names.count(column) != 1:
            found = ",".join(header) or "nothing"
            raise UserError(
                f'{path}, line 1: expected one column "{column}" in a header image_id,label, found {_plain(found)}'
            )
    return names.index(COLUMNS[0]), names.index(COLUMNS[1])


def _row(path: Path, line: int, cells: Sequence[str], places: tuple[int, int]) -> Row:
    image, label = (cells[i] if i < len(cells) else "" for i in places)
    for column, cell in zip(COLUMNS, (image, label), strict=True):
        if not cell.strip():
            raise UserError(f"{path}, line {line}: {column} is empty; expected image_id,label")
    return Row(line, image, label)


def _part(samples: Samples, split: str | None) -> tuple[NDArray[np.int64], str]:
    """Return the indices to score and what they are called."""
    everything = np.arange(len(samples.files))
    if split is None:
        return (samples.splits["val"], "val") if "val" in samples.splits else (everything, "all")
    return lookup({**samples.splits, "all": everything}, split, f"{samples.root}: split"), split


def _key(path: str) -> str:
    """Return an image's path in one form: composed Unicode, no leading `./`."""
    return unicodedata.normalize("NFC", path).removeprefix("./")


def _tails(path: str) -> list[str]:
    """Return `a/b/c`, `b/c`, `c`; a path with backslashes alone is taken as one from Windows."""
    parts = (path if "/" in path else path.replace("\\", "/")).split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


@dataclass(frozen=True, eq=False)
class _Index:
    """The truth's images by path, and by every end of a path."""

    whole: dict[str, int]
    ends: dict[str, int]
    others: frozenset[str]

    @classmethod
    def of(cls, samples: Samples, part: NDArray[np.int64]) -> _Index:
        whole = {_key(samples.files[i]): i for i in part.tolist()}
        ends: dict[str, int] = {}
        for path, i in whole.items():
            for tail in _tails(path):
                ends[tail] = _AMBIGUOUS if tail in ends else i
        return cls(whole, ends, frozenset(map(_key, samples.files)) - whole.keys())

    def find(self, image: str) -> tuple[int | None, str]:
        """Return the image's index and how it was found, or `None` and why not."""
        exact = _key(image)
        tails = list(dict.fromkeys([exact, *_tails(exact)]))
        for tail in tails:
            if tail in self.whole:
                return self.whole[tail], "path"
            if tail in self.others:
                return None, "belong to another split"
        for tail in tails:
            if (i := self.ends.get(tail)) is not None:
                how = "end of path" if "/" in tail else "name"
                return (None, "fit several images") if i == _AMBIGUOUS else (i, how)
        return None, "are unknown"


def _matched(
    path: Path, rows: Sequence[Row], samples: Samples, part: NDArray[np.int64], name: str
) -> tuple[list[int], dict[str, int]]:
    """Return each row's image, and how many were found which way."""
    index = _Index.of(samples, part)
    first: dict[int, int] = {}
    images: list[int] = []
    ways: Counter[str] = Counter()
    wrong: dict[str, list[Row]] = {}
    for row in rows:
        image, how = index.find(row.image)
        if image is None:
            wrong.setdefault(how, []).append(row)
        elif image in first:
            wrong.setdefault("come twice", []).append(row)
        else:
            first[image] = row.line
            images.append(image)
            ways[how] += 1
    for why, bad in wrong.items():
        example = samples.files[part[0]]
        hint = f'expected each image of {name} in {samples.root} once, named like "{_plain(example)}"'
        raise UserError(f"{path}: {len(bad):,} of {len(rows):,} image ids {why}: {_lines(bad, 'image')}; {hint}")
    return images, dict(ways)


def _ids(path: Path, rows: Sequence[Row], classes: Sequence[str]) -> tuple[list[int], Literal["names", "ids"]]:
    """Return each row's class id, and whether labels were names or ids."""
    by_name = {unicodedata.normalize("NFC", name): i for i, name in enumerate(classes)}
    labels = [unicodedata.normalize("NFC", row.label) for row in rows]
    # A name may begin or end with a blank; otherwise blanks mean nothing.
    labels = [label if label in by_name else label.strip() for label in labels]
    if all(label in by_name for label in labels):
        return [by_name[label] for label in labels], "names"
    by_id = {str(i): i for i in range(len(classes))}
    numbered = any(_WHOLE.fullmatch(name) for name in classes)
    if not numbered and all(_WHOLE.fullmatch(label) for label in labels):
        known, what, hint = by_id, "ids", f"; expected 0 to {len(classes) - 1}"
        if all(label in by_id for label in labels):
            return [by_id[label] for label in labels], "ids"
    else:
        known, what, hint = by_name, "names", ""
    bad = [row for row, label in zip(rows, labels, strict=True) if label not in known]
    hint = hint or suggest(bad[0].label.strip(), classes)
    gone = "; classes of which the truth has no image are taken by --extra-classes" if what == "names" else ""
    raise UserError(
        f"{path}: {len(bad):,} of {len(rows):,} labels are no class {what}: {_lines(bad, 'label')}{hint}{gone}"
    )


def _extra(path: Path, classes: Sequence[str]) -> list[str]:
    """Return the names that predictions have and the classes lack; none where all labels are class ids."""
    labels = {unicodedata.normalize("NFC", row.label.strip()) for row in read_rows(path)}
    known = {unicodedata.normalize("NFC", name).strip() for name in classes}
    ids = all(map(_WHOLE.fullmatch, labels)) and not any(map(_WHOLE.fullmatch, known))
    return [] if ids else natsorted(labels - known)


def _lines(rows: Sequence[Row], field: Literal["image", "label"]) -> str:
    shown = (f'line {row.line} "{_plain(getattr(row, field))}"' for row in rows[:_SHOWN])
    return ", ".join(shown) + (", …" if len(rows) > _SHOWN else "")


def _plain(text: str) -> str:
    """Return text that can be printed anywhere, on one line."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:200])
