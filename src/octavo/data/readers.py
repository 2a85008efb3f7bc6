"""Folders and CSV files of images read into Samples: which files, which class, which split."""

from __future__ import annotations

import csv
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from octavo.data.samples import CANONICAL, Entry, Found, Problem, Samples, number
from octavo.data.walk import any_image, folders_in, images_in, is_image, list_images, one_line, scan, walk
from octavo.errors import UserError, lookup

__all__ = ["READERS", "Problem", "Reader", "Samples", "list_images", "read"]

HEADERS = {"image": ("image", "image_id", "file", "filename", "path"), "label": ("label", "class"), "split": ("split",)}
"""What a CSV's columns may be called; other columns are left alone."""

_SPLIT_FOLDER = re.compile(rf"({'|'.join(sorted(CANONICAL, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)
_PREFIXED = re.compile(r"(?P<name>.+)_\d+")


@dataclass(frozen=True)
class Reader:
    """A layout: `matches(path)` looks whether it fits, `read(path)` lists the images, `form` shows it to people."""

    form: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], Found]


def read(data: str | Path, layout: str | None = None, *, strict: bool = True) -> Samples:
    """Read a folder or CSV file of labelled images; without `layout` (a key of READERS) it is found by looking.

    With `strict=False` fatal problems are listed in `problems` instead of raised, for `octavo check`.

    Raises:
        UserError: when it isn't there, no layout or more than one fits, or something in it makes training unsafe.
    """
    root = Path(data)
    if not root.exists():
        raise UserError(f"{data}: no such folder or file; expected a folder of images or a CSV file")
    name = layout or _look(root)
    reader = lookup(READERS, name, "layout")
    if layout and not reader.matches(root):
        raise UserError(f'{data}: nothing here fits layout "{layout}"; expected {reader.form}')
    found = reader.read(root)
    samples = number(str(data), name, found)
    fatal = next((p for p in samples.problems if p.fatal), None)
    if strict and fatal:
        raise UserError(one_line(fatal.text))
    return samples


