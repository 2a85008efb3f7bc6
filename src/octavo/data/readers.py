"""Folders and CSV files of images read into Samples: which files, which class, which split."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from functools import partial
from pathlib import Path

from octavo.data.choosing import TABLE, Task, choose, chosen_table
from octavo.data.foreign import annotated
from octavo.data.formats import IMAGE_SUFFIXES
from octavo.data.guards import class_folders, deep, prefixes
from octavo.data.label_tables import LABELS, MASKS, ImageTable, holds_table, tables_in
from octavo.data.layouts import Reader, beside, empty, one_each, others, split_folders
from octavo.data.pair_readers import PAIR_READERS
from octavo.data.samples import Entry, Found, Problem, Samples, number
from octavo.data.table_rows import left_out, rows_of_table
from octavo.data.unread import unread_below
from octavo.data.walk import any_image, folders_in, images_in, is_folder, is_image, list_images, one_line, scan, walk
from octavo.errors import UserError
from octavo.words import counted

__all__ = ["READERS", "Problem", "Reader", "Samples", "list_images", "read"]

_PREFIXED = re.compile(r"(?P<name>.+)_\d+")


def read(data: str | Path, layout: str | None = None, columns: str | None = None, *, strict: bool = True) -> Samples:
    """Read a folder or table of labelled images; without `layout` (a key of READERS) it is found by looking.

    `columns` says what is what in a table, as in `image=image_id,label=dx`. With `strict=False` fatal problems are
    listed in `problems` instead of raised, for `octavo check`.

    Raises:
        UserError: when it isn't there, no layout or more than one fits, or something in it makes training unsafe.
    """
    root = Path(data)
    choice = choose(root, layout, columns, _TASK)
    found = _from_table(choice.table, root) if choice.table else choice.content
    assert found is not None
    found.problems.extend(choice.problems)
    if layout in (None, "folders") and choice.table is None:
        found.problems[:0] = _too_high(root, found)
    samples = number(str(data), choice.layout, found)
    if root.is_dir():
        samples = replace(samples, unread=unread_below([root], found.tables))
    fatal = next((p for p in samples.problems if p.fatal), None)
    if strict and fatal:
        raise UserError(one_line(fatal.text))
    return samples


def _too_high(root: Path, found: Found) -> list[Problem]:
    """Say what a folder is that seems to be of one class: another tool's format, or one above the folder of classes."""
    names = {entry.name for entry in found.entries}
    if len(names) != 1:
        return []
    if why := annotated(root):
        return [Problem(f"{root}: {why}", fatal=True)]
    inner, only = deep(root), next(iter(names))
    if inner != root and len([f for f in folders_in(inner) if any_image(f)]) > 1:
        text = (
            f'{root}: only one class, "{only}"; a classifier needs two or more; name the folder of the classes, {inner}'
        )
        return [Problem(f"{text}, if it is that", fatal=True)]
    return []


def _doubt(root: Path, layout: str | None, found: Found | None) -> str | None:
    """Return what a folder is that was found by looking, if it isn't classes: images and masks, splits, parts."""
    masks = [reader.form for name, reader in PAIR_READERS.items() if name != TABLE and reader.matches(root)]
    if masks := masks or [str(table.table.file) for table in tables_in(root, MASKS)]:
        way = f", or give --layout {layout} if all of them are images of classes" if layout else ""
        return (
            f"{root}: looks like images and masks ({masks[0]}), for a segmenter such as fcn8s-plus; to classify, name "
            f"the folder of the images{way}"
        )
    if found is None:
        return None
    if layout == "prefix":
        flat = [root] if _flat(root) else [f for folders in split_folders(root).values() for f in folders]
        why = prefixes(root, flat, {entry.name for entry in found.entries})
    else:
        above = [root] if layout == "folders" else [f for folders in split_folders(root).values() for f in folders]
        why = next(filter(None, (class_folders(a, folders_in(a)) for a in above)), None)
    return one_line(why) if why else None


# ── Class folders ───────────────────────────────────────────────────────────────────────────────────────────────────


def _class_folders(folder: Path, split: str | None, prefix: str = "") -> tuple[list[Entry], list[Problem]]:
    entries: list[Entry] = []
    problems: list[Problem] = []
    if images := images_in(folder):
        advice = "left out" if split == "test" else "move each into the folder of its class"
        some = counted(len(images), "image")
        text = f"{folder}: {some} beside the class folders (first: {images[0]}); {advice}"
        problems.append(Problem(text, fatal=split != "test"))
    for child in folders_in(folder):
        files = list(walk(child))
        name = unicodedata.normalize("NFC", child.name)  # macOS archives write é as e and ´
        entries += [Entry(f"{prefix}{child.name}/{file}", name, split) for file in files]
        if not files and split in (None, "train"):
            text = f"{child}: no image in this class folder{_instead(child)}; put images there or remove the folder"
            problems.append(Problem(text, fatal=True))
    return entries, problems


