"""Image registration: one square laid over another by shift and scale along each side, and how well they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from octavo.leaks.detail import Level, blurred

_STEPS = ((1.5, 4), (0.0, 4))  # blur in pixels, iterations
_TERMS = 6
_STRIDE = 1.0  # pixels that one step may go
_BLUR, _CUTS = 1.0, 4  # pixels of blur before squares are compared, since JPEG changes what is finest; blocks a side
_BANDS = ((1.0, 2.0, 0.35), (2.0, 4.0, 0.3))  # blurs in pixels between which detail lies, share of the noise in it
_ALIKE, _UNLIKE = (
    0.5,
    (0.7, 0.65),
)  # similarity of squares, residual of the coarsest and of others, to go on to finer ones


@dataclass(frozen=True, eq=False)
class _Rows:
    """Arrays [n, …] that belong together row by row."""

    def take(self, rows: np.ndarray) -> Self:
        """Return some of the rows."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Fits(_Rows):
    """How n pairs of squares lie over each other.

    Attributes:
        scale: float [n,2]: a point x of the second lies at scale · x + shift of the first, in units of sides; (x, y).
        shift: float [n,2].
        shared: float [n]: share of the second's area that the first shows.
        similarity: float [n], 0–1: correlation of their texture there: the mean of that of the whole and that of
            sixteen blocks, so that a frame around both isn't enough.
        weight: float [n]: mean square of the texture of that which has less.
        residual: float [n], 0–1: amplitude of the detail that they don't share, as a part of all detail, less what
            noise explains; about 0 of copies.
    """

    scale: np.ndarray
    shift: np.ndarray
    shared: np.ndarray
    similarity: np.ndarray
    weight: np.ndarray
    residual: np.ndarray


@dataclass(frozen=True, eq=False)
class Pairs(_Rows):
    """n pairs of squares, and how the first of each may have become the second.

    Attributes:
        first, second: int [n]: rows among the squares.
        flips: int [n], as `Frame.flips`: how the first is mirrored before it is laid over the second.
        scale, shift: float [n,2], as in `Fits`.
    """

    first: np.ndarray
    second: np.ndarray
    flips: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


def register(first: Sequence[Level], second: Sequence[Level], pairs: Pairs) -> tuple[np.ndarray, Fits]:
    """Return which of n pairs may be one picture, int [r], and how these lie over each other, from a first guess.

    Gauss-Newton steps on the squared difference (Lucas and Kanade, IJCAI 1981), a gain and an offset beside, first on
    blurred squares. As shift and scale act along the sides, a square is resampled by a matrix product on each side.
    Pairs that differ in coarse squares aren't looked at in finer ones.

    Args:
        first: the squares of all first images, from coarse ones to fine ones; the similarity is that of the finest, or
            of three the mean of the last two.
        second: the squares of all second images.
        pairs: what is laid over each other, and from where.
    """
    kept, start, before = np.arange(len(pairs.first)), (pairs.scale, pairs.shift), np.empty(0)
    for number, (ones, twos) in enumerate(zip(first[:-1], second[:-1], strict=True)):
        fits = _fitted(ones, twos, pairs, start)
        good = np.flatnonzero((fits.similarity >= _ALIKE) & (fits.residual <= _UNLIKE[number > 0]))
        pairs = replace(pairs, scale=fits.scale, shift=fits.shift).take(good)
        kept, start, before = kept[good], (start[0][good], start[1][good]), fits.similarity[good]
    fits = _fitted(first[-1], second[-1], pairs, start)
    return kept, replace(fits, similarity=(fits.similarity + before) / 2) if len(first) > 2 else fits


def _fitted(first: Level, second: Level, pairs: Pairs, start: tuple[np.ndarray, np.ndarray]) -> Fits:
    one, two = first.take(pairs.first, pairs.flips), second.take(pairs.second)
    return _judge(one, two, *_settled(one.texture, two.texture, pairs, start))


