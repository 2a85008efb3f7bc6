"""Images as a caller gives them, one or many, in one order and under one name each, decoded in batches."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from octavo.data.batches import Batch
from octavo.data.formats import IMAGE_SUFFIXES
from octavo.data.memory_images import MemoryImage, decode_in_memory, require_array
from octavo.data.rgb import BrokenImage
from octavo.data.store import ImageDecoder, decoded
from octavo.data.unread import unread_below
from octavo.data.walk import images_at
from octavo.engine.infer import AT_ONCE
from octavo.engine.restore import batch_of
from octavo.errors import UserError
from octavo.threads import in_threads

ImageInput: TypeAlias = str | Path | MemoryImage
"""A path of an image file or a folder, an encoded image, a Pillow image, or pixels uint8 [H,W,3] or [H,W]."""
Images: TypeAlias = ImageInput | Sequence[ImageInput]
"""One or many of them."""
_EXPECTED = "a path, an encoded image as bytes, a Pillow image, or a NumPy array uint8 [H,W,3] or [H,W]"


@dataclass(frozen=True, eq=False)
class GivenImage:
    """One image.

    Attributes:
        name: a file's path below the folder that was given, or its file name; `images[3]` of what was given in memory.
        image: the file, or what was given.
    """

    name: str
    image: Path | MemoryImage


@dataclass(frozen=True, eq=False)
class GivenImages:
    """What a caller gave.

    Attributes:
        images: the images, files of folders in natural order, each file once.
        paths: the files and folders that were given.
    """

    images: tuple[GivenImage, ...]
    paths: tuple[Path, ...]

    @property
    def unread(self) -> str:
        """In a line, files in the folders that are no images, by their endings; empty where there are none."""
        return unread_below([path for path in self.paths if path.is_dir()], images=False)


def given(images: Images) -> GivenImages:
    """Return what a caller gave as a list of images with names.

    Raises:
        UserError: a path where there is nothing, nothing at all, or what isn't an image, by its place.
    """
    items = _items(images)
    paths, found = tuple(Path(item) for item in items if isinstance(item, str | Path)), list[Path | MemoryImage]()
    seen: set[Path] = set()
    names: dict[int, str] = {}  # place in `found` → name of what is in memory
    for index, item in enumerate(items):
        if isinstance(item, str | Path):
            files = [file for file in dict.fromkeys(images_at(Path(item))) if file not in seen]
            seen.update(files)
            found += files
        else:
            names[len(found)] = f"images[{index}]"
            found.append(item)
    if not found:
        where = ", ".join(map(str, paths)) or "images"
        raise UserError(f"{where}: no images found; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    ids = short_names([image for image in found if isinstance(image, Path)], paths)
    listed = (GivenImage(ids[i] if isinstance(i, Path) else names[place], i) for place, i in enumerate(found))
    return GivenImages(tuple(listed), paths)


def _items(images: Images) -> list[ImageInput]:
    """Return one image or many as a list; arrays are looked at, bytes and Pillow images when they are decoded."""
    items: list[object] = [images]
    if isinstance(images, Sequence | Iterator) and not isinstance(images, str | bytes | bytearray | memoryview):
        items = [*images]
    return [_item(item, f"images[{place}]") for place, item in enumerate(items)]


def _item(item: object, where: str) -> ImageInput:
    if isinstance(item, np.ndarray):
        try:
            require_array(item)
        except BrokenImage as error:
            raise UserError(f"{where}: {error}") from None
        return item
    if isinstance(item, str | Path | bytes | Image.Image):
        return item
    if isinstance(item, bytearray | memoryview):
        return bytes(item)
    if isinstance(item, os.PathLike):
        return Path(item)
    raise UserError(f"{where}: a {type(item).__name__}; expected {_EXPECTED}")


def short_names(paths: Sequence[Path], listed: Sequence[str | Path]) -> dict[Path, str]:
    """Return each image's name: its path below the folder that was given, or its file name.

    Where two images would have the same name, both are called by their whole path as it was given.
    """
    roots = {root for root in map(Path, listed) if root.is_dir()}

    def short(path: Path) -> str:
        root = next((parent for parent in reversed(path.parents) if parent in roots), path.parent)
        return path.relative_to(root).as_posix()

    names = {path: short(path) for path in paths}
    count = Counter(names.values())
    return {path: name if count[name] == 1 else path.as_posix() for path, name in names.items()}


def batches(
    images: Sequence[GivenImage], decoder: ImageDecoder, errors: dict[str, str], at_once: int = AT_ONCE
) -> Iterator[tuple[int, list[str], Batch | None]]:
    """Yield (images done, names of those that could be read, their batch); files that can't be read go into `errors`.

    Raises:
        UserError: an image in memory can't be decoded.
    """
    stream = zip(images, _decoded(images, decoder), strict=True)
    done = 0
    while group := list(islice(stream, at_once)):
        done += len(group)
        errors |= {each.name: pixels for each, pixels in group if isinstance(pixels, str)}
        good = [(each.name, pixels) for each, pixels in group if not isinstance(pixels, str)]
        yield done, [name for name, _ in good], batch_of([pixels for _, pixels in good]) if good else None


def require_readable(errors: Mapping[str, str], images: Sequence[GivenImage]) -> None:
    """Refuse to go on where a file couldn't be read.

    Raises:
        UserError: which, by its path, and why.
    """
    for name, reason in errors.items():
        path = next(each.image for each in images if each.name == name)
        raise UserError(f"{path}: {reason}")


def _decoded(images: Sequence[GivenImage], decoder: ImageDecoder) -> Iterator[np.ndarray | str]:
    """Yield each image's pixels, uint8 [H, W, 3], in order; of a file that is broken the reason."""

    def in_memory(given: GivenImage) -> np.ndarray:
        assert not isinstance(given.image, Path)
        try:
            return decode_in_memory(given.image, side=decoder.side, scale=decoder.scale)
        except BrokenImage as error:
            raise UserError(f"{given.name}: {error}") from None

    for on_disk, group in groupby(images, lambda each: isinstance(each.image, Path)):
        alike = list(group)
        if on_disk:
            yield from decoded([each.image for each in alike if isinstance(each.image, Path)], decoder)
        elif len(alike) == 1:
            yield in_memory(alike[0])  # for one image a thread would cost more than it takes
        else:
            yield from in_threads(in_memory, alike)
