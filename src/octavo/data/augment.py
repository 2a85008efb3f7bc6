"""Views: how stored images become the network's input, plainly or at random, a whole batch in one warp.

The parameters of a view are drawn per image on the CPU, from a key; torchvision's transforms draw once for a batch and
from a hidden state. All that moves pixels is one 3×3 matrix, so that a picture is interpolated once, whatever is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from octavo.keyed import uniform
from octavo.recipe import Augment, Changes, SegmentAugment

Resize = Literal["crop", "stretch"]
Size = tuple[int, int]  # height and width of the output, in pixels
Drawn = Callable[[int, int], np.ndarray]  # (what for, how many) → uniform numbers [B, how many]
_KEPT = 7 / 8  # torchvision's evaluation presets resize to 256 and keep the central 224
_TRIES = 10  # as in torchvision's RandomResizedCrop
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
_HFLIP, _VFLIP, _ROTATION, _CROP, _PLACE, _TILTED, _TILT, _COLOUR, _ORDER = range(9)  # one key for each thing drawn


@dataclass(frozen=True)
class Views:
    """What to show of each image of a batch; all on the CPU, `render` moves what it needs.

    Pixel coordinates are (x, y) with the centre of the first pixel at (0.5, 0.5).
    """

    matrix: Tensor
    """float32 [B, 3, 3]: homography from the coordinates of the output to those of the stored image."""
    factors: Tensor
    """float32 [B, 3]: factors of brightness, contrast and saturation; 1 changes nothing."""
    order: Tensor
    """int64 [B, 3]: the order in which brightness (0), contrast (1) and saturation (2) are changed."""
    colour: bool
    """Whether any factor differs from 1."""

    def some(self, rows: slice) -> Views:
        """Return the views of some of the images."""
        return Views(self.matrix[rows], self.factors[rows], self.order[rows], self.colour)


def _box(left: np.ndarray, top: np.ndarray, width: np.ndarray, height: np.ndarray, size: Size) -> np.ndarray:
    """Return the matrices [B, 3, 3] that show a box of the image, in pixels, as an output of that size."""
    matrix = np.zeros((len(left), 3, 3))
    matrix[:, 0, 0], matrix[:, 0, 2] = width / size[1], left
    matrix[:, 1, 1], matrix[:, 1, 2] = height / size[0], top
    matrix[:, 2, 2] = 1
    return matrix


def _plain_box(sizes: np.ndarray, size: int, resize: Resize) -> np.ndarray:
    height, width = np.asarray(sizes, dtype=np.int64).T
    if resize == "stretch":
        zero = np.zeros(len(height))
        return _box(zero, zero, width, height, (size, size))
    shorter = np.minimum(height, width)
    side = np.minimum(shorter, np.maximum(size, np.rint(shorter * _KEPT).astype(np.int64)))
    return _box((width - side) // 2, (height - side) // 2, side, side, (size, size))


def _views(matrix: np.ndarray, factors: np.ndarray, order: np.ndarray) -> Views:
    return Views(
        matrix=torch.from_numpy(matrix.astype(np.float32)),
        factors=torch.from_numpy(factors.astype(np.float32)),
        order=torch.from_numpy(order.astype(np.int64)),
        colour=bool((factors != 1).any()),
    )


def plain(sizes: np.ndarray, size: int, resize: Resize) -> Views:
    """Return the views without chance, those that are evaluated.

    `stretch` shows the whole image. `crop` shows the centre square whose side is 7/8 of the image's shorter side (what
    torchvision's presets show, 224 of 256), but never fewer pixels than `size` while the image has them: if its shorter
    side is at most `size`, the whole of it is shown; if it is at most 8/7 of `size`, pixels are taken as they are.

    `sizes` are int [B, 2], height and width of each stored image; `size` is the side of the output in pixels.
    """
    matrix = _plain_box(sizes, size, resize)
    return _views(matrix, np.ones((len(matrix), 3)), np.tile(np.arange(3), (len(matrix), 1)))


def _random_box(augment: Augment, drawn: Drawn, sizes: np.ndarray, size: int) -> np.ndarray:
    """Return the matrices [B, 3, 3] of torchvision's RandomResizedCrop: boxes of whole pixels.

    Of ten draws the first that lies in the image is taken; if none does, the largest centred box of an allowed ratio.
    """
    assert augment.crop is not None
    height, width = np.asarray(sizes, dtype=np.float64).T
    low, high = augment.ratio
    draws = drawn(_CROP, 2 * _TRIES)
    area = (height * width)[:, None] * (augment.crop[0] + (augment.crop[1] - augment.crop[0]) * draws[:, :_TRIES])
    ratio = np.exp(np.log(low) + np.log(high / low) * draws[:, _TRIES:])
    wide, tall = np.sqrt(area * ratio), np.sqrt(area / ratio)
    wide, tall = np.maximum(np.rint(wide), 1), np.maximum(np.rint(tall), 1)
    fits = (wide <= width[:, None]) & (tall <= height[:, None])
    first, found = (np.arange(len(fits)), fits.argmax(axis=1)), fits.any(axis=1)
    wide = np.where(found, wide[first], np.maximum(np.rint(np.minimum(width, height * high)), 1))
    tall = np.where(found, tall[first], np.maximum(np.rint(np.minimum(height, width / low)), 1))
    room, place = np.stack([width - wide, height - tall], axis=1), drawn(_PLACE, 2)
    left, top = np.where(found[:, None], np.floor(place * (room + 1)), np.floor(room / 2)).T
    return _box(left, top, wide, tall, (size, size))


def _scaled_box(augment: SegmentAugment, drawn: Drawn, sizes: np.ndarray, size: Size) -> np.ndarray:
    """Return the matrices [B, 3, 3] of crops from images enlarged by a random factor; without one, of whole pixels.

    Where the image is smaller than the crop, it lies at a random place within it.
    """
    room = np.asarray(sizes, dtype=np.float64)
    low, high = augment.scale
    box = np.array(size) / np.exp(np.log(low) + np.log(high / low) * drawn(_CROP, 1))
    left = room - box
    place = drawn(_PLACE, 2)[:, ::-1]
    corner = place * left if high > low else np.floor(place * (left + np.where(left < 0, 0, 1)))
    return _box(corner[:, 1], corner[:, 0], box[:, 1], box[:, 0], size)


def _flip(flips: np.ndarray, axis: int, size: Size) -> np.ndarray:
    """Return matrices [B, 3, 3] that mirror the output along x (0) or y (1) where `flips` [B] is true."""
    matrix = np.tile(np.eye(3), (len(flips), 1, 1))
    matrix[flips, axis, axis], matrix[flips, axis, 2] = -1, size[1 - axis]
    return matrix


def _rotation(degrees: np.ndarray, size: Size) -> np.ndarray:
    """Return matrices [B, 3, 3] that turn the output about its centre, counter-clockwise for positive angles [B]."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    y, x = size[0] / 2, size[1] / 2
    matrix = np.tile(np.eye(3), (len(degrees), 1, 1))
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 0, 2] = cos, -sin, x * (1 - cos) + y * sin
    matrix[:, 1, 0], matrix[:, 1, 1], matrix[:, 1, 2] = sin, cos, y * (1 - cos) - x * sin
    return matrix