def _instead(folder: Path) -> str:
    seen = unread_below([folder])
    return f" ({seen})" if seen else ""


def _matches_split_folders(root: Path) -> bool:
    return any(any_image(child) for folders in split_folders(root).values() for f in folders for child in folders_in(f))


def _read_split_folders(root: Path) -> Found:
    entries: list[Entry] = []
    problems = beside(root, others(root))
    for split, folder in one_each(root).items():
        own, faults = _class_folders(folder, split, f"{folder.relative_to(root).as_posix()}/")
        faults += empty(folder, split)
        entries += own
        problems += faults
    return Found(entries, problems, root)


def _matches_folders(root: Path) -> bool:
    return root.is_dir() and bool(others(root))


def _read_folders(root: Path) -> Found:
    return Found(*_class_folders(root, None), root)


# ── Flat files whose names begin with the class ─────────────────────────────────────────────────────────────────────


def _flat(folder: Path) -> bool:
    named = any(is_image(e) and not is_folder(e) and _PREFIXED.fullmatch(Path(e.name).stem) for e in scan(folder))
    return named and not any(map(any_image, folders_in(folder)))


def _matches_prefix(root: Path) -> bool:
    if not root.is_dir():
        return False
    named = split_folders(root)
    paired = "train" in named and len(named) > 1
    inside = any(_flat(f) for folders in named.values() for f in folders) and (paired or not others(root))
    return inside or _flat(root)


def _read_prefix(root: Path) -> Found:
    if _flat(root):
        return Found(*_prefixed(root, None, ""), root)
    entries: list[Entry] = []
    problems = beside(root, others(root))
    for split, folder in one_each(root).items():
        own, faults = _prefixed(folder, split, f"{folder.relative_to(root).as_posix()}/")
        faults += empty(folder, split)
        entries += own
        problems += faults
    return Found(entries, problems, root)


def _prefixed(folder: Path, split: str | None, prefix: str) -> tuple[list[Entry], list[Problem]]:
    images = images_in(folder)
    hits = {name: _PREFIXED.fullmatch(Path(name).stem) for name in images}
    entries = [
        Entry(prefix + name, unicodedata.normalize("NFC", hit["name"]), split) for name, hit in hits.items() if hit
    ]
    problems: list[Problem] = []
    if strange := [name for name, hit in hits.items() if not hit]:
        advice = "left out" if split == "test" else "expected {class}_{index}, as in 17_452.png"
        problems.append(Problem(f"{folder}: {len(strange)} file names tell no class (first: {strange[0]}); "
                                f"{advice}", fatal=split != "test"))  # fmt: skip
    if nested := [f.name for f in folders_in(folder) if any_image(f)]:
        problems.append(
            Problem(f'{folder}: images lie in folder "{nested[0]}" beside the flat files; move them', fatal=True)
        )
    return entries, problems


# ── CSV ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _from_table(table: ImageTable, root: Path) -> Found:
    rows = rows_of_table(table)
    files = [cells["label"] for cells in rows.values() if cells["label"].lower().endswith(IMAGE_SUFFIXES)]
    if files and 2 * len(files) > len(rows):
        raise UserError(
            f"{table.table.file}: its labels are files, such as {files[0]}: images and masks, for a segmenter such as "
            "fcn8s-plus"
        )
    entries = [
        Entry(image, cells["label"], cells.get("split"), cells.get("group", "")) for image, cells in rows.items()
    ]
    problems = left_out(table, list(rows)) if root.is_dir() else []
    return Found(entries, problems, table.names.folder, (table.table.file,))


def _read_table(root: Path) -> Found:
    return _from_table(chosen_table(root, _TASK), root)


READERS: dict[str, Reader[Found]] = {
    "split-folders": Reader("train/CLASS/IMAGE and val/CLASS/IMAGE", _matches_split_folders, _read_split_folders),
    "folders": Reader("CLASS/IMAGE", _matches_folders, _read_folders),
    "prefix": Reader("CLASS_INDEX.png in train/ and val/, or in one folder", _matches_prefix, _read_prefix),
    TABLE: Reader(
        "a CSV file with the header image,label or image,label,split", partial(holds_table, kind=LABELS), _read_table
    ),
}
"""Layouts by name. A new one is a line here and two functions above."""
_TASK = Task(
    READERS,
    LABELS,
    lambda found: {entry.file: entry.name for entry in found.entries},
    _doubt,
    "images",
    "image,label or image,label,split",
)
