"""Layouts of data folders: which one fits, and where the train, val and test folders of one lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from octavo.data.foreign import annotated, stored
from octavo.data.samples import CANONICAL, Problem
from octavo.data.unread import unread_below
from octavo.data.walk import any_image, folders_in, images_in, walk
from octavo.errors import UserError
from octavo.words import counted

_SPLIT_FOLDER = re.compile(rf"({'|'.join(sorted(CANONICAL, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)

_ENDS = ("", "set", "data", "dataset", "images", "imgs", "img", "photos", "folder", "split", "ing", "s")
_GENERIC = {"set", "data", "dataset", "images", "image", "img", "imgs", "photos", "pictures", "seg", "my", "the", "new",
            "split", "folder", "final", "raw", "full", "all", "jpg", "png", "jpeg"}  # fmt: skip
_UNLABELLED = {"pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "submission", "inference"}

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


def ambiguous(root: Path, fitting: Sequence[str], readers: Mapping[str, Reader[Content]]) -> UserError:
    """Return the refusal of a folder that more than one layout fits."""
    forms = "; ".join(f'layout "{name}" ({readers[name].form})' for name in fitting)
    return UserError(f"{root}: more than one layout fits: {forms}; name the one you mean by --layout")


def unknown(root: Path, readers: Mapping[str, Reader[Content]]) -> UserError:
    """Return the refusal of a folder that no layout fits, with what it looks like, if that is known."""
    if why := annotated(root):
        return UserError(f"{root}: {why}")
    stray, other = next(walk(root), None), stored(root)
    if other and not stray:
        return UserError(f"{root}: {other}")
    seen = f'an image lies at "{stray}", but in no known layout' if stray else "no images found"
    if aside := other or (not stray and unread_below([root])):
        seen += f" ({aside})"
    return UserError(f"{root}: {seen}; expected one of: {'; '.join(reader.form for reader in readers.values())}")


def split_of(name: str) -> str | None:
    """Return the canonical split that a folder is named for: `val` of `Validation_50`, `train` of `seg_train`."""
    if hit := _SPLIT_FOLDER.match(name):
        return CANONICAL[hit[1].lower()]
    split, rest = split_word(name) or ("", "other")
    return split if not rest else None


def split_word(name: str) -> tuple[str, str] | None:
    """Return the split that a word of a name says, and the other words of it without those that say nothing.

    `trainset`, `seg_train` and `my-val` have no others; of `train_station` it is `station`, of `cats_test` it is
    `cats`. None where no word is a split's.
    """
    split, rest = None, []
    for word in re.findall(r"[^\W\d_]+", name.lower()):
        bare = next((word.removesuffix(end) for end in _ENDS if word.removesuffix(end) in CANONICAL), word)
        if split is None and bare in CANONICAL:
            split = CANONICAL[bare]
        elif word not in _GENERIC:
            rest.append(word)
    return (split, " ".join(rest)) if split else None


def _unlabelled(name: str) -> bool:
    """Tell whether a folder is named for images without labels, as `seg_pred`."""
    found = re.findall(r"[^\W\d_]+", name.lower())
    return bool(set(found) & _UNLABELLED) and set(found) <= _UNLABELLED | _GENERIC


def _inner(folder: Path) -> Path:
    """Return the folder in a split's folder that holds everything: `seg_train/seg_train`, `train/images`.

    One called `images` or so counts only if several folders lie in it, which are classes then.
    """
    full = [f for f in folders_in(folder) if any_image(f)]
    if len(full) != 1 or images_in(folder):
        return folder
    (only,) = full
    own = only.name.lower() == folder.name.lower() or split_of(only.name) == split_of(folder.name)
    if own or (only.name.lower() in _GENERIC and sum(map(any_image, folders_in(only))) > 1):
        return _inner(only)
    return folder


def split_folders(root: Path) -> dict[str, list[Path]]:
    """Return the folders in `root` that are named for a split, by canonical split.

    Where all of one lies in a folder in it, as in `seg_train/seg_train`, it is that.
    """
    named: dict[str, list[Path]] = {}
    for folder in folders_in(root):
        if split := split_of(folder.name):
            named.setdefault(split, []).append(_inner(folder))
    return named


def one_each(root: Path) -> dict[str, Path]:
    """Return the folder of each split.

    Raises:
        UserError: when a split has more than one, or there is none of train.
    """
    for split, folders in (named := split_folders(root)).items():
        if len(folders) > 1:
            names = ", ".join(f'"{f.relative_to(root)}"' for f in folders)
            raise UserError(f"{root}: more than one {split} folder: {names}; keep one, move the others elsewhere")
    if "train" not in named:
        raise UserError(f"{root}: no train folder beside {', '.join(f.name for (f,) in named.values())}; expected "
                        "train/ and val/")  # fmt: skip
    return {split: folder for split, (folder,) in named.items()}


def others(root: Path) -> list[Path]:
    """Return the folders in `root` that hold images and aren't named for a split, or for images without labels."""
    return [f for f in folders_in(root) if not split_of(f.name) and not _unlabelled(f.name) and any_image(f)]


def beside(root: Path, folders: Sequence[Path]) -> list[Problem]:
    """Say which images lie where the layout doesn't look: in `folders`, and directly in `root`."""
    folders = [*folders, *(f for f in folders_in(root) if _unlabelled(f.name) and any_image(f))]
    texts = [f"{f}: not a train, val or test folder; its images are left out" for f in folders]
    if images := images_in(root):
        texts.append(f"{root}: {counted(len(images), 'image')} beside the split folders left out (first: {images[0]})")
    return [Problem(text) for text in texts]


def empty(folder: Path, split: str) -> list[Problem]:
    """Say that the folder of a split has no images, if so."""
    if any_image(folder):
        return []
    return [Problem(f"{folder}: no images in this folder; put the {split} images there or remove it", split != "test")]
