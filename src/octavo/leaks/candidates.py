"""Which images may be one picture: for each of one part the nearest of another, among all windows of both."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from octavo.leaks.register import Pairs
from octavo.leaks.views import Frame

_BLOCK, _ROWS = 64, 4096
_APART = 0.125  # of the side between two guesses
Squares = tuple[np.ndarray, np.ndarray]
"""Grey squares, uint8 [n,S,S], and the noise of each in grey levels, float32 [n]."""
Tick = Callable[[int], None]
"""Told how many more images of those that are searched through are done."""


class Best:
    """The K nearest found so far, for each of n images."""

    def __init__(self, count: int, most: int) -> None:
        self.score = np.full((count, most), -np.inf, np.float32)
        self.place = np.full((count, most), -1, np.int64)

    def add(self, rows: slice, scores: np.ndarray, places: np.ndarray) -> None:
        """Take in `scores`, float32 [r,m], of the images `places`, int [m], for some rows."""
        both = np.concatenate([self.score[rows], scores], axis=1)
        where = np.concatenate([self.place[rows], np.broadcast_to(places, scores.shape)], axis=1)
        keep = np.argpartition(-both, self.score.shape[1] - 1, axis=1)[:, : self.score.shape[1]]
        self.score[rows] = np.take_along_axis(both, keep, 1)
        self.place[rows] = np.take_along_axis(where, keep, 1)


def nearest(
    first: Squares,
    second: Squares,
    frames: tuple[Frame, Frame],
    most: int,
    *,
    same: bool = False,
    tick: Tick = lambda _: None,
) -> Best:
    """Return for each of n squares the `most` likeliest near-duplicates among m others.

    Two images are as near as their nearest views. All are compared, in blocks, so that memory doesn't grow with n · m.

    Args:
        first: images that are looked for.
        second: images that are searched.
        frames: views of the first, and of the second.
        most: K.
        same: whether both are the same images, each of which is no duplicate of itself.
        tick: told how many images are done, n + m in all.
    """
    best = Best(len(first[0]), most)
    many, few = (0, 1) if len(frames[0]) >= len(frames[1]) else (1, 0)
    squares = (first, second)
    known = frames[few].describe(*squares[few]).transpose(1, 2, 0).copy()  # [V,D,n]
    grey, noise = squares[many]
    block = max(1, _BLOCK * 32 // len(frames[many]))
    for start in range(0, len(grey), block):
        views = frames[many].describe(grey[start : start + block], noise[start : start + block])
        for at in range(0, known.shape[2], _ROWS // 4):
            scores = _compare(views, known[:, :, at : at + _ROWS // 4])
            rows, columns = (start, at) if many == 0 else (at, start)
            scores = scores if many == 0 else scores.T
            if same:
                own = np.arange(rows, rows + scores.shape[0])[:, None] == np.arange(columns, columns + scores.shape[1])
                scores = np.where(own, -np.inf, scores)
            best.add(slice(rows, rows + scores.shape[0]), scores, np.arange(columns, columns + scores.shape[1]))
        tick(min(block, len(grey) - start))
    return best


def _compare(views: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return how alike r images, float32 [r,V,D], and m others, float32 [W,D,m], are by their nearest views: [r,m]."""
    rows, count, depth = views.shape
    flat = views.reshape(rows * count, depth)
    found = None
    for each in known:
        one = (flat @ each).reshape(rows, count, -1).max(1)
        found = one if found is None else np.maximum(found, one)
    assert found is not None
    return found


def guesses(
    first: Squares, second: Squares, rows: tuple[np.ndarray, np.ndarray], frames: tuple[Frame, Frame], count: int = 1
) -> list[Pairs]:
    """Return of n pairs of squares how the first may have become the second: `count` guesses, the likeliest first.

    Guesses of one pair lie an eighth of the side apart, or differ in the mirroring.

    Args:
        first: squares, and `second`: others.
        rows: int [n] of the first, int [n] of the second.
        frames: views of the first, and of the second.
        count: how many guesses.
    """
    one, two = frames[0].describe(*first)[rows[0]], frames[1].describe(*second)[rows[1]]
    scores = np.einsum("nvd,nwd->nvw", one, two, optimize=True).reshape(len(one), -1)
    flips, scale, shift = _moves(*frames)
    found = []
    for number in range(count):
        best = scores.argmax(1)
        found.append(Pairs(*rows, flips[best], scale[best], shift[best]))
        if number + 1 < count:
            near = (np.abs(shift[best][:, None] - shift).max(2) < _APART) & (flips[best][:, None] == flips)
            scores[near] = -np.inf
    return found


def _moves(first: Frame, second: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return flips int [VW], scale and shift float [VW,2] that make each view of the first each view of the second."""
    v, w = (place.ravel() for place in np.indices((len(first), len(second))))
    flips = first.flips[v] ^ second.flips[w]
    scale, shift = np.empty((len(v), 2)), np.empty((len(v), 2))
    for axis, (low, high) in enumerate((("left", "right"), ("top", "bottom"))):
        a, b = getattr(first, low)[v], getattr(first, high)[v]
        across = (flips >> axis) & 1 == 1
        a, b = np.where(across, 1 - b, a), np.where(across, 1 - a, b)
        c, d = getattr(second, low)[w], getattr(second, high)[w]
        scale[:, axis] = (b - a) / (d - c)
        shift[:, axis] = a - scale[:, axis] * c
    return flips, scale, shift
