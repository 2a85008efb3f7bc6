"""Folders that look like classes and aren't: splits, parts, images beside masks, frames; refused with what to do."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from octavo.data.foreign import annotated
from octavo.data.layouts import split_word
from octavo.data.walk import any_image, folders_in, images_in

_PARTS = {"part", "parts", "batch", "batches", "chunk", "shard", "images", "image", "img", "imgs", "photos", "photo",
          "pictures", "picture", "pics", "data", "dataset", "jpg", "jpeg", "jpegs", "png", "pngs", "rgb", "raw",
          "thumbs", "thumbnails", "original", "originals", "resized", "cropped", "augmented", "frames", "folder", "dir",
          "jpegimages"}  # fmt: skip
"""Words in the names of folders that hold images of all classes."""
_SERIES = {"session", "set", "seq", "sequence", "day", "series", "video", "clip", "scene", "s"}
"""Words in the names of folders that divide one class."""
_STEMS = {"img", "image", "images", "dsc", "dscn", "dscf", "dcim", "pxl", "photo", "pic", "picture", "frame",
          "screenshot", "vid", "video", "scan", "tile", "patch", "crop", "slice", "sat", "satellite", "mask", "masks",
          "label", "labels", "seg", "segmentation", "gt", "annot", "annotation", "groundtruth", "depth", "rgb", "left",
          "right"}  # fmt: skip
"""What cameras and tools put before the number of a file: no class."""
_IMAGE_WORDS = {"image", "images", "img", "imgs", "rgb", "photo", "photos", "input", "inputs"}
_MASK_STEMS = {"mask", "masks", "label", "labels", "seg", "segmentation", "gt", "annot", "annotation", "groundtruth"}


def words(name: str) -> list[str]:
    """Return the words of a name, in lower case, without digits."""
    return re.findall(r"[a-z]+", name.lower())


def class_folders(root: Path, folders: Sequence[Path]) -> str | None:
    """Return why these folders are no classes, in one line; None where nothing speaks against it."""
    folders = [folder for folder in folders if any_image(folder)]
    names = [folder.name for folder in folders]
    if masked := _masked(names):
        return (
            f"{root}: {_quoted(masked)} look like images and their masks, not like classes; put them into images/ and "
            "masks/ to segment, move the masks elsewhere to classify, or give --layout folders if they are classes"
        )
    if found := next((folder for folder in folders if _holds_masks(folder)), None):
        return (
            f"{found}: looks like images and their masks, not like a class; move the masks elsewhere to classify, or "
            "give --layout folders if they are images of the class"
        )
    if splits := _splits(names):
        return (
            f"{root}: {_quoted(splits)} look like splits, not like classes, but no classes lie in them; call them "
            "train, val and test, with a folder a class in each, or give --layout folders if they are classes"
        )
    if len(names) > 1 and all(set(words(name)) & _PARTS and _part(name) for name in names):
        return (
            f"{root}: {_quoted(names)} look like parts of one set of images, not like classes; sort the images into a "
            "folder a class, list them in a CSV image,label, or give --layout folders if these are the classes"
        )
    return _nested(root, folders)


def _holds_masks(folder: Path) -> bool:
    """Tell whether a folder has images and their masks in folders of their own."""
    names = [set(words(f.name)) for f in folders_in(folder) if any_image(f)]
    return any(name & _IMAGE_WORDS for name in names) and any(
        name & _MASK_STEMS and not name & _IMAGE_WORDS for name in names
    )


def _masked(names: Collection[str]) -> list[str]:
    """Return a name of images and one of their masks: `img` and `mask`, `images_png` and `masks_png`, `x`, `x_mask`."""
    plain = {name: set(words(name)) for name in names}
    for name, found in plain.items():
        rest = found - _MASK_STEMS
        if rest == found or not (words(name)[-1] in _MASK_STEMS or rest <= _PARTS):
            continue
        for other, own in plain.items():
            if own and not own & _MASK_STEMS and (own == rest or (own & _IMAGE_WORDS and own - _IMAGE_WORDS == rest)):
                return [other, name]
    return []


def _part(name: str) -> bool:
    """Tell whether a folder is called as one part of the images: `images_001`, `ham_images_part_1`, `photos`."""
    found = set(words(name))
    return found <= _PARTS or bool(found & {"part", "batch", "chunk", "shard"} and re.search(r"\d", name))


def _splits(names: Sequence[str]) -> list[str]:
    """Return the names that are splits of the same thing: `seg_train` and `seg_test`, `cats_train` and `cats_val`."""
    rests: dict[str, dict[str, str]] = {}
    for name in names:
        if hit := split_word(name):
            rests.setdefault(hit[1], {})[hit[0]] = name
    for rest, found in rests.items():
        if len(found) > 1 or (rest == "" and not set(map(str.lower, found.values())) <= {"train", "val", "test"}):
            return list(found.values())
    return []


def _nested(root: Path, folders: Sequence[Path]) -> str | None:
    """Say that all folders hold folders of the same names: then either these are the classes or those."""
    inner = [{f.name for f in folders_in(deep(folder)) if any_image(f)} for folder in folders if not images_in(folder)]
    if own := [f for f in folders if deep(f) == f / f.name and sum(map(any_image, folders_in(deep(f)))) > 1]:
        return (
            f"{own[0]}: holds nothing but a folder of its own name, with folders in it; name the folder that holds the "
            "classes as the data, or give --layout folders if it is a class"
        )
    if len(folders) < 2 or len(inner) < len(folders):
        return None
    shared, every = set.intersection(*inner), set.union(*inner)
    if len(shared) < 2 or 2 * len(shared) < len(every):
        return None
    some = sorted(shared)
    if all(split_word(name) for name in shared):
        return (
            f"{root}: each folder holds {_quoted(some)}; expected the splits above the classes, as in train/CLASS; "
            "move them, or give --layout folders to read them as one set"
        )
    outer_words = any(words(folder.name) for folder in folders)
    if all(set(words(name)) <= _PARTS | _SERIES for name in shared) and outer_words:
        return None
    return (
        f"{root}: {_quoted([f.name for f in folders])} all hold the same folders {_quoted(some)}: one of the two are "
        "the classes; name one of the outer folders as the data, or give --layout folders if the outer are the classes"
    )


def deep(folder: Path) -> Path:
    """Return the folder below in which folders branch, or the deepest one before images."""
    full = [f for f in folders_in(folder) if any_image(f)]
    return deep(full[0]) if len(full) == 1 and not images_in(folder) and not images_in(full[0]) else folder


def prefixes(root: Path, folders: Iterable[Path], names: Collection[str]) -> str | None:
    """Return why the beginnings of file names in `folders` are no classes, in one line; None if nothing says so."""
    plain = {re.sub(r"[\W_]", "", name.lower()) for name in names}
    if masked := _masked(names):
        return (
            f"{root}: {_quoted(masked)} before the files' numbers look like images and masks, not like classes; put "
            "the images into images/ and the masks into masks/ to segment"
        )
    if len(names) > 1 and plain <= _STEMS:
        advice = (
            "put the images into images/ and the masks into masks/ to segment"
            if plain & _MASK_STEMS
            else "sort the images into a folder a class, or list them in a CSV image,label"
        )
        return f"{root}: {_quoted(sorted(names))} before the files' numbers look like no classes; {advice}"
    if splits := _splits(sorted(names)):
        return (
            f"{root}: {_quoted(splits)} before the files' numbers look like splits, not like classes; sort the images "
            "into train/CLASS and val/CLASS, or list them in a CSV image,label,split"
        )
    why = next(filter(None, map(annotated, folders)), None)
    return f"{root}: {why}" if why else None


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names[:5]) + (", …" if len(names) > 5 else "")
