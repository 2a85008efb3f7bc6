"""One image laid over another: shift and scale along each side, and how well the two agree there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

_STEPS = ((1.5, 6), (0.0, 5))  # blur in pixels, iterations
_TERMS = 6
_STRIDE = 1.0  # pixels that one step may go
_BLUR, _CUTS = 1.0, 4  # pixels of blur before squares are compared, since JPEG changes what is finest; blocks a side


@dataclass(frozen=True, eq=False)
class Fits:
    """How n pairs of squares lie over each other.

    Attributes:
        scale: float [n,2]: a point x of the second lies at scale · x + shift of the first, in units of sides; (x, y).
        shift: float [n,2].
        shared: float [n]: share of the second's area that the first shows.
        similarity: float [n], 0–1: correlation of their texture there: the mean of that of the whole and that of
            sixteen blocks, so that a frame around both isn't enough.
        weight: float [n]: mean square of the texture of that which has less.
    """

    scale: np.ndarray
    shift: np.ndarray
    shared: np.ndarray
    similarity: np.ndarray
    weight: np.ndarray


def register(levels: Sequence[tuple[np.ndarray, np.ndarray]], scale: np.ndarray, shift: np.ndarray) -> Fits:
    """Return how textures lie over each other, found from a first guess.

    Gauss-Newton steps on the squared difference (Lucas and Kanade, IJCAI 1981), a gain and an offset beside, first on
    blurred squares. As shift and scale act along the sides, a square is resampled by a matrix product on each side.

    Args:
        levels: textures of the first, mirrored already where it is to be, and of the second, float32 [n,S,S], from
            coarse squares to fine ones; they are judged on the last, or of three on the mean of the last two.
        scale: float [n,2], as in `Fits`.
        shift: float [n,2].
    """
    scale, shift = scale.astype(np.float64).copy(), shift.astype(np.float64).copy()
    start = scale.copy(), shift.copy()
    for first, second in levels:
        for blur, steps in _STEPS:
            a, b = (gaussian_filter(t, (0, blur, blur), mode="nearest") if blur else t for t in (first, second))
            for _ in range(steps):
                _improve(a, b, scale, shift)
                # A guess is off by little; what runs away from it is no copy.
                np.clip(scale, start[0] * 0.85, start[0] / 0.85, out=scale)
                np.clip(shift, start[1] - 0.12, start[1] + 0.12, out=shift)
    fine = _judge(*levels[-1], scale, shift)
    if len(levels) <= 2:
        return fine
    coarse = _judge(*levels[-2], scale, shift)
    return replace(fine, similarity=(fine.similarity + coarse.similarity) / 2)


def _improve(a: np.ndarray, b: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> None:
    """Take one step, in place."""
    side = a.shape[1]
    (x, slope_x, in_x), (y, slope_y, in_y) = (_rows(scale[:, i], shift[:, i], side) for i in (0, 1))
    mask = (in_y[:, :, None] * in_x[:, None, :]).reshape(len(a), 1, -1)
    ax = a @ x.transpose(0, 2, 1)
    here, down, right = y @ ax, slope_y @ ax, y @ (a @ slope_x.transpose(0, 2, 1))
    place = ((np.arange(side) + 0.5) / side).astype(np.float32)
    columns = np.stack([here, np.ones_like(here), right, right * place, down, down * place[:, None]], axis=1).reshape(
        len(a), _TERMS, -1
    )
    weighted = columns * mask
    normal = weighted @ columns.transpose(0, 2, 1)
    target = weighted @ b.reshape(len(a), -1, 1)
    ridge = 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] / _TERMS * np.eye(_TERMS) + 1e-6 * np.eye(_TERMS)
    solved = np.linalg.solve(normal.astype(np.float64) + ridge, target.astype(np.float64))[..., 0]
    gain = np.maximum(solved[:, :1], 0.2)
    step = np.clip(solved[:, 2:] / gain, -_STRIDE, _STRIDE) / side  # slopes are per pixel
    shift += step[:, [0, 2]]
    scale += step[:, [1, 3]]


def _rows(scale: np.ndarray, shift: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the matrix that resamples a line linearly, its derivative by the shift, and which points lie inside.

    Returns:
        float32 [n,S,S], float32 [n,S,S], float32 [n,S].
    """
    place = (np.arange(side) + 0.5) / side
    at = (scale[:, None] * place + shift[:, None]) * side - 0.5
    inside = ((at > -0.75) & (at < side - 0.25)).astype(np.float32)
    distance = np.clip(at, 0, side - 1)[:, :, None] - np.arange(side)
    rows = np.maximum(1 - np.abs(distance), 0).astype(np.float32)
    return rows, rows @ np.gradient(np.eye(side, dtype=np.float32), axis=0), inside


def _judge(first: np.ndarray, second: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> Fits:
    a, b = (np.asarray(gaussian_filter(t, (0, _BLUR, _BLUR), mode="nearest")) for t in (first, second))
    (x, _, in_x), (y, _, in_y) = (_rows(scale[:, i], shift[:, i], a.shape[1]) for i in (0, 1))
    mask = in_y[:, :, None] * in_x[:, None, :]
    planes = [_blocks(plane) for plane in (y @ a @ x.transpose(0, 2, 1), b, mask)]
    parts, strength = _correlation(*planes)
    entire, weight = _correlation(*(plane.reshape(len(a), 1, -1) for plane in planes))
    by_block = (parts * np.sqrt(strength)).sum(1) / np.maximum(np.sqrt(strength).sum(1), 1e-9)
    similarity = np.clip((entire[:, 0] + by_block) / 2, 0, 1)
    return Fits(scale, shift, mask.mean((1, 2)), similarity, weight[:, 0] / a.shape[1] ** 2)


def _blocks(squares: np.ndarray) -> np.ndarray:
    """Cut squares [n,S,S] into 16 blocks: [n,16,S²/16]."""
    n, side = squares.shape[:2]
    cut = squares.reshape(n, _CUTS, side // _CUTS, _CUTS, side // _CUTS)
    return cut.transpose(0, 1, 3, 2, 4).reshape(n, _CUTS**2, -1)


def _correlation(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation along the last axis where the mask is 1, and the weaker one's sum of squares there."""
    count = np.maximum(mask.sum(-1, keepdims=True), 1)
    one, two = ((t - (t * mask).sum(-1, keepdims=True) / count) * mask for t in (a, b))
    powers = (one**2).sum(-1), (two**2).sum(-1)
    return (one * two).sum(-1) / np.sqrt(np.maximum(powers[0] * powers[1], 1e-9)), np.minimum(*powers)
