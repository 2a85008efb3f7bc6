"""Lines of CSV files, read strictly: every complaint names the file and the line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from octavo.data.walk import one_line
from octavo.errors import UserError


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


def refuse(file: Path, line: int, text: str) -> NoReturn:
    """Raise the complaint about one line of a CSV file."""
    raise UserError(one_line(f"{file}, line {line}: {text}"))
