"""Views: how stored images become the network's input, plainly or at random, a whole batch in one warp.

The parameters of a view are drawn per image on the CPU, from a key; torchvision's transforms draw once for a batch and
from a hidden state. All that moves pixels is one 3×3 matrix, so that a picture is interpolated once, whatever is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.keyed import uniform
from octavo.recipe import Augment

Resize = Literal["crop", "stretch"]
Drawn = Callable[[int, int], np.ndarray]  # (what for, how many) → uniform numbers [B, how many]
RENDER = 1  # version of what this module draws: to be raised when its pictures change, so that no old features serve
_KEPT = 7 / 8  # torchvision's evaluation presets resize to 256 and keep the central 224
_ALIASED = 1.5  # a tilted view that shrinks by more than this is taken from a smaller, filtered copy of the image
_TRIES = 10  # as in torchvision's RandomResizedCrop
_LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it
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


def _box(left: np.ndarray, top: np.ndarray, width: np.ndarray, height: np.ndarray, size: int) -> np.ndarray:
    """Return the matrices [B, 3, 3] that show a box of the image, in pixels, as size×size."""
    matrix = np.zeros((len(left), 3, 3))
    matrix[:, 0, 0], matrix[:, 0, 2] = width / size, left
    matrix[:, 1, 1], matrix[:, 1, 2] = height / size, top
    matrix[:, 2, 2] = 1
    return matrix


def _plain_box(sizes: np.ndarray, size: int, resize: Resize) -> np.ndarray:
    height, width = np.asarray(sizes, dtype=np.int64).T
    if resize == "stretch":
        zero = np.zeros(len(height))
        return _box(zero, zero, width, height, size)
    shorter = np.minimum(height, width)
    side = np.minimum(shorter, np.maximum(size, np.rint(shorter * _KEPT).astype(np.int64)))
    return _box((width - side) // 2, (height - side) // 2, side, side, size)


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
    """Return the matrices [B, 3, 3] of torchvision's RandomResizedCrop, without its rounding to whole pixels.

    Of ten draws the first that lies in the image is taken; if none does, the largest centred box of an allowed ratio.
    """
    assert augment.crop is not None
    height, width = np.asarray(sizes, dtype=np.float64).T
    low, high = augment.ratio
    draws = drawn(_CROP, 2 * _TRIES)
    area = (height * width)[:, None] * (augment.crop[0] + (augment.crop[1] - augment.crop[0]) * draws[:, :_TRIES])
    ratio = np.exp(np.log(low) + np.log(high / low) * draws[:, _TRIES:])
    wide, tall = np.sqrt(area * ratio), np.sqrt(area / ratio)
    fits = (wide <= width[:, None]) & (tall <= height[:, None])
    first, found = (np.arange(len(fits)), fits.argmax(axis=1)), fits.any(axis=1)
    wide = np.where(found, wide[first], np.minimum(width, height * high))
    tall = np.where(found, tall[first], np.minimum(height, width / low))
    place = np.where(found[:, None], drawn(_PLACE, 2), 0.5)
    return _box(place[:, 0] * (width - wide), place[:, 1] * (height - tall), wide, tall, size)


def _flip(flips: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Return matrices [B, 3, 3] that mirror the output along x (0) or y (1) where `flips` [B] is true."""
    matrix = np.tile(np.eye(3), (len(flips), 1, 1))
    matrix[flips, axis, axis], matrix[flips, axis, 2] = -1, size
    return matrix


