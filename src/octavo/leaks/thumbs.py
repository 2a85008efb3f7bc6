"""Small grey squares, one an image, with a name for its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from octavo.data.store import Pixels
from octavo.progress import Progress
from octavo.threads import in_threads

SMALL, LARGE = 32, 64
"""Side of the squares, for data whose images are mostly below `LARGE` pixels, and for others."""
_NOISE, _LEAST = 4.0, 0.7  # grey levels: what JPEG adds to a pixel, so that less is no texture; what averaging leaves
_GROUP = 64


@dataclass(frozen=True, eq=False)
class Thumbs:
    """n images as squares of S pixels.

    Attributes:
        grey: uint8 [n,S,S]: luma, stretched to the square.
        noise: float32 [n]: grey levels below which there is no texture to be seen; less where many pixels became one.
        names: bytes that are equal for images of equal pixels and sizes.
    """

    grey: np.ndarray
    noise: np.ndarray
    names: tuple[bytes, ...]

    @property
    def side(self) -> int:
        """S."""
        return self.grey.shape[1]


def thumbs_of(pixels: Pixels, chosen: np.ndarray, progress: Progress) -> Thumbs:
    """Return the squares of the images `chosen`, int [n], each read once."""
    sizes = pixels.sizes[chosen]
    side = LARGE if len(sizes) and np.median(sizes.min(1)) >= LARGE else SMALL
    grey, names = np.zeros((len(chosen), side, side), np.uint8), []

    def group(start: int) -> list[tuple[np.ndarray, bytes]]:
        return [_small(pixels.image(int(i)), side) for i in chosen[start : start + _GROUP]]

    for some in in_threads(group, range(0, len(chosen), _GROUP)):
        for square, name in some:
            grey[len(names)] = square
            names.append(name)
        progress("look for leaks: read", len(names), len(chosen))
    noise = np.clip(_NOISE * side / np.maximum(sizes.min(1), 1), _LEAST, _NOISE).astype(np.float32)
    return Thumbs(grey, noise, tuple(names))


def _small(image: np.ndarray, side: int) -> tuple[np.ndarray, bytes]:
    """Return the square and the name of an image, uint8 [3,H,W]."""
    planes = np.ascontiguousarray(image)
    name = hashlib.blake2b(f"{image.shape}".encode(), digest_size=16)
    name.update(planes.data)
    luma = Image.merge("RGB", [Image.fromarray(plane) for plane in planes]).convert("L")
    small = luma if luma.size == (side, side) else luma.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3)
    return np.asarray(small), name.digest()
