"""Detail of grey squares at several resolutions: texture, its blurs, and bands of frequency."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter1d

_SPREAD = 2.0  # standard deviation in pixels of the blur that tells texture from shading
COARSEST = 16
"""Side in pixels of the squares that are laid over each other first."""


@cache
def _blur(side: int, spread: float) -> np.ndarray:
    """Return the matrix that blurs a line of `side` pixels, float32 [S,S]."""
    return gaussian_filter1d(np.eye(side, dtype=np.float32), spread, axis=0, mode="nearest")


def blurred(squares: np.ndarray, spread: float) -> np.ndarray:
    """Return squares, float32 [n,S,S], blurred by a Gaussian of `spread` pixels, edges repeated.

    Equal to `scipy.ndimage.gaussian_filter`; as matrix products, small squares take a fraction of its time.
    """
    matrix = _blur(squares.shape[1], spread)
    return matrix @ squares @ matrix.T


def texture(grey: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return grey squares, [n,S,S], as texture: local mean 0 and local deviation 1 at most, float32 [n,S,S].

    Local contrast normalisation (Jarrett, Kavukcuoglu, Ranzato and LeCun, ICCV 2009) with a floor under the deviation,
    `noise` [n] in grey levels: where an image is flat, its texture is near 0 instead of amplified noise.
    """
    high = grey.astype(np.float32)
    high -= blurred(high, _SPREAD)
    return high / np.sqrt(np.maximum(blurred(high**2, _SPREAD), 0) + noise[:, None, None] ** 2)


def halved(grey: np.ndarray) -> np.ndarray:
    """Return squares [n,S,S] of half the side: float32 [n,S/2,S/2]."""
    n, side = grey.shape[:2]
    return grey.reshape(n, side // 2, 2, side // 2, 2).mean((2, 4), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Level:
    """n squares at one resolution.

    Attributes:
        grey: float32 [n,S,S].
        texture: float32 [n,S,S]; see `texture`.
        noise: float32 [n]; as of `Thumbs`.
    """

    grey: np.ndarray
    texture: np.ndarray
    noise: np.ndarray

    def take(self, rows: np.ndarray, flips: np.ndarray | None = None) -> Level:
        """Return some of the squares, int [r], mirrored as `flips`, int [r], says."""
        grey, own = self.grey[rows], self.texture[rows]
        if flips is not None:
            grey, own = mirrored(grey, flips), mirrored(own, flips)
        return Level(grey, own, self.noise[rows])


def levels_of(grey: np.ndarray, noise: np.ndarray) -> list[Level]:
    """Return squares [n,S,S] at all resolutions, from COARSEST to S."""
    finest = Level(grey.astype(np.float32), texture(grey, noise), noise)
    return [finest] if grey.shape[1] <= COARSEST else [*levels_of(halved(grey), noise), finest]


def mirrored(squares: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Return squares [n,S,S] mirrored as `Frame.flips` says."""
    across = np.where((flips & 1 == 1)[:, None, None], squares[:, :, ::-1], squares)
    return np.where((flips & 2 == 2)[:, None, None], across[:, ::-1], across)
