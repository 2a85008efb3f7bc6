"""Labels that a user has corrected: read from a CSV file and put over those of the data, which stay as they are."""

from __future__ import annotations

import csv
import hashlib
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from octavo.data.columns import HEADERS
from octavo.data.lists import refuse, rows_of
from octavo.data.samples import Problem, Samples, emptied
from octavo.errors import UserError, suggest
from octavo.words import counted

DROP = "-"
"""What stands for a class where an image is to be left out; not where a class has this name."""
COLUMNS = {"file": HEADERS["image"], "label": HEADERS["label"], "corrected": ("corrected",)}
"""What the columns may be called; other columns are left alone."""


@dataclass(frozen=True)
class Corrections:
    """What a CSV file has changed in the labels of some data.

    Attributes:
        file: its whole path.
        sha256: of its content.
        given: place of an image → its label as the data have it, where that was changed or the image dropped.
        dropped: places of the images that are left out.
        changed: split → labels changed.
        left_out: split → images dropped.
    """

    file: str
    sha256: str
    given: Mapping[int, str]
    dropped: tuple[int, ...]
    changed: Mapping[str, int]
    left_out: Mapping[str, int]

    @property
    def words(self) -> str:
        """What was done, in a sentence without a full stop."""
        text = _counts(sum(self.changed.values()), sum(self.left_out.values()), "")
        others = [split for split in {**self.changed, **self.left_out} if split != "train"]
        some = [_counts(self.changed.get(split, 0), self.left_out.get(split, 0), f" of {split}") for split in others]
        return f"{text}, by {Path(self.file).name}" + (f" (among them {', '.join(some)})" if some else "")

    def facts(self) -> dict[str, Any]:
        """Return what a run remembers of them, JSON-able."""
        return {
            "file": self.file,
            "sha256": self.sha256,
            "changed": dict(self.changed),
            "dropped": dict(self.left_out),
        }


@dataclass(frozen=True)
class _Row:
    """What one line says of an image: the place of the image, and its class or None to drop it."""

    line: int
    place: int
    label: int | None


def corrected(samples: Samples, path: str | Path) -> tuple[Samples, Corrections]:
    """Return the samples with the labels that a CSV file gives them, and what that changed.

    Its columns are the image's path as in a run's samples.csv (`file`) and its class (`corrected`; without that column,
    `label`). A row without a class changes nothing, and DROP in its place takes the image out of its split. Where the
    file has both columns, `label` must be the class that the data give. Files, classes and their ids stay.

    Raises:
        UserError: no such file, a column that is missing, a line with an image or a class that the data don't have,
            with a `label` that isn't the data's, or against an earlier line; nothing filled in; a class that is left
            without training images.
    """
    file = Path(path)
    digest = _digest(file)
    rows = _agreed(file, samples, _read(file, samples))
    labels, dropped = samples.labels.copy(), sorted(row.place for row in rows if row.label is None)
    for row in rows:
        labels[row.place] = labels[row.place] if row.label is None else row.label
    split_of = {int(i): split for split, indices in samples.splits.items() for i in indices}
    changed = np.flatnonzero(labels != samples.labels).tolist()
    found = Corrections(
        str(file.absolute()),
        digest,
        {i: _own(samples, i) for i in sorted([*changed, *dropped])},
        tuple(dropped),
        dict(Counter(split_of[i] for i in changed)),
        dict(Counter(split_of[i] for i in dropped)),
    )
    splits = {split: np.setdiff1d(indices, np.array(dropped, np.int64)) for split, indices in samples.splits.items()}
    _require_all_classes(file, samples, labels, splits["train"])
    problems = (*samples.problems, Problem(found.words))
    return replace(samples, labels=labels, splits=splits, problems=problems), found


def filled_in(path: Path) -> dict[str, str]:
    """Return image → what stands in its column `corrected`, where anything does.

    Raises:
        UserError: no list of corrections.
    """
    columns, delimiter = _header(path)
    if "corrected" not in columns:
        raise UserError(f"{path}: no column corrected")
    cells = ((row[columns["file"]], row[columns["corrected"]]) for _, row in _rows(path, delimiter))
    return {file: value.strip() for file, value in cells if value.strip()}


def beware_of(data: Mapping[str, Any], split: str) -> tuple[str, ...]:
    """Return what a reader of scores on a split must know: a sentence, or none where its labels are the data's own.

    `data` is what a run's manifest says of its data.
    """
    facts: Mapping[str, Any] = data.get("labels") or {"changed": {}, "dropped": {}}
    changed, dropped = facts["changed"].get(split, 0), facts["dropped"].get(split, 0)
    if not (changed or dropped) or split == "train":
        return ()
    words = _counts(changed, dropped, f" of {split}")
    return (f"{words}, by {Path(facts['file']).name}: scores on the data's own labels are not comparable with these, "
            "and corrections that networks proposed flatter them.",)  # fmt: skip


