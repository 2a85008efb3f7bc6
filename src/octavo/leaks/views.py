"""Windows of images, also mirrored, each described by a few coarse waves: what is compared with every other image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

WAVES = 8
"""Cosine waves along each side, the constant one included."""


@dataclass(frozen=True)
class Frame:
    """Windows onto an image, in units of its sides, and whether each is seen mirrored; V of them.

    Attributes:
        left, right, top, bottom: edges, float [V], 0–1.
        flips: int [V]: 0 as it is, 1 mirrored left to right, 2 upside down, 3 both.
    """

    left: np.ndarray
    right: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    flips: np.ndarray

    def __len__(self) -> int:
        return len(self.flips)

    @cached_property
    def _sides(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Distinct (left, right) and which of them each view has; the same of (top, bottom)."""
        across = np.unique(np.stack([self.left, self.right], 1), axis=0, return_inverse=True)
        down = np.unique(np.stack([self.top, self.bottom], 1), axis=0, return_inverse=True)
        return (across[0], across[1].ravel()), (down[0], down[1].ravel())

    def describe(self, grey: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Return what the views of n squares, uint8 [n,S,S], look like: float32 [n,V,D] of norm 1, or 0 where flat.

        Flat is where the waves are no stronger than `noise` [n] in grey levels.

        The coarsest terms of the discrete cosine transform of each window, those of low frequency damped as natural
        images have more of them.
        """
        (across, column), (down, row) = self._sides
        squares = grey.astype(np.float32)
        wide = np.einsum("xkt,nst->xnks", _waves(across, grey.shape[2]), squares, optimize=True)
        found = np.empty((len(grey), len(self), WAVES * WAVES - 1), np.float32)
        tall = _waves(down, grey.shape[1])
        for view in range(len(self)):
            terms = np.einsum("ks,njs->nkj", tall[row[view]], wide[column[view]], optimize=True) * _WEIGHTS
            if self.flips[view] & 1:
                terms[:, :, 1::2] *= -1
            if self.flips[view] & 2:
                terms[:, 1::2] *= -1
            found[:, view] = terms.reshape(len(grey), -1)[:, 1:]
        floor = noise[:, None, None]
        norms = np.linalg.norm(found, axis=2, keepdims=True)
        return np.where(norms >= floor, found / np.maximum(norms, floor), 0).astype(np.float32)


def _waves(edges: np.ndarray, side: int) -> np.ndarray:
    """Return cosine waves over windows of a line of `side` pixels, float32 [x,WAVES,side], orthonormal inside."""
    left, right = edges[:, :1] * side, edges[:, 1:] * side
    pixel = np.arange(side)
    share = np.clip(np.minimum(pixel + 1, right) - np.maximum(pixel, left), 0, 1)  # of each pixel inside
    place = (np.clip(pixel + 0.5, left, right) - left) / (right - left)
    waves = np.cos(np.pi * np.arange(WAVES)[:, None] * place[:, None, :]) * share[:, None, :]
    return (waves * np.sqrt(2) / (right - left)[:, :, None]).astype(np.float32)


_FREQUENCY = np.hypot(*np.indices((WAVES, WAVES)))
_WEIGHTS = _FREQUENCY.astype(np.float32)


def whole() -> Frame:
    """Return the one view of an image as it is."""
    return _frame([(0.0, 1.0, 0.0, 1.0)], (0,))


def crops() -> Frame:
    """Return the windows that hold 80 % of an image or more, some 5 % apart, each in the four mirrorings."""
    shapes = ((1.0, 1.0), (0.9, 1.0), (1.0, 0.9), (0.8, 1.0), (1.0, 0.8), (0.9, 0.9))
    boxes = [(x, x + wide, y, y + tall) for wide, tall in shapes for x in _starts(1 - wide) for y in _starts(1 - tall)]
    return _frame(boxes, (0, 1, 2, 3))


def _starts(room: float) -> np.ndarray:
    return np.linspace(0, room, round(room / 0.05) + 1)


def corners() -> Frame:
    """Return the four quarters of an image: of two tiles that share half of their area, one's quarter is in both."""
    return _frame([(x, x + 0.5, y, y + 0.5) for x in (0, 0.5) for y in (0, 0.5)], (0,))


def quarters() -> Frame:
    """Return windows of a quarter of the area, a sixteenth of the side apart."""
    starts = np.linspace(0, 0.5, 9)
    return _frame([(x, x + 0.5, y, y + 0.5) for x in starts for y in starts], (0,))


def _frame(boxes: list[tuple[float, float, float, float]], flips: tuple[int, ...]) -> Frame:
    edges = np.repeat(np.array(boxes, np.float64).round(6), len(flips), axis=0)
    left, right, top, bottom = edges.T
    return Frame(left, right, top, bottom, np.tile(np.array(flips), len(boxes)))
