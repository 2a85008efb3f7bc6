"""Rows of a table of images, read strictly: every complaint names the file and the line."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Sequence

from octavo.data.columns import FLAGS, Columns
from octavo.data.image_names import prefix_of
from octavo.data.label_tables import ImageTable
from octavo.data.lists import refuse
from octavo.data.samples import CANONICAL, Problem
from octavo.data.walk import natural, one_line


def rows_of_table(found: ImageTable) -> dict[str, dict[str, str]]:
    """Return image → column → cell: files by their paths, splits by their usual names.

    Raises:
        UserError: a faulty line, an image that is listed twice, isn't there, or may be one of several.
    """
    table, columns = found.table, found.columns
    assert isinstance(columns, Columns)
    rows: dict[str, dict[str, str]] = {}
    lines: dict[str, int] = {}
    missing: list[tuple[int, str, str]] = []
    prefixes: dict[str, int] = {}
    for line, row in table.rows:
        if table.fault and table.fault[0] < line:
            break
        cells = _cells(found, columns, line, row)
        for key in [key for key in found.kind.files if key in cells]:
            cells[key], ahead = _one(found, line, key, cells[key], missing)
            prefixes.setdefault(ahead, line)
        image = cells["image"]
        if image in rows:
            refuse(table.file, line, f'image "{image}" is already in line {lines[image]}; list each image once')
        rows[image], lines[image] = cells, line
    if table.fault:
        refuse(table.file, *table.fault)
    if missing:
        line, key, name = missing[0]
        near = found.names.near(name) or found.names.numbered(name)
        hint = f' (is it "{near[0]}"?)' if len(near) == 1 else ""
        refuse(table.file, line, f'no {key} "{name}" in {found.names.folder}{hint}; {len(missing)} of {len(rows)} are '
               "missing; paths are relative to the table's folder")  # fmt: skip
    if len(ahead := [prefix for prefix in prefixes if prefix]) > 1:
        refuse(table.file, prefixes[ahead[1]], f'paths begin with "{ahead[0]}" and with "{ahead[1]}", which aren\'t '
               "here; make them relative to the table's folder")  # fmt: skip
    return rows


def _one(found: ImageTable, line: int, key: str, cell: str, missing: list[tuple[int, str, str]]) -> tuple[str, str]:
    """Return the file that a cell names, and what stands before its path in the cell."""
    files = found.names.find(cell, found.base)
    if len(files) > 1:
        refuse(found.table.file, line, f'{key} "{cell.strip()}" may be {" or ".join(files[:3])}; give its path '
               "relative to the table's folder")  # fmt: skip
    if not files:
        missing.append((line, key, cell.strip()))
        return posixpath.normpath(cell.strip()), ""
    return files[0], prefix_of(cell, files[0])


def _cells(found: ImageTable, columns: Columns, line: int, row: Sequence[str]) -> dict[str, str]:
    file = found.table.file
    cells = {key: row[place] for key, place in columns.places.items()}
    if columns.one_hot:
        if odd := [row[place] for place in columns.one_hot if row[place].strip().lower() not in FLAGS]:
            refuse(file, line, f'"{odd[0].strip()}" marks no class; expected 1 or 0, true or false, yes or no')
        marked = [place for place in columns.one_hot if FLAGS[row[place].strip().lower()]]
        if len(marked) != 1:
            refuse(file, line, f"{len(marked)} classes are marked; expected one")
        cells["label"] = found.table.header[marked[0]]
    for key, cell in cells.items():
        if not cell.strip() and key != "group":
            refuse(file, line, f"no {key}; expected {','.join(cells)}")
        cells[key] = cell if key in found.kind.files else cell.strip()
    if "label" in cells:
        cells["label"] = unicodedata.normalize("NFC", cells["label"].strip())
    if "split" in cells:
        split = CANONICAL.get(cells["split"].lower())
        if split is None:
            refuse(file, line, f'unknown split "{cells["split"]}"; expected train, val or test')
        cells["split"] = split
    return cells


def left_out(found: ImageTable, used: Sequence[str]) -> list[Problem]:
    """Say which images of the folder the table doesn't name, and which columns were read as what."""
    problems = [] if found.exact else [Problem(found.told())]
    if spare := sorted(found.names.files - set(used), key=natural):
        count = f"{len(spare):,} of {len(found.names.files):,} images here"
        text = f"{found.table.file}: {count} aren't in it and are left out (first: {spare[0]})"
        problems.append(Problem(one_line(text)))
    return problems
