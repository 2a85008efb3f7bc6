"""Tables in text files, as header and rows: CSV, TSV, semicolons, columns by spaces, JSON lines, lists of objects."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

TABLES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json")
"""Endings of the files that may be tables, in lower case."""
_DELIMITERS = ",;\t|"
_LARGEST = 1 << 29  # bytes of a table
_ABOVE = 50  # lines above a header
_SEPARATOR = re.compile(r"sep=([,;\t|])", re.IGNORECASE)

Row = tuple[int, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Table:
    """A table: its header, its rows with their line numbers, and what is wrong with the first faulty line, if any.

    A faulty line is in none of the rows.
    """

    file: Path
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    fault: tuple[int, str] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The header's cells in lower case, stripped."""
        return tuple(cell.strip().lower() for cell in self.header)

    def headless(self) -> Table:
        """Return the same table with its first line as a row, and the header `1,2,3,…`."""
        numbers = tuple(str(place + 1) for place in range(len(self.header)))
        return replace(self, header=numbers, rows=((1, self.header), *self.rows))

    def column(self, place: int) -> list[str]:
        """Return a column's cells."""
        return [cells[place] for _, cells in self.rows]

    def shown(self) -> str:
        """Return the header as it is told to people, cut where it is long."""
        text = ",".join(cell.strip() for cell in self.header)
        return text if len(text) <= 120 else f"{text[:120]}…"


def read_table(file: Path) -> Table | None:
    """Return the table in a file; None where it is none, by its ending or its content.

    UTF-8 and UTF-16 are read, and one that is in neither says so in `fault`. Lines above the header (a title, comments,
    the `sep=;` of spreadsheets) are passed over.
    """
    suffix = file.suffix.lower()
    try:
        if suffix not in TABLES or file.stat().st_size > _LARGEST:
            return None
        text, fault = _text(file.read_bytes())
    except OSError:
        return None
    if text is None or not text.strip():
        return None
    if suffix in (".json", ".jsonl", ".ndjson"):
        return _from_json(file, text, lines=suffix != ".json")
    rows, found = _by_spaces(text) if _spaced(suffix, text) else _by_delimiter(suffix, text)
    first = next(rows, None)
    if first is None:
        return None
    return _checked(file, first[1], rows, found, fault)


def _text(content: bytes) -> tuple[str | None, bool]:
    """Return a file's text, None of a binary file, and whether some of its bytes are in no known encoding."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace"), False
    start = content[:4096] if len(content) > 16 else b""
    for place, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if 4 * start[place::2].count(0) > len(start):  # UTF-16 without its mark
            return content.decode(encoding, "replace"), False
    if 20 * content[:4096].count(0) > len(content[:4096]):
        return None, False
    try:
        return content.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        return content.decode("utf-8-sig", "surrogateescape"), True


def _checked(
    file: Path, header: tuple[str, ...], rows: Iterator[Row], found: list[tuple[int, str]], undecoded: bool
) -> Table:
    good: list[Row] = []
    for line, cells in rows:
        if len(cells) != len(header):
            found.append((line, f"{len(cells)} fields, expected {len(header)}; a field with a comma needs quotes"))
        elif undecoded and any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
            found.append((line, "not a line of UTF-8 CSV; save the file as UTF-8"))
        elif any("\0" in cell for cell in cells):
            found.append((line, "holds a zero byte, so the file may be damaged; save it anew as UTF-8"))
        else:
            good.append((line, cells))
    return Table(file, header, tuple(good), min(found, default=None))


def delimiter_of(line: str) -> str:
    """Return what stands between the cells of a table's first line, quoted cells apart; a comma where nothing does."""
    outside = "".join(line.split('"')[::2])
    return max(_DELIMITERS, key=outside.count)


def _spaced(suffix: str, text: str) -> bool:
    """Tell whether a text file has its columns between spaces."""
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    return suffix == ".txt" and not any(sign in first for sign in _DELIMITERS) and " " in first.strip()


def _by_spaces(text: str) -> tuple[Iterator[Row], list[tuple[int, str]]]:
    lines = ((number, line) for number, line in enumerate(text.splitlines(), 1) if not line.startswith("#"))
    return ((number, tuple(line.split())) for number, line in lines if line.strip()), []


def _by_delimiter(suffix: str, text: str) -> tuple[Iterator[Row], list[tuple[int, str]]]:
    above, delimiter = _header_of(suffix, text)
    found: list[tuple[int, str]] = []

    def rows() -> Iterator[Row]:
        lines = io.StringIO(text, newline="")
        reader = csv.reader(islice(lines, above, None), strict=True, delimiter=delimiter)
        line = above + 1
        try:
            for row in reader:
                if row:
                    yield line, tuple(row)
                line = above + reader.line_num + 1
        except csv.Error as error:
            found.append((line, f"not a line of UTF-8 CSV ({error})"))

    return rows(), found


def _header_of(suffix: str, text: str) -> tuple[int, str]:
    """Return how many lines lie above a table's header, and what stands between its cells."""
    lines = [line for _, line in zip(range(_ABOVE + 1), io.StringIO(text, newline=""), strict=False)]
    some = [(number, line) for number, line in enumerate(lines) if line.strip()]
    for (number, line), (_, below) in pairwise(some):
        if mark := _SEPARATOR.fullmatch(line.strip()):
            return number + 1, mark[1]
        signs = [sign for sign in _DELIMITERS if sign in below]
        comment = line.startswith("#") and line.count(delimiter_of(below)) != below.count(delimiter_of(below))
        if not (comment or (signs and not any(sign in line for sign in _DELIMITERS))):
            return number, "\t" if suffix == ".tsv" and "\t" in line else delimiter_of(line)
    number, line = some[-1] if some else (0, "")
    return (0, delimiter_of(some[0][1])) if len(some) < 2 else (number, delimiter_of(line))


def _from_json(file: Path, text: str, *, lines: bool) -> Table | None:
    """Return a list of objects as a table, a column a key; of an object whose values are plain, names and values."""
    try:
        if lines:
            objects: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            objects = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(objects, dict) and objects and all(isinstance(v, (str, int, float)) for v in objects.values()):
        pairs = [(str(key), str(value)) for key, value in objects.items()]
        return Table(file, ("name", "value"), tuple((i, pair) for i, pair in enumerate(pairs, 1)))
    if not isinstance(objects, list) or not objects or not all(isinstance(o, dict) for o in objects):
        return None
    keys = list(dict.fromkeys(str(key) for o in objects for key in o))
    rows = tuple((i, tuple(_cell(o.get(key)) for key in keys)) for i, o in enumerate(objects, 1))
    return Table(file, tuple(keys), rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def distinct(cells: Sequence[str]) -> set[str]:
    """Return the different values of a column, without spaces around them."""
    return {cell.strip() for cell in cells}