def _counts(changed: int, dropped: int, of: str) -> str:
    return f"{counted(changed, 'label')}{of} corrected, {counted(dropped, 'image')} dropped"


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"--labels {file}: {reason}; expected a CSV file with the columns file,corrected") from error


def _header(file: Path) -> tuple[dict[str, int], str]:
    """Return column → place, and what stands between cells: a comma, or what spreadsheets put there."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        first = lines.readline()
    delimiter = max(",;\t", key=first.count)
    cells = [cell.strip().lower() for cell in next(csv.reader([first], delimiter=delimiter), [])]
    places = {key: [cells.index(name) for name in names if name in cells] for key, names in COLUMNS.items()}
    columns = {key: found[0] for key, found in places.items() if found}
    if "file" not in columns or len(columns) < 2:
        missing = "file" if "file" not in columns else "corrected"
        seen = ",".join(cells)[:80]
        refuse(file, 1, f'no column "{missing}" in the header {seen}; expected file,corrected or file,label')
    return columns, delimiter


def _rows(file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    rows = rows_of(file, delimiter, "surrogateescape")  # names of files may be no Unicode
    return ((line, row) for line, row in rows if any(cell.strip() for cell in row))


def _read(file: Path, samples: Samples) -> list[_Row]:
    """Return what the lines say that are filled in."""
    columns, delimiter = _header(file)
    places = {name: i for i, name in enumerate(samples.files)}
    ids = {name: i for i, name in enumerate(samples.classes)}
    column = "corrected" if "corrected" in columns else "label"
    found = []
    for line, row in _rows(file, delimiter):
        cells = {key: row[place] for key, place in columns.items()}
        spellings = (cells["file"], posixpath.normpath(cells["file"]), posixpath.normpath(cells["file"].strip()))
        place = next((places[name] for name in spellings if name in places), None)
        if place is None:
            refuse(file, line, _no_image(cells["file"], samples))
        wanted = _class_in(cells[column])
        if column == "corrected":
            _require_own(file, line, _class_in(cells.get("label", "")), samples, place)
        if wanted and wanted != DROP and wanted not in ids:
            refuse(file, line, f'unknown class "{wanted}"{suggest(wanted, ids)}{_encoding(wanted)}')
        if wanted:
            found.append(_Row(line, place, ids.get(wanted)))
    if not found:
        raise UserError(f"{file}: nothing is filled in; write a class, or {DROP} to drop the image, into {column}")
    return found


def _class_in(cell: str) -> str:
    return unicodedata.normalize("NFC", cell.strip())


def _require_own(file: Path, line: int, given: str, samples: Samples, place: int) -> None:
    """Refuse a `label` that isn't the data's: a correction in the wrong column, or a file made for other data."""
    own = _own(samples, place)
    if given and given != own:
        refuse(
            file, line, f'label is "{given}", but {samples.files[place]} has "{own}" in the data; write a new class '
            "into corrected and leave label as it is"
        )  # fmt: skip


def _own(samples: Samples, place: int) -> str:
    return samples.classes[samples.labels[place]] if samples.labels[place] >= 0 else ""


def _no_image(name: str, samples: Samples) -> str:
    ends = [file for file in samples.files if file.endswith(f"/{posixpath.normpath(name)}")] if name.strip() else []
    near = f'; did you mean "{ends[0]}"?' if len(ends) == 1 else "; paths are as in a run's samples.csv"
    return f'no image "{name}" in {samples.root}{near}{_encoding(name)}'


def _encoding(cell: str) -> str:
    """Return a hint where a cell holds bytes that aren't UTF-8, as older spreadsheets write them."""
    odd = any("\udc80" <= letter <= "\udcff" for letter in cell)
    return "; the file isn't UTF-8: save it as such" if odd else ""


def _agreed(file: Path, samples: Samples, rows: list[_Row]) -> list[_Row]:
    """Return one row for each image; refuse two that differ."""
    first: dict[int, _Row] = {}
    for row in rows:
        before = first.setdefault(row.place, row)
        if before.label != row.label:
            was, now = (DROP if r.label is None else samples.classes[r.label] for r in (before, row))
            name = samples.files[row.place]
            refuse(file, row.line, f'"{name}" is "{now}" here and "{was}" in line {before.line}; keep one of them')
    return list(first.values())


def _require_all_classes(file: Path, samples: Samples, labels: np.ndarray, train: np.ndarray) -> None:
    left, before = (
        np.bincount(own[own >= 0], minlength=len(samples.classes))
        for own in (labels[train], samples.labels[samples.splits["train"]])
    )
    if gone := emptied(before, left):
        raise UserError(
            f'{file}: class "{samples.classes[gone[0]]}" is left without training images; keep one, or take the class '
            "out of the data"
        )
