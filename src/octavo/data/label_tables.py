"""Tables that lie beside images: found, told from others by the images that they name, and read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from octavo.data.columns import (
    HEADERS,
    IMAGES,
    PAIR_HEADERS,
    Columns,
    Headers,
    Matched,
    Unclear,
    given,
    labels_in,
    masks_in,
    named,
    plain,
)
from octavo.data.image_names import ImageNames, called_image
from octavo.data.tables import TABLES, Table, distinct, read_table
from octavo.data.walk import folders_in, natural, scan
from octavo.errors import UserError
from octavo.words import counted

_DEPTH = 2  # folders below the one that was named in which tables are looked for
_MANY = 20  # more files of one ending in a folder than this are annotations of an image each, and no tables


@dataclass(frozen=True)
class Kind:
    """A kind of tables: its headers, how its columns are found by content, and what it is called."""

    headers: Headers
    find: Callable[[Table, Sequence[Matched]], Columns | Unclear | None]
    what: str
    files: tuple[str, ...]
    """Columns that name files."""


LABELS = Kind(HEADERS, labels_in, "labels", ("image",))
MASKS = Kind(PAIR_HEADERS, masks_in, "images and masks", ("image", "mask"))


@dataclass(frozen=True, eq=False)
class ImageTable:
    """A table of images in or below a folder: `columns` says what is what in it; by their usual names where `exact`."""

    table: Table
    columns: Columns | Unclear
    exact: bool
    names: ImageNames
    kind: Kind

    @property
    def base(self) -> str:
        """The table's folder as a path relative to that of the images."""
        return Path(os.path.relpath(self.table.file.parent, self.names.folder)).as_posix()

    @cached_property
    def images(self) -> Mapping[str, tuple[str, ...]]:
        """Each image that it names without doubt → the cells of its row."""
        place = self.columns.places.get("image") if isinstance(self.columns, Columns) else self.columns.image
        if place is None:
            return {}
        found = ((self.names.find(cells[place], self.base), cells) for _, cells in self.table.rows)
        return {images[0]: cells for images, cells in found if len(images) == 1}

    @property
    def constant(self) -> bool:
        """Whether all of its images are of one class, as in a form for predictions that are to be handed in."""
        columns = self.columns
        return (
            isinstance(columns, Columns)
            and "label" in columns.places
            and (len(distinct(self.table.column(columns.places["label"]))) < 2)
        )

    def told(self) -> str:
        """Return in one line which columns are read as what."""
        assert isinstance(self.columns, Columns)
        return f"{self.table.file}: read with the columns {self.columns.option(self.table)} (--columns names others)"

    def question(self, layouts: Sequence[str] = ()) -> str:
        """Return in one line what isn't clear, the header, and what to write; `layouts` fit the folder as well."""
        if isinstance(self.columns, Columns):
            option, why = self.columns.option(self.table), ""
        else:
            image = self.columns.image
            known = "COLUMN" if image is None else self.table.header[image].strip()
            other = "label" if "label" in self.kind.headers else "mask"
            option, why = f"image={known},{other}=COLUMN", f", but not {self.columns.why}{self._which()}"
        folders = f", or --layout {layouts[0]} to go by the folders" if layouts else ""
        count = f"names {counted(len(self.images), 'image')} here" if self.images else "is a table of the images here"
        return (
            f"{self.table.file}: {count}{why}; its header is {self.table.shown()}; give --columns {option} to read "
            f"it{folders}"
        )

    def _which(self) -> str:
        assert isinstance(self.columns, Unclear)
        some = [self.table.header[place].strip() for place in self.columns.candidates]
        return f" ({', '.join(some[:6])}{', …' if len(some) > 6 else ''})" if some else ""


def tables_in(root: Path, kind: Kind) -> list[ImageTable]:
    """Return the tables of this kind that lie in a folder, or up to two folders below, and name its images.

    Those with the usual headers come first; they count wherever they lie in the folder itself. Others count if half of
    their lines name an image, or if they name half of the images, of the folder or of one in it.
    """
    names = ImageNames(root)
    found = [_table_of(table, names, kind, root) for table in map(read_table, _files(root, _DEPTH)) if table]
    return sorted(filter(None, found), key=lambda t: (not t.exact, natural(str(t.table.file))))


def tables_above(root: Path, kind: Kind) -> list[ImageTable]:
    """Return the tables in the folder above that name at least half of the images in `root`."""
    names, parent = ImageNames(root), root.absolute().parent
    found = [_table_of(table, names, kind, root) for table in map(read_table, _files(parent, 0)) if table]
    return [t for t in found if t and 2 * len(t.images) >= max(len(names.files), 1)]


def table_at(file: Path, kind: Kind, option: str | None = None) -> ImageTable | None:
    """Return the table in a file, with the columns of `--columns` where they are given; None where it is none."""
    table, names = read_table(file), ImageNames(file.parent)
    if not table:
        return None
    if option:
        table = table.headless() if _is_headless(table, names, "") else table
        return ImageTable(table, given(table, option, kind.headers), False, names, kind)
    return _table_of(table, names, kind, file.parent)


