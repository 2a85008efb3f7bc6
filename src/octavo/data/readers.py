"""Folders and CSV files of images read into Samples: which files, which class, which split."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from pathlib import Path

from octavo.data.layouts import Reader, beside, choose, empty, one_each, others, split_folders
from octavo.data.lists import lists_in, read_list
from octavo.data.samples import Entry, Found, Problem, Samples, number
from octavo.data.unread import unread_below
from octavo.data.walk import any_image, folders_in, images_in, is_image, list_images, one_line, scan, walk
from octavo.errors import UserError
from octavo.words import counted

__all__ = ["READERS", "Problem", "Reader", "Samples", "list_images", "read"]

HEADERS = {
    "image": ("image", "image_id", "file", "filename", "path"),
    "label": ("label", "class"),
    "split": ("split",),
    "group": ("group",),
}
"""What a CSV's columns may be called; other columns are left alone."""

_PREFIXED = re.compile(r"(?P<name>.+)_\d+")


def read(data: str | Path, layout: str | None = None, *, strict: bool = True) -> Samples:
    """Read a folder or CSV file of labelled images; without `layout` (a key of READERS) it is found by looking.

    With `strict=False` fatal problems are listed in `problems` instead of raised, for `octavo check`.

    Raises:
        UserError: when it isn't there, no layout or more than one fits, or something in it makes training unsafe.
    """
    name, reader = choose(data, layout, READERS, "images", "image,label or image,label,split")
    found = reader.read(Path(data))
    samples = number(str(data), name, found)
    if Path(data).is_dir():
        samples = replace(samples, unread=unread_below([Path(data)], found.tables))
    fatal = next((p for p in samples.problems if p.fatal), None)
    if strict and fatal:
        raise UserError(one_line(fatal.text))
    return samples


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
        own, faults = _class_folders(folder, split, f"{folder.name}/")
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
    named = any(is_image(e) and not e.is_dir() and _PREFIXED.fullmatch(Path(e.name).stem) for e in scan(folder))
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
        own, faults = _prefixed(folder, split, f"{folder.name}/")
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


def _read_csv(root: Path) -> Found:
    file, rows = read_list(root, HEADERS, "labels")
    entries = [
        Entry(image, unicodedata.normalize("NFC", cells["label"].strip()), cells.get("split"), cells.get("group", ""))
        for image, cells in rows.items()
    ]
    return Found(entries, [], file.parent, (file,))


READERS: dict[str, Reader[Found]] = {
    "split-folders": Reader("train/CLASS/IMAGE and val/CLASS/IMAGE", _matches_split_folders, _read_split_folders),
    "folders": Reader("CLASS/IMAGE", _matches_folders, _read_folders),
    "prefix": Reader("CLASS_INDEX.png in train/ and val/, or in one folder", _matches_prefix, _read_prefix),
    "csv": Reader(
        "a CSV file with the header image,label or image,label,split", lambda p: bool(lists_in(p, HEADERS)), _read_csv
    ),
}
"""Layouts by name. A new one is a line here and two functions above."""
