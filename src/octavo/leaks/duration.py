"""Duration of a search for near-duplicates, known before it starts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from octavo.data.stored import Pixels
from octavo.leaks.find import LEAST
from octavo.leaks.thumbs import LARGE

_READ, _IMAGE, _PAIR, _REGISTER = 1.4e-9, 2e-4, 3e-7, 3e-4
"""Seconds for each byte that is read, for each image, for each pair and way of searching, and for laying one pair over
each other, on one Zen 4 core. Measured on 32 px photographs, 512 px aerial tiles and 480×360 street scenes."""
_CANDIDATES, _TILES = 16, 24
"""Pairs that are laid over each other for each image searched for: as whole images, and as tiles that overlap."""


def search_seconds(pixels: Pixels, parts: Mapping[str, np.ndarray]) -> float:
    """Return roughly how long `find_leaks` searches between these parts, name → places among the images, int [n].

    How many pairs resemble each other isn't known before: on scenes that look alike it takes up to twice as long.
    """
    counts = [len(index) for index in parts.values()]
    if len(counts) < 2 or not sum(counts):
        return 0.0
    sizes = pixels.sizes[np.concatenate(list(parts.values()))]
    side = np.median(sizes.min(1))
    seconds = _READ * 3 * float(sizes.prod(axis=1, dtype=np.int64).sum()) + _IMAGE * len(sizes)
    if side < LEAST:
        return seconds
    tiles = side >= LARGE and len(np.unique(sizes, axis=0)) == 1
    total = sum(counts)
    pairs = (total**2 - sum(n**2 for n in counts)) // 2
    seconds += _PAIR * (2 + tiles) * pairs
    if side >= LARGE:
        seconds += _REGISTER * (_CANDIDATES + _TILES * tiles) * (total - max(counts))
    return seconds