def _look(root: Path) -> str:
    fitting = [name for name, reader in READERS.items() if reader.matches(root)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        forms = "; ".join(f'layout "{name}" ({READERS[name].form})' for name in fitting)
        raise UserError(f"{root}: more than one layout fits: {forms}; name the one you mean")
    if root.is_file():
        raise UserError(f"{root}: not a UTF-8 CSV file whose first line is image,label or image,label,split")
    forms = "; ".join(reader.form for reader in READERS.values())
    stray = next(walk(root), None)
    seen = f'an image lies at "{stray}", but in no known layout' if stray else "no images found"
    raise UserError(f"{root}: {seen}; expected one of: {forms}")


def _split_of(name: str) -> str | None:
    hit = _SPLIT_FOLDER.match(name)
    return CANONICAL[hit[1].lower()] if hit else None


def _named(root: Path) -> dict[str, list[Path]]:
    """Return the folders that are named for a split, by canonical split."""
    named: dict[str, list[Path]] = {}
    for folder in folders_in(root):
        if split := _split_of(folder.name):
            named.setdefault(split, []).append(folder)
    return named


def _others(root: Path) -> list[Path]:
    return [f for f in folders_in(root) if not _split_of(f.name) and any_image(f)]


def _beside(root: Path, folders: Sequence[Path]) -> list[Problem]:
    """Say which images lie where the layout doesn't look."""
    texts = [f"{f}: not a train, val or test folder; its images are left out" for f in folders]
    if images := images_in(root):
        texts.append(f"{root}: {len(images)} images lie beside the split folders and are left out (first: {images[0]})")
    return [Problem(text) for text in texts]


def _empty(folder: Path, split: str) -> list[Problem]:
    if any_image(folder):
        return []
    return [Problem(f"{folder}: no images in this folder; put the {split} images there or remove it", split != "test")]


def _one_each(root: Path) -> dict[str, Path]:
    for split, folders in (named := _named(root)).items():
        if len(folders) > 1:
            names = ", ".join(f'"{f.name}"' for f in folders)
            raise UserError(f"{root}: more than one {split} folder: {names}; keep one, move the others elsewhere")
    if "train" not in named:
        raise UserError(f"{root}: no train folder beside {', '.join(f.name for (f,) in named.values())}; expected "
                        "train/ and val/")  # fmt: skip
    return {split: folder for split, (folder,) in named.items()}


# ── Class folders ───────────────────────────────────────────────────────────────────────────────────────────────────


def _class_folders(folder: Path, split: str | None, prefix: str = "") -> tuple[list[Entry], list[Problem]]:
    entries: list[Entry] = []
    problems: list[Problem] = []
    if images := images_in(folder):
        advice = "left out" if split == "test" else "move each into the folder of its class"
        problems.append(Problem(f"{folder}: {len(images)} images lie beside the class folders (first: {images[0]}); "
                                f"{advice}", fatal=split != "test"))  # fmt: skip
    for child in folders_in(folder):
        files = list(walk(child))
        name = unicodedata.normalize("NFC", child.name)  # macOS archives write é as e and ´
        entries += [Entry(f"{prefix}{child.name}/{file}", name, split) for file in files]
        if not files and split in (None, "train"):
            problems.append(Problem(f"{child}: no image in this class folder; put images there or remove the folder",
                                    fatal=True))  # fmt: skip
    return entries, problems


def _matches_split_folders(root: Path) -> bool:
    return any(any_image(child) for folders in _named(root).values() for f in folders for child in folders_in(f))


def _read_split_folders(root: Path) -> Found:
    entries: list[Entry] = []
    problems = _beside(root, _others(root))
    for split, folder in _one_each(root).items():
        own, faults = _class_folders(folder, split, f"{folder.name}/")
        faults += _empty(folder, split)
        entries += own
        problems += faults
    return Found(entries, problems, root)


def _matches_folders(root: Path) -> bool:
    return root.is_dir() and bool(_others(root))


def _read_folders(root: Path) -> Found:
    return Found(*_class_folders(root, None), root)


# ── Flat files whose names begin with the class ─────────────────────────────────────────────────────────────────────


def _flat(folder: Path) -> bool:
    named = any(is_image(e) and not e.is_dir() and _PREFIXED.fullmatch(Path(e.name).stem) for e in scan(folder))
    return named and not any(map(any_image, folders_in(folder)))


def _matches_prefix(root: Path) -> bool:
    if not root.is_dir():
        return False
    named = _named(root)
    paired = "train" in named and len(named) > 1
    inside = any(_flat(f) for folders in named.values() for f in folders) and (paired or not _others(root))
    return inside or _flat(root)


def _read_prefix(root: Path) -> Found:
    if _flat(root):
        return Found(*_prefixed(root, None, ""), root)
    entries: list[Entry] = []
    problems = _beside(root, _others(root))
    for split, folder in _one_each(root).items():
        own, faults = _prefixed(folder, split, f"{folder.name}/")
        faults += _empty(folder, split)
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


def _columns(file: Path) -> dict[str, int] | None:
    """Return column name -> place, or None where the first line isn't the header of a list of labels."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            cells = [cell.strip().lower() for cell in next(csv.reader(lines, strict=True), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    places = {key: [cells.index(n) for n in names if n in cells] for key, names in HEADERS.items()}
    if not (places["image"] and places["label"]):
        return None
    return {key: found[0] for key, found in places.items() if found}


def _csvs(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if _columns(root) else []
    return [p for p in sorted(root / e.name for e in scan(root)) if p.suffix.lower() == ".csv" and _columns(p)]


def _read_csv(root: Path) -> Found:
    if len(files := _csvs(root)) > 1:
        raise UserError(
            f"{root}: more than one CSV of labels: {', '.join(f.name for f in files)}; name the one you mean"
        )
    file = files[0]
    columns = _columns(file) or {}
    entries: dict[str, Entry] = {}
    lines: dict[str, int] = {}
    for line, row in _rows(file):
        entry = _row(file, line, row, columns)
        if entry.file in entries:
            _refuse(file, line, f'image "{entry.file}" is already in line {lines[entry.file]}; list each image once')
        entries[entry.file], lines[entry.file] = entry, line
    missing = [name for name in entries if not (file.parent / name).is_file()]
    if missing:
        first = missing[0]
        _refuse(file, lines[first], f'no image "{first}" in {file.parent}; {len(missing)} of {len(entries)} are '
                                    "missing; paths are relative to the CSV's folder, with their ending")  # fmt: skip
    return Found(list(entries.values()), [], file.parent)


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) below the header, each with as many cells as that has."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        line = 1
        try:
            width = len(next(reader))
            line = reader.line_num + 1
            for row in reader:
                if row and len(row) != width:
                    _refuse(file, line, f"{len(row)} fields, expected {width}; a field with a comma needs quotes")
                if row:
                    yield line, row
                line = reader.line_num + 1
        except (csv.Error, UnicodeDecodeError) as error:
            _refuse(file, line, f"not a line of UTF-8 CSV ({error})")


def _row(file: Path, line: int, row: list[str], columns: Mapping[str, int]) -> Entry:
    cells = {key: row[place] for key, place in columns.items()}
    for key, cell in cells.items():
        if not cell.strip():
            _refuse(file, line, f"no {key}; expected {','.join(columns)}")
    split = CANONICAL.get(cells["split"].strip().lower()) if "split" in cells else None
    if "split" in cells and split is None:
        _refuse(file, line, f'unknown split "{cells["split"]}"; expected train, val or test')
    label = unicodedata.normalize("NFC", cells["label"].strip())
    return Entry(posixpath.normpath(cells["image"]), label, split)  # spaces at the ends belong to a file's name


def _refuse(file: Path, line: int, text: str) -> NoReturn:
    raise UserError(one_line(f"{file}, line {line}: {text}"))


READERS: dict[str, Reader] = {
    "split-folders": Reader("train/CLASS/IMAGE and val/CLASS/IMAGE", _matches_split_folders, _read_split_folders),
    "folders": Reader("CLASS/IMAGE", _matches_folders, _read_folders),
    "prefix": Reader("CLASS_INDEX.png in train/ and val/, or in one folder", _matches_prefix, _read_prefix),
    "csv": Reader("a CSV file with the header image,label or image,label,split", lambda p: bool(_csvs(p)), _read_csv),
}
"""Layouts by name. A new one is a line here and two functions above."""
