"""Views made into pixels: images, and their masks with them, a whole batch in one warp on its device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from octavo.data.augment import Size, Views
from octavo.data.classes import IGNORE
from octavo.data.resample import (
    boxed,
    cut,
    cut_at_once,
    filtered,
    on,
    places,
    read_whole,
    sample,
    shrink,
    shrink_part,
    shrinkage,
)

RENDER = 3
"""Version of what is drawn here, in `augment` and in `resample`, raised when pictures change, so that no old features
serve."""
_ALIASED = 1.5  # a tilted view that shrinks by more than this is taken from a smaller, filtered copy of the image
_AT_ONCE = 1 << 18  # pixels of output that a CPU makes at once, so that what is between stays in its caches
_LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it


def render(pixels: Tensor, sizes: np.ndarray, views: Views, size: int | Size) -> Tensor:
    """Return the pictures that `views` describe, float32 [B, 3, H, W] in [0, 1], on the device of `pixels`.

    Each picture depends on its own image and view alone (on a GPU to one level of grey). Pixels taken as they are come
    out exactly as stored / 255, mirrored ones too. Upright views of whole pixels are cut out and resized as torchvision
    and Pillow resize bytes (bilinear, antialiased, rounded to bytes); other upright views that shrink are filtered
    alike, without rounding; all others are bilinear, with black outside of the image, and are taken from a filtered
    smaller copy where they shrink by more than 1.5. Of large images no more becomes floats than the view reads: memory
    is bounded by output and view, not by what is stored.

    Args:
        pixels: uint8 [B, 3, H, W], each image in the top left corner.
        sizes: int [B, 2], height and width of each image within `pixels`.
        views: what to show of each image.
        size: side, or height and width, of the output in pixels, the one that the views were made for.
    """
    size = (size, size) if isinstance(size, int) else size
    count = max(1, _AT_ONCE // (size[0] * size[1])) if pixels.device.type == "cpu" else len(sizes)
    if count >= len(sizes):
        return _render(pixels, sizes, views, size)
    out = pixels.new_empty((len(sizes), 3, *size), dtype=torch.float32)
    for start in range(0, len(sizes), count):
        part = slice(start, start + count)
        out[part] = _render(pixels[part], sizes[part], views.some(part), size)
    return out


def _render(pixels: Tensor, sizes: np.ndarray, views: Views, size: Size) -> Tensor:
    sizes, matrix = np.asarray(sizes, dtype=np.int64), views.matrix.numpy().astype(np.float64)
    upright = (matrix[:, [0, 1, 2, 2], [1, 0, 0, 1]] == 0).all(axis=1)
    scale = matrix[:, [1, 0], [1, 0]]
    whole = upright & boxed(matrix, sizes, size)
    shrinks = upright & ~whole & (np.abs(scale) > 1).any(axis=1)
    reduced = ~upright & (shrinkage(matrix, size) > _ALIASED).any(axis=1)
    rest = ~(whole | shrinks | reduced)
    one_by_one = pixels.device.type == "cpu"  # a GPU filters a batch at once, and has no resize of bytes
    copied = read_whole(sizes, matrix, size) & one_by_one
    methods = (
        (whole, cut if one_by_one else cut_at_once),
        (shrinks, filtered),
        (reduced & copied, shrink),
        (reduced & ~copied, shrink_part),
        (rest, sample),
    )
    with torch.autocast(pixels.device.type, enabled=False):  # coordinates and pixels need float32's digits
        out = pixels.new_empty((len(sizes), 3, *size), dtype=torch.float32)
        for chosen, method in methods:
            if chosen.all():
                out = method(pixels, sizes, matrix, size).float()
            elif chosen.any():
                rows = on(pixels.device, np.flatnonzero(chosen))
                out[rows] = method(pixels[rows], sizes[chosen], matrix[chosen], size).float()
        out = out.div_(255)
        if not whole.all():
            out = out.clamp_(0, 1)
        return _recolour(out, views) if views.colour else out


def render_masks(masks: Tensor, sizes: np.ndarray, image_sizes: np.ndarray, views: Views, size: Size) -> Tensor:
    """Return the masks under the same views as their images, int64 [B, H, W]: never interpolated, `IGNORE` outside.

    Args:
        masks: uint8 [B, H', W'], each in the top left corner.
        sizes: int [B, 2], height and width of each mask within `masks`; a mask may be larger than its image.
        image_sizes: int [B, 2], height and width of the images, for which the views were made.
        views: what to show of each image.
        size: height and width of the output in pixels.
    """
    matrix = views.matrix.numpy().astype(np.float64)
    enlarged = np.asarray(sizes, np.float64) / np.asarray(image_sizes, np.float64)
    matrix = matrix * np.concatenate([enlarged[:, ::-1], np.ones((len(enlarged), 1))], axis=1)[:, :, None]
    m = on(masks.device, matrix.astype(np.float32))[..., None, None]
    x, y = places(m, matrix, size)
    limit = on(masks.device, np.asarray(sizes, np.int64))[..., None, None]
    column, row = x.floor().long(), y.floor().long()
    inside = (column >= 0) & (column < limit[:, 1]) & (row >= 0) & (row < limit[:, 0])
    place = (row.clamp_(0, masks.shape[1] - 1) * masks.shape[2] + column.clamp_(0, masks.shape[2] - 1)).flatten(1)
    found = masks.flatten(1).gather(1, place).view_as(inside).long()
    return torch.where(inside, found, IGNORE)


def _recolour(images: Tensor, views: Views) -> Tensor:
    """Change brightness, contrast and saturation as torchvision's adjust_* do, in each image's order, in place.

    Each is a blend, clamped to [0, 1], with black, with the mean grey, or with the image in grey.
    """
    order = on(images.device, views.order.numpy())
    factors = on(images.device, views.factors.numpy()).gather(1, order)
    for stage in range(3):
        change, factor = order[:, stage, None, None], factors[:, stage, None, None]
        grey = images[:, 0] * _LUMA[0] + images[:, 1] * _LUMA[1] + images[:, 2] * _LUMA[2]
        mean = grey.mean(-1, keepdim=True).mean(-2, keepdim=True)  # by rows: the same bits in a batch of any size
        other = torch.where(change == 2, grey, mean).mul_((change > 0) * (1 - factor))
        images = images.mul_(factor[:, None]).add_(other[:, None]).clamp_(0, 1)
    return images


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return (images - mean) / std for each channel of images [B, 3, H, W], which are changed in place."""
    means, stds = on(images.device, np.array([mean, std], np.float32))[..., None, None]
    return images.sub_(means).div_(stds)
