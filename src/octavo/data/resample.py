"""How the pixels of a view are found in a stored image: cut out, filtered, or read between pixels.

A view is a matrix [3, 3] from places in the output to places in the image, both in pixels, as `augment.Views` has it.
Each way gives the pictures of several images at once, [B, 3, H, W] with values 0–255.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.data.augment import Size

_LARGE = 1 << 20  # pixels of a stored image beyond which no more of it becomes floats than its view reads
_WHOLE = 1e-3  # of a pixel: how far float32 may miss a whole one


def _edges(matrix: np.ndarray, size: Size) -> np.ndarray:
    """Return where upright views begin and end, [B, 2 (begin, end), 2 (down, across)]: begin > end where mirrored."""
    scale, corner = matrix[:, [1, 0], [1, 0]], matrix[:, [1, 0], 2]
    return np.stack([corner, corner + scale * size], axis=1)


def on(device: torch.device, values: np.ndarray) -> Tensor:
    """Return an array on a device, without waiting for what a GPU is still computing."""
    return torch.from_numpy(values).to(device, non_blocking=device.type == "cuda")


def boxed(matrix: np.ndarray, sizes: np.ndarray, size: Size) -> np.ndarray:
    """Tell which upright views show a box of whole pixels within the image, bool [B]."""
    edges = _edges(matrix, size)
    whole = np.abs(edges - np.rint(edges)) < _WHOLE
    inside = (edges > -0.5) & (edges < sizes[:, None] + 0.5)
    return np.asarray((whole & inside).all(axis=(1, 2)))


def shrinkage(matrix: np.ndarray, size: Size) -> np.ndarray:
    """Return how many stored pixels, down and across, lie in one step of the output at its centre: [B, 2]."""
    centre = matrix @ np.array([size[1] / 2, size[0] / 2, 1.0])
    x_y = centre[:, :2, None] / centre[:, 2:, None]
    jacobian = (matrix[:, :2, :2] - x_y * matrix[:, 2:, :2]) / centre[:, 2:, None]
    return np.linalg.norm(jacobian, axis=2)[:, ::-1]


def cut(images: Tensor, sizes: np.ndarray, matrix: np.ndarray, size: Size) -> Tensor:
    """Return boxes of whole pixels, resized where they are of another size, and mirrored, as bytes [B, 3, H, W]."""
    edges = np.rint(_edges(matrix, size)).astype(int)
    out = images.new_empty((len(images), 3, *size))
    (tops, lefts), (bottoms, rights) = (edges.min(axis=1).T.tolist(), edges.max(axis=1).T.tolist())
    mirrored = (edges[:, 0] > edges[:, 1]).tolist()
    boxes = zip(images, out, tops, bottoms, lefts, rights, mirrored, strict=True)
    for image, place, top, bottom, left, right, (down, across) in boxes:
        piece = _resized(image[None, :, top:bottom, left:right], size)[0]
        axes = [axis for axis, turned in ((1, down), (2, across)) if turned]
        place.copy_(piece.flip(axes) if axes else piece)
    return out


def cut_at_once(images: Tensor, sizes: np.ndarray, matrix: np.ndarray, size: Size) -> Tensor:
    """Return the same, to one level of grey, by two matrix products: for a GPU, whose resize doesn't take bytes."""
    images, _, matrix = _part(images, sizes, matrix, size, np.zeros((len(sizes), 2)))
    edges = np.rint(_edges(matrix, size))
    begin, step = edges[:, 0], (edges[:, 1] - edges[:, 0]) / size
    return _weighed(images, edges.min(axis=1), edges.max(axis=1), begin, step, size).round_().clamp_(0, 255).byte()


def _resized(image: Tensor, size: Size) -> Tensor:
    """Return bytes [1, 3, H, W] of a CPU at another size: bilinear, antialiased."""
    if image.shape[2:] == size:
        return image
    factor = max(old / new for old, new in zip(image.shape[2:], size, strict=True))
    # PyTorch's arithmetic on bytes fails on lines of pixels, and has too few digits for strong reductions.
    given = image if min(*size, *image.shape[2:]) > 1 and factor < 8 else image.float()
    out = F.interpolate(given, size=size, mode="bilinear", antialias=True)
    return out if out.dtype == torch.uint8 else out.round_().clamp_(0, 255).byte()


