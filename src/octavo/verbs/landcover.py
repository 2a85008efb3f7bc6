"""Synthetic land cover: pictures a little like the course's satellite images, with masks that are exactly right.

Nothing here is a photograph. Regions are thresholded noise; each class has a texture of its own, and colours that
others have too, so that a pixel's colour alone doesn't tell its class. All of a tile follows from its number.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from octavo.keyed import seed_of

SIDE = 128
"""Pixels along each side of a tile."""
UNKNOWN = 6
"""Id of what can't be seen: clouds."""

_SHARES = (0.17, 0.27, 0.17, 0.18, 0.08, 0.13)  # how often a class is among those of a tile, by id
_CLOUDY, _RIVER = 0.1, 0.3  # shares of tiles
_CROPS = np.array(
    [(92, 112, 62), (70, 96, 56), (126, 128, 74), (158, 142, 98), (182, 164, 122), (122, 98, 76), (104, 84, 68)], float
)
_ROOFS = np.array([(176, 172, 166), (150, 96, 80), (128, 118, 112), (206, 202, 196), (112, 104, 104)], float)
_LEAVES = np.array([(58, 84, 50), (78, 98, 56), (112, 102, 62)], float)
_WATERS = np.array([(44, 74, 98), (70, 92, 78), (128, 118, 92)], float)
_BARE = np.array([(204, 186, 150), (160, 156, 150), (150, 122, 98)], float)


