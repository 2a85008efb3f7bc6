"""Tables beside images in formats that aren't read: found, and asked about, as they may hold the labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from octavo.data.foreign import format_of_other_tools, packed_table
from octavo.data.image_names import ImageNames, called_image
from octavo.data.walk import is_file, scan
from octavo.errors import UserError
from octavo.words import counted

_TABLES = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers", ".parquet", ".arrow", ".feather", ".orc", ".avro")
_OF_LABELS = re.compile(r"label|annot|anno(s|\b|_)|target|truth|metadata|class|(^|[^a-z])(y|gt|meta)([^a-z]|$)")
"""What files are called that hold labels, but may hold anything."""
_YAML = (".yaml", ".yml")
_HEAD = 1 << 18  # bytes of a YAML file that are looked at


def foreign_tables(root: Path, folders: Sequence[Path] = ()) -> list[Path]:
    """Return the files directly in `root` and in `folders` that may hold labels, but in a format that isn't read.

    These are spreadsheets, Parquet and the like; compressed tables; YAML that names images; and archives, arrays,
    pickles and databases whose names say labels. Beside a CSV of the same name they count as its original.
    """
    return [file for folder in (root, *folders) if folder.is_dir() for file in _in(folder)]


def question(tables: Sequence[Path], layout: str, what: str, header: str) -> UserError:
    """Return the refusal of a folder with such tables.

    Args:
        tables: one or more of them.
        layout: of the folder, that fits without them.
        what: they may be tables of.
        header: of a table that is read, as people write it.
    """
    first, more = tables[0], len(tables) - 1
    others = f" (and {counted(more, 'more such file')})" if more else ""
    kind = format_of_other_tools(first) or ("a table of another tool", "")
    remedy = "unpack it" if packed_table(first) else f"save what it says as a CSV file {header}"
    return UserError(
        f"{first}{others}: {kind[0]}, not read, and may be a table of {what}; {remedy}, move it elsewhere, or give "
        f"--layout {layout} to go without it"
    )


def _in(folder: Path) -> Iterator[Path]:
    files = sorted(entry.name for entry in scan(folder) if is_file(entry))
    read = {Path(name).stem for name in files if Path(name).suffix.lower() in (".csv", ".tsv")}
    for name in files:
        if name.partition(".")[0] not in read and Path(name).stem not in read and _may_hold_labels(folder / name):
            yield folder / name


def _may_hold_labels(file: Path) -> bool:
    suffix = file.suffix.lower()
    if file.name.startswith("~$"):  # what a spreadsheet program leaves beside a file that is open
        return False
    if suffix in _TABLES or packed_table(file):
        return True
    if suffix in _YAML:
        return _names_images(file)
    return format_of_other_tools(file) is not None and bool(_OF_LABELS.search(file.name.lower()))


def _names_images(file: Path) -> bool:
    """Tell whether a YAML file names an image of its folder with its ending, or half of the images without."""
    try:
        with file.open("rb") as content:
            text = content.read(_HEAD).decode("utf-8-sig", "replace")
    except OSError:
        return False
    names = ImageNames(file.parent)
    found = {token: names.find(token) for token in set(re.findall(r"[^\s:,'\"\[\]{}]+", text))}
    images = {image for named in found.values() if len(named) == 1 for image in named}
    whole = any(named and called_image(token) for token, named in found.items())
    return whole or bool(images and 2 * len(images) >= len(names.files))