def _perspective(moves: np.ndarray, size: Size) -> np.ndarray:
    """Return the homographies [B, 3, 3] that move the corners inward by `moves` [B, 4, 2], in shares of the side.

    Corners go clockwise from the top left. Closed form from the unit square (Heckbert, Fundamentals of Texture Mapping
    and Image Warping, 1989, section 2.2.3), then inverted: the last coordinate is positive where the picture is seen.
    """
    quad = _CORNERS + moves * (1 - 2 * _CORNERS)
    origin, right, left = quad[:, 0], quad[:, 1], quad[:, 3]
    sides = np.stack([right - quad[:, 2], left - quad[:, 2]], axis=-1)
    tilt = np.linalg.solve(sides, (origin - right + quad[:, 2] - left)[..., None])[..., 0]
    matrix = np.tile(np.eye(3), (len(moves), 1, 1))
    matrix[:, :2, 0] = right - origin + tilt[:, :1] * right
    matrix[:, :2, 1] = left - origin + tilt[:, 1:] * left
    matrix[:, :2, 2], matrix[:, 2, :2] = origin, tilt
    scale = np.array([size[1], size[0], 1.0])
    return np.linalg.inv(matrix) * scale[:, None] / scale


def draw(
    augment: Augment, seed: int, epoch: int, indices: np.ndarray, sizes: np.ndarray, size: int, resize: Resize
) -> Views:
    """Return random views, each a function of (seed, epoch, index) and of its own image's size alone.

    As if these were done one after another: random resized crop (without one, the plain view), horizontal and vertical
    flip, rotation, perspective, then brightness, contrast and saturation in a random order. Distributions are those of
    torchvision's RandomResizedCrop, RandomRotation, RandomPerspective and ColorJitter.

    `indices` are int64 [B], the images' places in the data set; `sizes` and `size` are as in `plain`.
    """
    drawn = _drawing(seed, epoch, indices)
    matrix = _random_box(augment, drawn, sizes, size) if augment.crop else _plain_box(sizes, size, resize)
    return _changed(matrix, augment, drawn, (size, size))


