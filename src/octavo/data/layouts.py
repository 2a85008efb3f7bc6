"""Layouts of data folders: which one fits, and where the train, val and test folders of one lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from octavo.data.samples import CANONICAL, Problem
from octavo.data.unread import unread_below
from octavo.data.walk import any_image, folders_in, images_in, walk
from octavo.errors import UserError, lookup
from octavo.words import counted

_SPLIT_FOLDER = re.compile(rf"({'|'.join(sorted(CANONICAL, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)

Content = TypeVar("Content")


@dataclass(frozen=True)
class Reader(Generic[Content]):
    """A layout: `matches(path)` looks whether it fits, `read(path)` lists the images, `form` shows it to people.

    Where a layout named in `yields_to` fits as well, this one isn't meant, unless the user names it.
    """

    form: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], Content]
    yields_to: tuple[str, ...] = ()


def choose(
    data: str | Path, layout: str | None, readers: Mapping[str, Reader[Content]], what: str, header: str
) -> tuple[str, Reader[Content]]:
    """Return the reader for `data`, with its name: the one that `layout` names, else found by looking.

    `what` is what the folder should hold, `header` the first line of a CSV file, as they are shown to people.

    Raises:
        UserError: when it isn't there, or no layout or more than one fits.
    """
    root = Path(data)
    if not root.exists():
        raise UserError(f"{data}: no such folder or file; expected a folder of {what} or a CSV file")
    name = layout or _look(root, readers, header)
    reader = lookup(readers, name, "layout")
    if layout and not reader.matches(root):
        raise UserError(f'{data}: nothing here fits layout "{layout}"; expected {reader.form}')
    return name, reader


def _look(root: Path, readers: Mapping[str, Reader[Content]], header: str) -> str:
    fitting = [name for name, reader in readers.items() if reader.matches(root)]
    fitting = [name for name in fitting if not set(readers[name].yields_to) & set(fitting)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        forms = "; ".join(f'layout "{name}" ({readers[name].form})' for name in fitting)
        raise UserError(f"{root}: more than one layout fits: {forms}; name the one you mean")
    if root.is_file():
        raise UserError(f"{root}: not a UTF-8 CSV file whose first line is {header}")
    forms = "; ".join(reader.form for reader in readers.values())
    stray = next(walk(root), None)
    seen = f'an image lies at "{stray}", but in no known layout' if stray else "no images found"
    if not stray and (unread := unread_below([root])):
        seen += f" ({unread})"
    raise UserError(f"{root}: {seen}; expected one of: {forms}")


def split_of(name: str) -> str | None:
    """Return the canonical split that a folder is named for, as `val` of `Validation_50`."""
    hit = _SPLIT_FOLDER.match(name)
    return CANONICAL[hit[1].lower()] if hit else None


def split_folders(root: Path) -> dict[str, list[Path]]:
    """Return the folders in `root` that are named for a split, by canonical split."""
    named: dict[str, list[Path]] = {}
    for folder in folders_in(root):
        if split := split_of(folder.name):
            named.setdefault(split, []).append(folder)
    return named


def one_each(root: Path) -> dict[str, Path]:
    """Return the folder of each split.

    Raises:
        UserError: when a split has more than one, or there is none of train.
    """
    for split, folders in (named := split_folders(root)).items():
        if len(folders) > 1:
            names = ", ".join(f'"{f.name}"' for f in folders)
            raise UserError(f"{root}: more than one {split} folder: {names}; keep one, move the others elsewhere")
    if "train" not in named:
        raise UserError(f"{root}: no train folder beside {', '.join(f.name for (f,) in named.values())}; expected "
                        "train/ and val/")  # fmt: skip
    return {split: folder for split, (folder,) in named.items()}


def others(root: Path) -> list[Path]:
    """Return the folders in `root` that hold images and aren't named for a split."""
    return [f for f in folders_in(root) if not split_of(f.name) and any_image(f)]


def beside(root: Path, folders: Sequence[Path]) -> list[Problem]:
    """Say which images lie where the layout doesn't look: in `folders`, and directly in `root`."""
    texts = [f"{f}: not a train, val or test folder; its images are left out" for f in folders]
    if images := images_in(root):
        texts.append(f"{root}: {counted(len(images), 'image')} beside the split folders left out (first: {images[0]})")
    return [Problem(text) for text in texts]


def empty(folder: Path, split: str) -> list[Problem]:
    """Say that the folder of a split has no images, if so."""
    if any_image(folder):
        return []
    return [Problem(f"{folder}: no images in this folder; put the {split} images there or remove it", split != "test")]