def _rotation(degrees: np.ndarray, size: int) -> np.ndarray:
    """Return matrices [B, 3, 3] that turn the output about its centre, counter-clockwise for positive angles [B]."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.tile(np.eye(3), (len(degrees), 1, 1))
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 0, 2] = cos, -sin, size / 2 * (1 - cos + sin)
    matrix[:, 1, 0], matrix[:, 1, 1], matrix[:, 1, 2] = sin, cos, size / 2 * (1 - sin - cos)
    return matrix


def _perspective(moves: np.ndarray, size: int) -> np.ndarray:
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
    scale = np.array([size, size, 1.0])
    return np.linalg.inv(matrix) * scale[:, None] / scale


def draw(
    augment: Augment, seed: int, epoch: int, indices: np.ndarray, sizes: np.ndarray, size: int, resize: Resize
) -> Views:
    """Return random views, each a function of (seed, epoch, index) and of its own image's size alone.

    As if these were done one after another: random resized crop (without one, the plain view), horizontal and vertical
    flip, rotation, perspective, then brightness, contrast and saturation in a random order. Distributions are those of
    torchvision's RandomResizedCrop, RandomRotation, RandomPerspective and ColorJitter, not rounded to whole pixels.

    `indices` are int64 [B], the images' places in the data set; `sizes` and `size` are as in `plain`.
    """

    def drawn(key: int, n: int) -> np.ndarray:
        return uniform(seed, epoch, indices, key, n=n)

    matrix = _random_box(augment, drawn, sizes, size) if augment.crop else _plain_box(sizes, size, resize)
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


def render(pixels: Tensor, sizes: np.ndarray, views: Views, size: int) -> Tensor:
    """Return the pictures that `views` describe, float32 [B, 3, size, size] in [0, 1], on the device of `pixels`.

    Each picture depends on its own image and view alone. Pixels taken as they are come out exactly as stored / 255;
    upright views that shrink are filtered as Pillow's BILINEAR resize does (antialiased); all others are bilinear, with
    black outside of the image, and are taken from a filtered smaller copy where they shrink by more than 1.5.

    Args:
        pixels: uint8 [B, 3, H, W], each image in the top left corner.
        sizes: int [B, 2], height and width of each image within `pixels`.
        views: what to show of each image.
        size: side of the output in pixels, the one that the views were made for.
    """
    sizes, matrix = np.asarray(sizes, dtype=np.int64), views.matrix.numpy().astype(np.float64)
    upright = (matrix[:, [0, 1, 2, 2], [1, 0, 0, 1]] == 0).all(axis=1)
    scale, corner = matrix[:, [1, 0], [1, 0]], matrix[:, [1, 0], 2]
    exact = upright & ((scale == 1) & (corner % 1 == 0) & (corner >= 0) & (corner + size <= sizes)).all(axis=1)
    filtered = upright & ~exact & (np.abs(scale) > 1).any(axis=1)
    reduced = ~upright & (_shrinkage(matrix, size) > _ALIASED).any(axis=1)
    rest = ~(exact | filtered | reduced)
    methods = ((exact, _cut), (filtered, _filter), (reduced, _shrink), (rest, _sample))
    with torch.autocast(pixels.device.type, enabled=False):  # coordinates and pixels need float32's digits
        out = pixels.new_empty((len(sizes), 3, size, size), dtype=torch.float32)
        for chosen, method in methods:
            if chosen.all():
                out = method(pixels, sizes, matrix, size)
            elif chosen.any():
                rows = torch.from_numpy(np.flatnonzero(chosen)).to(pixels.device)
                out[rows] = method(pixels[rows], sizes[chosen], matrix[chosen], size).float()
        out = out.float().div_(255).clamp_(0, 1)
        return _recolour(out, views) if views.colour else out


def _shrinkage(matrix: np.ndarray, size: int) -> np.ndarray:
    """Return how many stored pixels, down and across, lie in one step of the output at its centre: [B, 2]."""
    centre = matrix @ np.array([size / 2, size / 2, 1.0])
    x_y = centre[:, :2, None] / centre[:, 2:, None]
    jacobian = (matrix[:, :2, :2] - x_y * matrix[:, 2:, :2]) / centre[:, 2:, None]
    return np.linalg.norm(jacobian, axis=2)[:, ::-1]


def _cut(images: Tensor, sizes: np.ndarray, matrix: np.ndarray, size: int) -> Tensor:
    corners = matrix[:, [1, 0], 2].astype(int).tolist()
    pieces = [image[:, y : y + size, x : x + size] for image, (y, x) in zip(images, corners, strict=True)]
    return torch.stack(pieces)


def _triangle(lengths: Tensor, start: Tensor, step: Tensor, n: int, stored: int) -> Tensor:
    """Return the weights [B, n, stored] of an antialiased resize along one axis, as Pillow's BILINEAR has them.

    The i-th output lies at start + step (i + 0.5); only the first `lengths` [B] of `stored` pixels count.
    """
    centre = start[:, None] + step[:, None] * (torch.arange(n, device=start.device) + 0.5)
    at = torch.arange(stored, device=start.device) + 0.5
    away = (at - centre[..., None]).abs_().div_(step.abs().clamp(min=1)[:, None, None])
    weights = (1 - away).clamp_(min=0).mul_((at < lengths[:, None])[:, None])
    return weights.div_(weights.sum(dim=-1, keepdim=True).clamp_(min=1e-6))


def _filter(images: Tensor, sizes: np.ndarray, matrix: np.ndarray, size: int) -> Tensor:
    """Return the upright views [B, 3, size, size] of the images, antialiased, by two matrix products."""
    count, _, height, width = images.shape
    length, step, start = (
        torch.from_numpy(v.astype(np.float32)).to(images.device)
        for v in (sizes, matrix[:, [1, 0], [1, 0]], matrix[:, [1, 0], 2])
    )
    rows = _triangle(length[:, 0], start[:, 0], step[:, 0], size, height)
    columns = _triangle(length[:, 1], start[:, 1], step[:, 1], size, width)
    across = torch.bmm(images.float().reshape(count, 3 * height, width), columns.mT)
    return torch.matmul(rows[:, None], across.view(count, 3, height, size))


def _shrink(images: Tensor, sizes: np.ndarray, matrix: np.ndarray, size: int) -> Tensor:
    smaller = np.ceil(sizes / np.maximum(_shrinkage(matrix, size), 1)).astype(np.int64)
    step = np.ones((len(sizes), 3, 1))
    step[:, :2, 0] = (sizes / smaller)[:, ::-1]
    return _sample(_filter(images, sizes, step * np.eye(3), int(smaller.max())), smaller, matrix / step, size)


def _sample(images: Tensor, sizes: np.ndarray, matrix: np.ndarray, size: int) -> Tensor:
    """Return [B, 3, size, size] read bilinearly from images [B, 3, H, W]; black outside of each image.

    Positions in the outer half of a border pixel read that pixel, so that an enlarged image has no dark seam and what
    lies beside the image in `images` is never seen. No matrix products or fused operations: the same bits in any batch.
    """
    m = torch.from_numpy(matrix.astype(np.float32)).to(images.device)[..., None, None]
    limit = torch.from_numpy(sizes.astype(np.float32)).to(images.device)[..., None, None]
    at = torch.arange(size, device=images.device, dtype=torch.float32) + 0.5
    across, down = at[None, None], at[None, :, None]
    x, y = (m[:, i, 0] * across + (m[:, i, 1] * down + m[:, i, 2]) for i in (0, 1))
    inside = torch.ones_like(x, dtype=torch.bool)
    if (matrix[:, 2] != (0, 0, 1)).any():
        z = m[:, 2, 0] * across + (m[:, 2, 1] * down + m[:, 2, 2])
        z.clamp_(min=1e-6)  # what lies beyond the horizon then falls far outside of the image
        x, y = x / z, y / z
    grid = torch.empty((*x.shape, 2), device=images.device)
    for axis, place in enumerate((x, y)):
        length = limit[:, 1 - axis]
        inside &= (place >= 0) & (place <= length)
        torch.minimum(place.clamp_(min=0.5), length - 0.5, out=grid[..., axis])
        grid[..., axis].mul_(2 / images.shape[3 - axis]).sub_(1)
    out = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return out.mul_(inside[:, None])


def _recolour(images: Tensor, views: Views) -> Tensor:
    """Change brightness, contrast and saturation as torchvision's adjust_* do, in each image's order, in place.

    Each is a blend, clamped to [0, 1], with black, with the mean grey, or with the image in grey.
    """
    order = views.order.to(images.device)
    factors = views.factors.to(images.device).gather(1, order)
    for stage in range(3):
        change, factor = order[:, stage, None, None], factors[:, stage, None, None]
        grey = images[:, 0] * _LUMA[0] + images[:, 1] * _LUMA[1] + images[:, 2] * _LUMA[2]
        mean = grey.mean(-1, keepdim=True).mean(-2, keepdim=True)  # by rows: the same bits in a batch of any size
        other = torch.where(change == 2, grey, mean).mul_((change > 0) * (1 - factor))
        images = images.mul_(factor[:, None]).add_(other[:, None]).clamp_(0, 1)
    return images


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return (images - mean) / std for each channel of images [B, 3, H, W]."""
    shape = (1, -1, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)