def draw_crop(
    augment: SegmentAugment, seed: int, epoch: int | np.ndarray, indices: np.ndarray, sizes: np.ndarray, size: Size
) -> Views:
    """Return random views of crops: scale, place, and then what `draw` does, each a function of (seed, epoch, index).

    A factor is drawn log-uniformly from `augment.scale`, the image enlarged by it, and a crop of `size` (height, width)
    taken at a uniformly random place. `epoch` may be one for each image, int64 [B].
    """
    drawn = _drawing(seed, epoch, indices)
    return _changed(_scaled_box(augment, drawn, sizes, size), augment, drawn, size)


def whole(sizes: np.ndarray, size: Size) -> Views:
    """Return the views that show each image whole, of `sizes` [B, 2], as an output of `size`, without chance."""
    height, width = np.asarray(sizes, dtype=np.float64).T
    matrix = _box(np.zeros(len(height)), np.zeros(len(height)), width, height, size)
    return _views(matrix, np.ones((len(matrix), 3)), np.tile(np.arange(3), (len(matrix), 1)))


def _drawing(seed: int, epoch: int | np.ndarray, indices: np.ndarray) -> Drawn:
    def drawn(key: int, n: int) -> np.ndarray:
        return uniform(seed, epoch, indices, key, n=n)

    return drawn


def _changed(matrix: np.ndarray, augment: Changes, drawn: Drawn, size: Size) -> Views:
    """Return the views of boxes with the random changes that every task has."""
    if augment.hflip:
        matrix = matrix @ _flip(drawn(_HFLIP, 1)[:, 0] < augment.hflip, 0, size)
    if augment.vflip:
        matrix = matrix @ _flip(drawn(_VFLIP, 1)[:, 0] < augment.vflip, 1, size)
    if augment.rotation:
        matrix = matrix @ _rotation(augment.rotation * (2 * drawn(_ROTATION, 1)[:, 0] - 1), size)
    if augment.perspective and augment.perspective_p:
        tilted = drawn(_TILTED, 1) < augment.perspective_p
        moves = np.where(tilted, augment.perspective / 2 * drawn(_TILT, 8), 0).reshape(-1, 4, 2)
        matrix = matrix @ np.where(tilted[..., None], _perspective(moves, size), np.eye(3))
    ranges = np.array([augment.brightness, augment.contrast, augment.saturation])
    factors = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * drawn(_COLOUR, 3)
    return _views(matrix, factors, np.argsort(drawn(_ORDER, 3), axis=1))
