"""Every image as a small grey square, with a name for its pixels; and what of the square is texture."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from octavo.data.store import Pixels
from octavo.progress import Progress
from octavo.threads import in_threads

SMALL, LARGE = 32, 64
"""Side of the squares, for data whose images are mostly below `LARGE` pixels, and for others."""
_SPREAD = 2.0  # standard deviation in pixels of the blur that tells texture from shading
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
    name = hashlib.blake2b(f"{image.shape}".encode(), digest_size=16)
    name.update(np.ascontiguousarray(image).data)
    whole = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    small = (
        whole.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3) if whole.size != (side, side) else whole
    )
    return np.asarray(small.convert("L")), name.digest()


def texture(grey: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return grey squares, [n,S,S], as texture: local mean 0 and local deviation 1 at most, float32 [n,S,S].

    Local contrast normalisation (Jarrett, Kavukcuoglu, Ranzato and LeCun, ICCV 2009) with a floor under the deviation,
    `noise` [n] in grey levels: where an image is flat, its texture is near 0 instead of amplified noise.
    """
    high = grey.astype(np.float32)
    spread = (0, _SPREAD, _SPREAD)
    high -= gaussian_filter(high, spread, mode="nearest")
    return high / np.sqrt(gaussian_filter(high**2, spread, mode="nearest") + noise[:, None, None] ** 2)


def halved(grey: np.ndarray) -> np.ndarray:
    """Return squares [n,S,S] of half the side: float32 [n,S/2,S/2]."""
    n, side = grey.shape[:2]
    return grey.reshape(n, side // 2, 2, side // 2, 2).mean((2, 4), dtype=np.float32)
