"""Rows of a file of predictions: read, and matched to the images and classes of a truth."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from natsort import natsorted
from numpy.typing import NDArray

from octavo.data.columns import HEADERS, IMAGES, LABELS
from octavo.data.columns import plain as alone
from octavo.data.samples import Samples
from octavo.errors import UserError, suggest
from octavo.tasks.prediction_names import TruthNames, composed

COLUMNS = ("image_id", "label")
_SHOWN = 3  # how many offending lines an error quotes
_WHOLE = re.compile(r"\d+")


@dataclass(frozen=True)
class Row:
    """One prediction and the line of the file it began in."""

    line: int
    image: str
    label: str


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
    """Return where image and label stand: in the columns that `predict` writes, else in those that training takes."""
    names = [cell.strip().lower() for cell in header]
    own = all(column in names for column in COLUMNS)
    places = []
    for column, key, called in zip(COLUMNS, ("image", "label"), (IMAGES, LABELS), strict=True):
        alike = [name for name in names if alone(name) in called]
        known = [name for name in HEADERS[key] if name in names] or (alike if len(alike) == 1 else [])
        taken = column if own or not known else known[0]
        if names.count(taken) != 1:
            found = ",".join(header) or "nothing"
            raise UserError(
                f'{path}, line 1: expected one column "{taken}" in a header image_id,label, found {plain(found)}'
            )
        places.append(names.index(taken))
    return places[0], places[1]


def _row(path: Path, line: int, cells: Sequence[str], places: tuple[int, int]) -> Row:
    image, label = (cells[i] if i < len(cells) else "" for i in places)
    for column, cell in zip(COLUMNS, (image, label), strict=True):
        if not cell.strip():
            raise UserError(f"{path}, line {line}: {column} is empty; expected image_id,label")
    return Row(line, image, label)


def matched(
    path: Path, rows: Sequence[Row], samples: Samples, part: NDArray[np.int64], name: str
) -> tuple[list[int], dict[str, int]]:
    """Return each row's image, and how many were found which way."""
    index = TruthNames.of([[[composed(file)]] for file in samples.files], part.tolist())
    first: dict[int, int] = {}
    images: list[int] = []
    ways: Counter[str] = Counter()
    wrong: dict[str, list[Row]] = {}
    for row in rows:
        image, how = index.find([[composed(row.image)]])
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
        hint = f'expected each image of {name} in {samples.root} once, named like "{plain(example)}"'
        raise UserError(f"{path}: {len(bad):,} of {len(rows):,} image ids {why}: {_lines(bad, 'image')}; {hint}")
    return images, dict(ways)


def ids_of(path: Path, rows: Sequence[Row], classes: Sequence[str]) -> tuple[list[int], Literal["names", "ids"]]:
    """Return each row's class id, and whether labels were names or ids.

    Labels are class names if all of them are; else class ids 0..C-1, if all are and no class name is a whole number.

    Raises:
        UserError: labels that are no class, with their lines.
    """
    by_name = _by_name(classes)
    labels = [_label(row, by_name) for row in rows]
    if all(label in by_name for label in labels):
        return [by_name[label] for label in labels], "names"
    if _are_ids(labels, classes):
        known, what, hint = {str(i): i for i in range(len(classes))}, "ids", f"; expected 0 to {len(classes) - 1}"
        if all(label in known for label in labels):
            return [known[label] for label in labels], "ids"
    else:
        known, what, hint = by_name, "names", ""
    bad = [row for row, label in zip(rows, labels, strict=True) if label not in known]
    hint = hint or suggest(bad[0].label.strip(), classes)
    mistaken = all(_WHOLE.fullmatch(row.label.strip()) for row in bad) and not any(map(_WHOLE.fullmatch, classes))
    if what == "names" and "did you mean" not in hint and not mistaken:
        hint += "; --extra-classes takes classes of which the truth has no image"
    raise UserError(f"{path}: {len(bad):,} of {len(rows):,} labels are no class {what}: {_lines(bad, 'label')}{hint}")


def extra_classes_of(rows: Sequence[Row], classes: Sequence[str]) -> list[str]:
    """Return the names that rows have and the classes lack; none where all labels are class ids."""
    by_name = _by_name(classes)
    labels = [_label(row, by_name) for row in rows]
    return [] if _are_ids(labels, classes) else natsorted(set(labels) - by_name.keys())


def _by_name(classes: Sequence[str]) -> dict[str, int]:
    return {unicodedata.normalize("NFC", name): i for i, name in enumerate(classes)}


def _label(row: Row, by_name: dict[str, int]) -> str:
    """Return a row's label; a name may begin or end with a blank, otherwise blanks mean nothing."""
    label = unicodedata.normalize("NFC", row.label)
    return label if label in by_name else label.strip()


def _are_ids(labels: Sequence[str], classes: Sequence[str]) -> bool:
    return not any(map(_WHOLE.fullmatch, classes)) and all(map(_WHOLE.fullmatch, labels))


def _lines(rows: Sequence[Row], field: Literal["image", "label"]) -> str:
    shown = (f'line {row.line} "{plain(getattr(row, field))}"' for row in rows[:_SHOWN])
    return ", ".join(shown) + (", …" if len(rows) > _SHOWN else "")


def plain(text: str) -> str:
    """Return text that can be printed anywhere, on one line."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:200])
