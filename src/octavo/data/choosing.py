"""Layout of a folder, or the table beside its images: which of the two counts, or the question that decides it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from octavo.data.columns import Columns, same
from octavo.data.foreign import foreign_file
from octavo.data.foreign_tables import foreign_tables, question
from octavo.data.label_tables import (
    ImageTable,
    Kind,
    several,
    table_at,
    tables_above,
    tables_in,
    with_columns,
)
from octavo.data.layouts import Reader, ambiguous, split_folders, split_of, unknown
from octavo.data.samples import Problem
from octavo.errors import UserError, lookup

Content = TypeVar("Content")
TABLE = "csv"
"""Name of the layout that is a table."""


@dataclass(frozen=True)
class Task(Generic[Content]):
    """What a task reads: its layouts, its kind of tables, and what is told of each file in a layout.

    Attributes:
        readers: layouts by name, `csv` among them.
        kind: of its tables.
        told: content of a layout → each image's class, or mask.
        doubt: folder, layout and content (None if no layout fits) → in a line why it is something else, if it seems so.
        what: the folder holds, in words.
        header: of a table, as people write it.
    """

    readers: Mapping[str, Reader[Content]]
    kind: Kind
    told: Callable[[Content], Mapping[str, str]]
    doubt: Callable[[Path, str | None, Content | None], str | None]
    what: str
    header: str


@dataclass(frozen=True)
class Choice(Generic[Content]):
    """What was chosen: a layout's name and its content, or a table; and what is to be said of tables that weren't."""

    layout: str
    content: Content | None
    table: ImageTable | None
    problems: tuple[Problem, ...] = ()


def choose(root: Path, layout: str | None, columns: str | None, task: Task[Content]) -> Choice[Content]:
    """Return the layout or table of `root`: the one that is named, else found by looking.

    Raises:
        UserError: it isn't there; nothing fits, or more than one; a table of the images whose columns aren't plain, or
            that says something else than the folders.
    """
    if not root.exists():
        raise UserError(f"{root}: no such folder or file; expected a folder of {task.what} or a CSV file")
    reader = lookup(task.readers, layout, "layout") if layout else None
    if columns and layout not in (None, TABLE):
        raise UserError(f"--columns {columns}: is for tables; leave --layout {layout} out, or --columns")
    if root.is_file() and (columns or layout in (None, TABLE)):
        return Choice(TABLE, None, _file(root, columns, task))
    if columns:
        return Choice(TABLE, None, with_columns(root, columns, task.kind))
    if reader is None:
        return _look(root, task)
    if layout == TABLE and (tables := tables_in(root, task.kind)):
        return Choice(TABLE, None, _only(root, tables))
    if not reader.matches(root):
        raise UserError(f'{root}: nothing here fits layout "{layout}"; expected {reader.form}')
    return Choice(str(layout), reader.read(root), None)


def chosen_table(root: Path, task: Task[Content]) -> ImageTable:
    """Return the table that `root` is, or that lies in it, as `--layout csv` reads it.

    Raises:
        UserError: there is none, or which one or how to read it isn't plain.
    """
    table = choose(root, TABLE, None, task).table
    assert table
    return table


def looks(root: Path, task: Task[Content]) -> bool:
    """Tell whether a folder has one of the task's layouts or tables, or a file is one."""
    if root.is_file():
        return table_at(root, task.kind) is not None
    if any(reader.matches(root) for reader in task.readers.values()):
        return True
    return any(isinstance(table.columns, Columns) for table in tables_in(root, task.kind))


def _file(file: Path, columns: str | None, task: Task[Content]) -> ImageTable:
    found = table_at(file, task.kind, columns)
    if found is None:
        why = foreign_file(file)
        raise UserError(f"{file}: {why}" if why else f"{file}: not a UTF-8 CSV file whose first line is {task.header}")
    return _only(file, [found])


def _only(root: Path, tables: Sequence[ImageTable]) -> ImageTable:
    """Return the table that can be read: the only one, or the only one with the usual columns."""
    first = [table for table in tables if table.exact] or tables
    told = [table for table in first if not table.constant]
    known = {image for table in told for image in table.images}
    if told and not any(known & table.images.keys() for table in first if table.constant):
        first = told
    if len(first) > 1:
        several(root, first)
    if not isinstance(first[0].columns, Columns):
        raise UserError(first[0].question())
    return first[0]


def _look(root: Path, task: Task[Content]) -> Choice[Content]:
    readers = {name: reader for name, reader in task.readers.items() if name != TABLE}
    fitting = [name for name, reader in readers.items() if reader.matches(root)]
    fitting = [name for name in fitting if not set(readers[name].yields_to) & set(fitting)]
    tables = tables_in(root, task.kind)
    exact = any(table.exact for table in tables)
    content = readers[fitting[0]].read(root) if len(fitting) == 1 else None
    told = task.told(content) if content is not None else {}
    doubt = task.doubt(root, fitting[0], content) if content is not None else None
    weak = doubt is not None or len(set(told.values())) < 2  # only one class: a table tells more
    if len(fitting) + exact > 1 and not (exact and weak and len(fitting) == 1):
        raise ambiguous(root, [*fitting, *([TABLE] if exact else [])], task.readers)
    unread = foreign_tables(root, [folder for found in split_folders(root).values() for folder in found])
    if content is None or (weak and tables):
        if tables:
            if unread:
                raise question(unread, TABLE, task.kind.what, task.header)
            return Choice(TABLE, None, _only(root, tables))
        if above := tables_above(root, task.kind):
            raise UserError(f"{above[0].question()}; the table needs --data {above[0].table.file}")
        why = task.doubt(root, None, None)
        raise UserError(why) if why else unknown(root, task.readers)
    above = tables_above(root, task.kind) if weak else []  # beside classes it may well be a list of predictions
    if open_ := [table for table in (*tables, *above) if not _agrees(table, told)]:
        beyond = f"; the table needs --data {open_[0].table.file}" if open_[0] in above else ""
        raise UserError(open_[0].question([] if weak else fitting) + beyond)
    if unread:
        raise question(unread, fitting[0], task.kind.what, task.header)
    if doubt:
        raise UserError(doubt)
    said = [Problem(f"{table.table.file}: says the same as the folders, which are read") for table in tables]
    return Choice(fitting[0], content, None, tuple(said))


def _agrees(found: ImageTable, told: Mapping[str, str]) -> bool:
    """Tell whether a table says of the images what their folders say, or names test images alone that those leave out.

    A table of labels agrees if one of the columns that may be the class has a value for each folder, and the other way
    round; one of masks if it names the same mask for each image.
    """
    shared = [(cells, told[image]) for image, cells in found.images.items() if image in told]
    if not shared:
        return bool(found.images) and all(split_of(image.partition("/")[0]) == "test" for image in found.images)
    columns = found.columns
    if not isinstance(columns, Columns):
        return any(same((cells[place], own) for cells, own in shared) for place in columns.candidates)
    if "mask" in columns.places:
        masks = [(found.names.find(cells[columns.places["mask"]], found.base), own) for cells, own in shared]
        return all(own in named for named, own in masks if named)
    if columns.one_hot:
        marked = ("".join(cells[place][:1] for place in columns.one_hot) for cells, _ in shared)
        return same(zip(marked, (own for _, own in shared), strict=True))
    return same((cells[columns.places["label"]], own) for cells, own in shared)