def _triangle(axis: Tensor, n: int, stored: int) -> Tensor:
    """Return the weights [B, n, stored] of an antialiased resize along one axis, as Pillow's BILINEAR has them.

    `axis` [4, B] are first, last, start and step: the i-th output lies at start + step (i + 0.5), and only the pixels
    from first to last, of `stored`, count.
    """
    first, last, start, step = axis
    centre = start[:, None] + step[:, None] * (torch.arange(n, device=start.device) + 0.5)
    at = torch.arange(stored, device=start.device) + 0.5
    away = (at - centre[..., None]).abs_().div_(step.abs().clamp(min=1)[:, None, None])
    weights = (1 - away).clamp_(min=0).mul_(((at > first[:, None]) & (at < last[:, None]))[:, None])
    return weights.div_(weights.sum(dim=-1, keepdim=True).clamp_(min=1e-6))


def _weighed(
    images: Tensor, first: np.ndarray, last: np.ndarray, start: np.ndarray, step: np.ndarray, size: Size
) -> Tensor:
    """Return [B, 3, H, W] from images by two matrix products; the others are [B, 2], down and across (`_triangle`)."""
    count, _, height, width = images.shape
    down, across = on(images.device, np.stack([first, last, start, step]).astype(np.float32)).unbind(-1)
    rows, columns = _triangle(down, size[0], height), _triangle(across, size[1], width)
    wide = torch.bmm(images.float().reshape(count, 3 * height, width), columns.mT)
    return torch.matmul(rows[:, None], wide.view(count, 3, height, size[1]))


def filtered(images: Tensor, sizes: np.ndarray, matrix: np.ndarray, size: Size) -> Tensor:
    """Return the upright views [B, 3, H, W] of the images, antialiased."""
    reach = np.maximum(np.abs(matrix[:, [1, 0], [1, 0]]), 1)  # a triangle's half width, in stored pixels
    images, sizes, matrix = _part(images, sizes, matrix, size, reach)
    return _weighed(images, np.zeros_like(sizes), sizes, matrix[:, [1, 0], 2], matrix[:, [1, 0], [1, 0]], size)


def _smaller(sizes: np.ndarray, matrix: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return the sizes int64 [B, 2] of copies that tilted views are taken from, and stored pixels in one of theirs."""
    smaller = np.ceil(sizes / np.maximum(shrinkage(matrix, size), 1)).astype(np.int64)
    step = np.ones((len(sizes), 3, 1))
    step[:, :2, 0] = (sizes / smaller)[:, ::-1]
    return smaller, step


def _read_in_copy(sizes: np.ndarray, matrix: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return `_read` of the copies that `_smaller` gives."""
    smaller, step = _smaller(sizes, matrix, size)
    return _read(matrix / step, smaller, size, np.zeros((len(sizes), 2)), sizes)


def read_whole(sizes: np.ndarray, matrix: np.ndarray, size: Size) -> np.ndarray:
    """Tell of which images a tilted view reads the whole copy, bool [B]."""
    first, last = _read_in_copy(sizes, matrix, size)
    return np.asarray(((first == 0) & (last == _smaller(sizes, matrix, size)[0])).all(axis=1))


def shrink(images: Tensor, sizes: np.ndarray, matrix: np.ndarray, size: Size) -> Tensor:
    """Return tilted views [B, 3, H, W], read from smaller copies of the images, in bytes."""
    smaller, step = _smaller(sizes, matrix, size)
    copies = images.new_zeros((len(images), 3, *smaller.max(axis=0).tolist()))
    for copy, image, (height, width), (tall, wide) in zip(
        copies, images, sizes.tolist(), smaller.tolist(), strict=True
    ):
        copy[:, :tall, :wide] = _resized(image[None, :, :height, :width], (tall, wide))[0]
    return sample(copies, smaller, matrix / step, size)


def shrink_part(images: Tensor, sizes: np.ndarray, matrix: np.ndarray, size: Size) -> Tensor:
    """Return the same of views that read a part of their copy: no more than that is made, in floats."""
    _, step = _smaller(sizes, matrix, size)
    first, last = _read_in_copy(sizes, matrix, size)
    canvas = (int((last - first).max()), int((last - first).max()))
    view = step * np.eye(3)
    view[:, :2, 2] = step[:, :2, 0] * first[:, ::-1]
    return sample(filtered(images, sizes, view, canvas), last - first, _moved(matrix / step, first), size)


def _part(
    images: Tensor, sizes: np.ndarray, matrix: np.ndarray, size: Size, reach: np.ndarray
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Return the images cut to what their views read, with their sizes and matrices; as they are if none is large.

    `reach` [B, 2] is how many stored pixels, down and across, are read around a place.
    """
    first, last = _read(matrix, sizes, size, reach, sizes)
    if (first == 0).all() and (last == sizes).all():
        return images, sizes, matrix
    parts = images.new_zeros((len(images), 3, *(last - first).max(axis=0).tolist()))
    for part, image, (top, left), (bottom, right) in zip(parts, images, first.tolist(), last.tolist(), strict=True):
        part[:, : bottom - top, : right - left] = image[:, top:bottom, left:right]
    return parts, last - first, _moved(matrix, first)


def _read(
    matrix: np.ndarray, sizes: np.ndarray, size: Size, reach: np.ndarray, stored: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row and column of each image that its view reads and those after the last, int64 [B, 2] each.

    Of images that are `stored` in no more than `_LARGE` pixels, and of views that have a horizon, that is all of it.
    Between an inner edge and what is read lie two pixels more than `reach`, so that no edge is taken for the image's.
    """
    height, width = size
    corners = matrix @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]], np.float64)
    all_of_it = (np.prod(stored, axis=1) <= _LARGE) | (corners[:, 2] <= 1e-6).any(axis=1)
    y_x = corners[:, 1::-1] / np.maximum(corners[:, 2:], 1e-6)  # a view is convex, so its corners bound it
    first = np.clip(np.floor(y_x.min(axis=2) - reach) - 2, 0, sizes - 1).astype(np.int64)
    last = np.clip(np.ceil(y_x.max(axis=2) + reach) + 2, first + 1, sizes).astype(np.int64)
    return np.where(all_of_it[:, None], 0, first), np.where(all_of_it[:, None], sizes, last)