def holds_table(path: Path, kind: Kind) -> bool:
    """Tell whether a file is a table of this kind, or one lies in a folder as `tables_in` says."""
    return table_at(path, kind) is not None if path.is_file() else bool(tables_in(path, kind))


def with_columns(root: Path, option: str, kind: Kind) -> ImageTable:
    """Return the one table in or below a folder that has the columns of `--columns`.

    Raises:
        UserError: there is none, or more than one.
    """
    names = ImageNames(root)
    fitting, faults = [], []
    for table in filter(None, map(read_table, _files(root, _DEPTH))):
        table = table.headless() if _is_headless(table, names, "") else table
        try:
            fitting.append(ImageTable(table, given(table, option, kind.headers), False, names, kind))
        except UserError as error:
            faults.append(error)
    if len(fitting) > 1:
        listed = ", ".join(str(t.table.file.relative_to(root)) for t in fitting)
        raise UserError(f"{root}: more than one table has the columns {option}: {listed}; name one of them as the data")
    if not fitting:
        raise faults[0] if len(faults) == 1 else UserError(f"{root}: no table here has the columns {option}")
    return fitting[0]


def _files(root: Path, depth: int) -> Iterator[Path]:
    own = sorted((e.name for e in scan(root) if not e.is_dir() and Path(e.name).suffix.lower() in TABLES), key=natural)
    count = Counter(Path(name).suffix.lower() for name in own)
    yield from (root / name for name in own if count[Path(name).suffix.lower()] <= _MANY)
    for folder in folders_in(root) if depth else ():
        yield from _files(folder, depth - 1)


def _table_of(table: Table, names: ImageNames, kind: Kind, root: Path) -> ImageTable | None:
    columns = named(table, kind.headers)
    if columns and table.file.parent == root and table.file.suffix.lower() in (".csv", ".tsv", ".txt"):
        return ImageTable(table, columns, True, names, kind)
    base = Path(os.path.relpath(table.file.parent, names.folder)).as_posix()
    if _is_headless(table, names, base):
        table, columns = table.headless(), None
    if not table.rows:
        return None
    images = _image_columns(table, names, base)
    if images and not (columns and columns.places["image"] in {m.place for m in images}):
        found = kind.find(table, images)
        return ImageTable(table, found, False, names, kind) if found else None
    return ImageTable(table, columns, False, names, kind) if images and columns else None


def _is_headless(table: Table, names: ImageNames, base: str) -> bool:
    """Tell whether the first line names an image already."""
    return not set(map(plain, table.header)) & IMAGES and any(len(names.find(cell, base)) == 1 for cell in table.header)


def _image_columns(table: Table, names: ImageNames, base: str) -> list[Matched]:
    """Return the columns whose cells name images, the likeliest first, without those that name fewer than half."""
    found = []
    for place in range(len(table.header)):
        cells = table.column(place)
        if _numbers_of_others(table.header[place], cells):
            continue
        rows = [(names.find(cell, base) or names.near(cell), called_image(cell)) for cell in cells]
        matched = Matched(place, tuple(row if len(row) == 1 or whole else () for row, whole in rows))
        if not any(matched.rows) and plain(table.header[place]) in IMAGES:
            matched = Matched(place, tuple(names.numbered(cell) for cell in cells))
            matched = matched if 2 * len(matched.files) >= len(names.files) else Matched(place, ())
        if _about(matched, names):
            found.append(matched)
    most = max((len(m.files) for m in found), default=0)
    found = [m for m in found if 2 * len(m.files) >= most]
    return sorted(found, key=lambda m: (plain(table.header[m.place]) not in IMAGES, -len(m.files), m.place))


def _numbers_of_others(header: str, cells: Sequence[str]) -> bool:
    """Tell whether these cells may well be classes or counts, though images are called by the same numbers."""
    values = distinct(cells)
    if all(map(called_image, values)):
        return False
    digits = all(value.isdigit() for value in values)
    few = (2 if digits else 20) * len(values) <= len(cells)
    return few or (plain(header) not in IMAGES and digits and len(values) < max(5, len(cells)))


def _about(matched: Matched, names: ImageNames) -> bool:
    hits = sum(bool(row) for row in matched.rows)
    if not hits:
        return False
    if 2 * hits >= len(matched.rows):
        return True
    tops = Counter(file.partition("/")[0] for file in names.files)
    own = Counter(file.partition("/")[0] for file in matched.files)
    return 2 * len(matched.files) >= len(names.files) or any(2 * n >= tops[top] for top, n in own.items())


def several(root: Path, tables: Sequence[ImageTable]) -> NoReturn:
    """Refuse more than one table."""
    listed = ", ".join(str(t.table.file.relative_to(root)) for t in tables)
    raise UserError(
        f"{root}: more than one table of {tables[0].kind.what}: {listed}; name the one you mean as the data, or join "
        "them in one with a column split"
    )