def tile(number: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Return picture uint8 [S,S,3] and ids uint8 [S,S] of a tile; ids are the places of the course's classes, 0–6."""
    rng = np.random.Generator(np.random.Philox(seed_of("landcover", number)))
    ids, ground = _regions(rng, side), np.zeros((side, side, 3))
    for land in np.unique(ids):
        ground = np.where(ids[..., None] == land, _LANDS[land](rng, side), ground)
    ground = gaussian_filter(ground, (0.5, 0.5, 0))
    if rng.random() < _CLOUDY:
        cover = np.clip((_rough(rng, side, side / 8) - 1.4) / 0.4, 0, 1)
        ground += cover[..., None] * (235 - ground)
        ids[cover > 0.5] = UNKNOWN
    return _seen(rng, ground), ids


def _regions(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return ids uint8 [S,S]: two to four classes, each where its own noise is the highest, and maybe a river."""
    lands = rng.choice(len(_SHARES), rng.integers(2, 5), replace=False, p=_SHARES)
    heights = [_rough(rng, side, side / 6) + rng.normal(0, 0.3) for _ in lands]
    ids = lands[np.argmax(heights, axis=0)].astype(np.uint8)
    if rng.random() < _RIVER:
        ids[np.abs(_field(rng, side, side / 5)) < rng.uniform(0.1, 0.2)] = 4
    return ids


# ── What the ground looks like: float [S,S,3], 0–255, for each class ─────────────────────────────────────────────────


def _urban(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return houses on lots, in blocks between streets."""
    u, v = _turned(rng, side)
    lot, street = rng.uniform(6, 9), rng.uniform(0.2, 0.3)
    gardens = np.array((112, 118, 88)) + 10 * _field(rng, side, 2)[..., None]
    (column, across), (row, along) = _cells(u, lot), _cells(v, lot * rng.uniform(0.8, 1.3))
    draws = _per_cell(rng, column, row, 4)
    house = (np.abs(across) < 0.24 + 0.14 * draws[..., 0]) & (np.abs(along) < 0.24 + 0.14 * draws[..., 1])
    roof = _ROOFS[(draws[..., 2] * len(_ROOFS)).astype(int)] * np.where(across > 0, 1.06, 0.9)[..., None]
    ground = np.where((house & (draws[..., 3] < 0.88))[..., None], roof, gardens)
    between = ((column % 4 == 0) & (np.abs(across) < street)) | ((row % 3 == 0) & (np.abs(along) < street))
    return np.where(between[..., None], np.array((128, 126, 126)), ground)


def _agriculture(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return parcels, each with a crop and furrows of its own."""
    u, v = _turned(rng, side)
    wide, deep = rng.uniform(24, 44), rng.uniform(14, 28)
    column, across = _cells(u + 1.5 * _field(rng, side, 16), wide)
    shift = deep * rng.random(64)[column % 64]
    row, along = _cells(v + 1.5 * _field(rng, side, 16) + shift, deep)
    draws = _per_cell(rng, column, row, 4)
    furrows = np.sin(2 * np.pi * np.where(draws[..., 0] < 0.5, u, v) / (3.2 + 3 * draws[..., 1]))
    ground = _CROPS[(draws[..., 2] * len(_CROPS)).astype(int)] + ((4 + 14 * draws[..., 3]) * furrows)[..., None]
    hedge = ((0.5 - np.abs(across)) * wide < 0.9) | ((0.5 - np.abs(along)) * deep < 0.9)
    return ground * np.where(hedge, 0.72, 1)[..., None] + 3 * _field(rng, side, 1)[..., None]


def _rangeland(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return grass, green and dry in patches, with a few bushes."""
    dry = 1 / (1 + np.exp(-2 * _rough(rng, side, rng.uniform(4, 8))))[..., None]
    green, yellow = np.array((110, 118, 74)), np.array((168, 150, 108))
    ground = (green + dry * (yellow - green)) * rng.uniform(0.75, 1.15) + 4 * _field(rng, side, 0.8)[..., None]
    return np.where((_field(rng, side, 1.2) > rng.uniform(1.7, 2.4))[..., None], 0.62 * ground, ground)


def _forest(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return crowns, lit from one side."""
    crowns = _field(rng, side, rng.uniform(1.1, 1.7))
    lit = crowns - np.roll(crowns, (1, 1), (0, 1))
    tone = 9 * _field(rng, side, 10) + 10 * crowns + 13 * lit / lit.std()
    return _between(rng, _LEAVES) + tone[..., None] * np.array((0.9, 1, 0.75))


def _water(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return still water, from blue to muddy green, with ripples and glint."""
    ground = _between(rng, _WATERS) + (6 * _field(rng, side, 14) + 1.5 * _field(rng, side, 1))[..., None]
    glint = (_field(rng, side, 0.7) > 2.2) & (_field(rng, side, 12) > 0.3)
    return ground + 60 * glint[..., None]


def _barren(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return bare ground: bright, grainy, with gullies down one slope."""
    slope = gaussian_filter(
        rng.standard_normal((side, side)), (0.9, 5) if rng.random() < 0.5 else (5, 0.9), mode="wrap"
    )
    slope /= slope.std()
    tone = 9 * slope - 26 * (slope < -1.5) + 9 * _field(rng, side, 0.6) + 8 * _field(rng, side, 9)
    return _between(rng, _BARE) + tone[..., None]


_LANDS: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (
    _urban,
    _agriculture,
    _rangeland,
    _forest,
    _water,
    _barren,
)


# ── What they are made of ────────────────────────────────────────────────────────────────────────────────────────────


def _seen(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """Return the picture, uint8: light from one side, its colour, haze and a sensor's noise."""
    side = len(ground)
    u, _ = _turned(rng, side)
    light = rng.uniform(0.65, 1.25) * (1 + rng.uniform(0, 0.15) * u / side + 0.03 * _field(rng, side, side / 6))
    image = ground * light[..., None] * rng.uniform(0.92, 1.08, 3)
    image += rng.uniform(0, 0.3) * (np.array((186, 192, 202)) - image)
    image += rng.normal(0, rng.uniform(1.5, 4), image.shape)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _field(rng: np.random.Generator, side: int, scale: float) -> np.ndarray:
    """Return smooth noise float [S,S] of mean 0 and deviation 1; its spots are some 3 × `scale` pixels wide."""
    field = gaussian_filter(rng.standard_normal((side, side)), scale, mode="wrap")
    return (field - field.mean()) / field.std()


def _rough(rng: np.random.Generator, side: int, scale: float) -> np.ndarray:
    """Return noise with finer noise on it, as coasts have it: float [S,S], deviation 1."""
    field = sum(_field(rng, side, scale / 2**i) * 0.4**i for i in range(3))
    return np.asarray(field / np.std(field))


def _between(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """Return a colour float [3] somewhere between `colours` [3,3]."""
    return rng.dirichlet((0.6, 0.6, 0.6)) @ colours


def _turned(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two coordinates in pixels, float [S,S] each, 0 in the middle, turned by any angle."""
    angle, axis = rng.uniform(0, np.pi), np.arange(side) - side / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _cells(coordinate: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the cell that each pixel lies in, int, and where in it, −0.5–0.5."""
    cell = np.floor(coordinate / width)
    return cell.astype(int), coordinate / width - cell - 0.5


def _per_cell(rng: np.random.Generator, column: np.ndarray, row: np.ndarray, n: int) -> np.ndarray:
    """Return `n` uniform numbers for each cell of a grid, the same at all of its pixels: float [S,S,n]."""
    return rng.random((64, 64, n))[column % 64, row % 64]