def _moved(matrix: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the matrices [B, 3, 3] into images that begin at row and column `first` [B, 2] of the stored ones."""
    away = np.tile(np.eye(3), (len(first), 1, 1))
    away[:, :2, 2] = -first[:, ::-1]
    return away @ matrix


def sample(images: Tensor, sizes: np.ndarray, matrix: np.ndarray, size: Size) -> Tensor:
    """Return [B, 3, H, W] read bilinearly from images [B, 3, H, W]; black outside of each image.

    Positions in the outer half of a border pixel read that pixel, so that an enlarged image has no dark seam and what
    lies beside the image in `images` is never seen. No matrix products or fused operations: in any batch the same, up
    to the rounding of places in a canvas of another size (4e-6).
    """
    images, sizes, matrix = _part(images, sizes, matrix, size, np.ones((len(sizes), 2)))
    m = on(images.device, matrix.astype(np.float32))[..., None, None]
    limit = on(images.device, sizes.astype(np.float32))[..., None, None]
    x, y = places(m, matrix, size)
    inside = torch.ones_like(x, dtype=torch.bool)
    grid = torch.empty((*x.shape, 2), device=images.device)
    for axis, place in enumerate((x, y)):
        length = limit[:, 1 - axis]
        inside &= (place >= 0) & (place <= length)
        torch.minimum(place.clamp_(min=0.5), length - 0.5, out=grid[..., axis])
        grid[..., axis].mul_(2 / images.shape[3 - axis]).sub_(1)
    out = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return out.mul_(inside[:, None])


def places(m: Tensor, matrix: np.ndarray, size: Size) -> tuple[Tensor, Tensor]:
    """Return x and y [B, H, W] in the image of each pixel of the output.

    `m` is `matrix` as float32 [B, 3, 3, 1, 1] on the device.
    """
    down, across = (torch.arange(n, device=m.device, dtype=torch.float32) + 0.5 for n in size)
    across, down = across[None, None], down[None, :, None]
    x, y = (m[:, i, 0] * across + (m[:, i, 1] * down + m[:, i, 2]) for i in (0, 1))
    if (matrix[:, 2] != (0, 0, 1)).any():
        z = m[:, 2, 0] * across + (m[:, 2, 1] * down + m[:, 2, 2])
        z.clamp_(min=1e-6)  # what lies beyond the horizon then falls far outside of the image
        x, y = x / z, y / z
    return x, y
