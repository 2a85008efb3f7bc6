"""CSV files that list images, read strictly: every complaint names the file and the line."""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from octavo.data.samples import CANONICAL
from octavo.data.walk import one_line, scan
from octavo.errors import UserError

Headers = Mapping[str, Sequence[str]]
"""Column -> the names it may have; all but those of OPTIONAL must be there, and other columns are left alone."""
OPTIONAL = ("split", "group")


def _columns(file: Path, headers: Headers) -> dict[str, int] | None:
    """Return column -> place, or None where the first line isn't the header of such a list."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            cells = [cell.strip().lower() for cell in next(csv.reader(lines, strict=True), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    places = {key: [cells.index(n) for n in names if n in cells] for key, names in headers.items()}
    if not all(found for key, found in places.items() if key not in OPTIONAL):
        return None
    return {key: found[0] for key, found in places.items() if found}


def lists_in(root: Path, headers: Headers) -> list[Path]:
    """Return the CSV files in a folder that have these columns; of a file itself, that file."""
    if root.is_file():
        return [root] if _columns(root, headers) else []
    files = sorted(root / e.name for e in scan(root))
    return [p for p in files if p.suffix.lower() == ".csv" and _columns(p, headers)]


def read_list(root: Path, headers: Headers, what: str) -> tuple[Path, dict[str, dict[str, str]]]:
    """Return the one CSV file of `what` in `root`, and its rows: image -> column -> cell, split as its canonical name.

    Raises:
        UserError: for more than one such file, a faulty line, an image that is listed twice or isn't there.
    """
    if len(files := lists_in(root, headers)) > 1:
        names = ", ".join(f.name for f in files)
        raise UserError(f"{root}: more than one CSV of {what}: {names}; name the one you mean")
    file = files[0]
    columns = _columns(file, headers) or {}
    found: dict[str, dict[str, str]] = {}
    lines: dict[str, int] = {}
    for line, row in rows_of(file):
        cells = _cells(file, line, row, columns)
        image = cells["image"]
        if image in found:
            refuse(file, line, f'image "{image}" is already in line {lines[image]}; list each image once')
        found[image], lines[image] = cells, line
    for key in [key for key in ("image", "mask") if key in columns]:
        missing = [image for image, cells in found.items() if not (file.parent / cells[key]).is_file()]
        if missing:
            refuse(file, lines[missing[0]], f'no {key} "{found[missing[0]][key]}" in {file.parent}; {len(missing)} of '
                    f"{len(found)} are missing; paths are relative to the CSV's folder, with their ending")  # fmt: skip
    return file, found


def rows_of(file: Path, delimiter: str = ",", errors: str = "strict") -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) below the header, each with as many cells as that has; `errors` as of `open`.

    Raises:
        UserError: a line that has more or fewer cells, or is no UTF-8 CSV.
    """
    with file.open(encoding="utf-8-sig", errors=errors, newline="") as lines:
        reader = csv.reader(lines, strict=True, delimiter=delimiter)
        line = 1
        try:
            width = len(next(reader))
            line = reader.line_num + 1
            for row in reader:
                if row and len(row) != width:
                    refuse(file, line, f"{len(row)} fields, expected {width}; a field with a comma needs quotes")
                if row:
                    yield line, row
                line = reader.line_num + 1
        except (csv.Error, UnicodeDecodeError) as error:
            refuse(file, line, f"not a line of UTF-8 CSV ({error})")


def _cells(file: Path, line: int, row: list[str], columns: Mapping[str, int]) -> dict[str, str]:
    cells = {key: row[place] for key, place in columns.items()}
    for key, cell in cells.items():
        if not cell.strip() and key != "group":
            refuse(file, line, f"no {key}; expected {','.join(columns)}")
        cells[key] = _path(file.parent, cell) if key in ("image", "mask") else cell.strip()
    if "split" in cells:
        split = CANONICAL.get(cells["split"].lower())
        if split is None:
            refuse(file, line, f'unknown split "{cells["split"]}"; expected train, val or test')
        cells["split"] = split
    return cells


def _path(folder: Path, cell: str) -> str:
    """Return a file's path without spaces around it, unless they belong to its name."""
    own, plain = posixpath.normpath(cell), posixpath.normpath(cell.strip())
    return own if own == plain or (folder / own).is_file() else plain


def refuse(file: Path, line: int, text: str) -> NoReturn:
    """Raise the complaint about one line of a CSV file."""
    raise UserError(one_line(f"{file}, line {line}: {text}"))