def _settled(
    first: np.ndarray, second: np.ndarray, pairs: Pairs, start: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and shift, float [n,2], that lay textures [n,S,S] over each other, near those of the start."""
    scale, shift = pairs.scale.astype(np.float64), pairs.shift.astype(np.float64)
    for blur, steps in _STEPS:
        a, b = (blurred(t, blur) if blur else t for t in (first, second))
        slopes = np.stack([a, np.gradient(a, axis=2), np.gradient(a, axis=1)], axis=1)
        for _ in range(steps):
            _improve(slopes, b, scale, shift)
            # A guess is off by little; what runs away from it is no copy.
            np.clip(scale, start[0] * 0.85, start[0] / 0.85, out=scale)
            np.clip(shift, start[1] - 0.12, start[1] + 0.12, out=shift)
    return scale, shift


def _improve(slopes: np.ndarray, b: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> None:
    """Take one step, in place, from the first squares and their slopes along x and y, [n,3,S,S], to the second ones."""
    n, _, side, _ = slopes.shape
    (x, in_x), (y, in_y) = (_rows(scale[:, i], shift[:, i], side) for i in (0, 1))
    columns = np.empty((n, _TERMS, side, side), np.float32)  # 0 outside of what both show
    columns[:, :3] = y[:, None] @ (slopes @ x.transpose(0, 2, 1)[:, None])
    place = ((np.arange(side) + 0.5) / side).astype(np.float32)
    columns[:, 3] = columns[:, 1] * place
    columns[:, 4] = columns[:, 2] * place[:, None]
    columns[:, 5] = in_y[:, :, None] * in_x[:, None, :]
    flat = columns.reshape(n, _TERMS, side * side)
    normal, target = flat @ flat.transpose(0, 2, 1), flat @ b.reshape(n, side * side, 1)
    ridge = 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] / _TERMS * np.eye(_TERMS) + 1e-6 * np.eye(_TERMS)
    solved = np.linalg.solve(normal.astype(np.float64) + ridge, target.astype(np.float64))[..., 0]
    gain = np.maximum(solved[:, :1], 0.2)
    step = np.clip(solved[:, 1:5] / gain, -_STRIDE, _STRIDE) / side  # slopes are per pixel
    shift += step[:, [0, 1]]
    scale += step[:, [2, 3]]


def _rows(scale: np.ndarray, shift: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix that resamples a line linearly, float32 [n,S,S], and which points lie inside, float32 [n,S].

    Rows of points outside are 0.
    """
    place = (np.arange(side) + 0.5) / side
    at = ((scale[:, None] * place + shift[:, None]) * side - 0.5).astype(np.float32)
    inside = ((at > -0.75) & (at < side - 0.25)).astype(np.float32)
    rows = np.clip(at, 0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32)
    np.abs(rows, out=rows)
    np.subtract(1, rows, out=rows)
    np.maximum(rows, 0, out=rows)
    return rows * inside[:, :, None], inside


def _judge(first: Level, second: Level, scale: np.ndarray, shift: np.ndarray) -> Fits:
    side = first.grey.shape[1]
    (x, in_x), (y, in_y) = (_rows(scale[:, i], shift[:, i], side) for i in (0, 1))
    across, mask = x.transpose(0, 2, 1), in_y[:, :, None] * in_x[:, None, :]
    planes = [_blocks(plane) for plane in (y @ blurred(first.texture, _BLUR) @ across,
                                           blurred(second.texture, _BLUR), mask)]  # fmt: skip
    parts, strength = _correlation(*planes)
    entire, weight = _correlation(*(plane.reshape(len(mask), 1, side * side) for plane in planes))
    by_block = (parts * np.sqrt(strength)).sum(1) / np.maximum(np.sqrt(strength).sum(1), 1e-9)
    similarity = np.clip((entire[:, 0] + by_block) / 2, 0, 1)
    noise = np.maximum(first.noise, second.noise)
    residual = _residual(y @ first.grey @ across, second.grey, mask, noise)
    return Fits(scale, shift, mask.mean((1, 2)), similarity, weight[:, 0] / side**2, residual)


def _residual(first: np.ndarray, second: np.ndarray, mask: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return `Fits.residual` of n pairs of grey squares, [n,S,S], that are laid over each other where the mask is 1."""
    found = np.zeros(len(mask))
    ends = sorted({end for low, high, _ in _BANDS for end in (low, high)})
    shares = {end: np.maximum(blurred(mask, end), 1e-3) for end in ends}
    ones, twos = ({end: blurred(t * mask, end) / shares[end] for end in ends} for t in (first, second))
    for low, high, part in _BANDS:
        a, b = ((blurs[low] - blurs[high]) * mask for blurs in (ones, twos))
        powers = (a**2).sum((1, 2)), (b**2).sum((1, 2))
        cosine = np.clip((a * b).sum((1, 2)) / np.sqrt(np.maximum(powers[0] * powers[1], 1e-9)), 0, 1)
        power = np.minimum(*powers) / np.maximum(mask.sum((1, 2)), 1)
        found += np.maximum(1 - cosine**2 - (part * noise) ** 2 / np.maximum(power, 1e-9), 0)
    return np.sqrt(found / len(_BANDS))


def _blocks(squares: np.ndarray) -> np.ndarray:
    """Cut squares [n,S,S] into 16 blocks: [n,16,S²/16]."""
    n, side = squares.shape[:2]
    cut = squares.reshape(n, _CUTS, side // _CUTS, _CUTS, side // _CUTS)
    return cut.transpose(0, 1, 3, 2, 4).reshape(n, _CUTS**2, (side // _CUTS) ** 2)


def _correlation(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation along the last axis where the mask is 1, and the weaker one's sum of squares there."""
    count = np.maximum(mask.sum(-1, keepdims=True), 1)
    one, two = ((t - (t * mask).sum(-1, keepdims=True) / count) * mask for t in (a, b))
    powers = (one**2).sum(-1), (two**2).sum(-1)
    return (one * two).sum(-1) / np.sqrt(np.maximum(powers[0] * powers[1], 1e-9)), np.minimum(*powers)
