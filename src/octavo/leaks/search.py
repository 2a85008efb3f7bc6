"""Looking for leaks in data that may have been searched before, and telling when that would take too long."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from octavo.cache import locked, mark_used, note_facts, source_of
from octavo.data.store import Pixels
from octavo.errors import Damaged
from octavo.files import write_atomic
from octavo.integrity import read_sealed, sealed
from octavo.leaks.find import RULE, find_leaks
from octavo.leaks.leak import Leak
from octavo.log import warn
from octavo.progress import Progress

MOST = 2_000_000_000
"""Pairs of images that are compared without being asked for: some ten minutes on two cores."""
_FILE = "pairs.json"


def comparisons(counts: Mapping[str, int], *, within: bool = False) -> int:
    """Return how many pairs of images there are between parts of so many images, or `within` them too."""
    between = sum(a * b for a, b in combinations(counts.values(), 2))
    return between + (sum(n * (n - 1) // 2 for n in counts.values()) if within else 0)


def search(
    pixels: Pixels, parts: Mapping[str, np.ndarray], cache: Path, *, within: bool = False, progress: Progress
) -> tuple[Leak, ...]:
    """Return what `find_leaks` does, from the cache folder where the same parts of the same data were searched before.

    Raises:
        UserError: the cache can't be written.
    """
    digest = hashlib.sha256(f"{pixels.digest} {within} {RULE}".encode())
    for name, places in parts.items():
        digest.update(f" {name} ".encode() + np.asarray(places, np.int64).tobytes())
    key = digest.hexdigest()[:20]
    folder = cache / "leaks" / key
    with locked(cache, f"leaks-{key}"):
        if (kept := _kept(folder)) is not None:
            mark_used(folder)
            return kept
        found = find_leaks(pixels, parts, within=within, progress=progress)
        folder.mkdir(parents=True, exist_ok=True)
        images = sum(map(len, parts.values()))
        note_facts(folder, source=source_of(pixels.folder), images=images, what=" and ".join(parts))
        pairs = [[leak.first, leak.second, leak.kind, leak.similarity] for leak in found]
        write_atomic(folder / _FILE, sealed({"key": key, "pairs": pairs}))
    return found


def _kept(folder: Path) -> tuple[Leak, ...] | None:
    """Return what an earlier search found; None where there was none, or what it left is damaged, which is told."""
    if not folder.is_dir():
        return None
    remedy = "the images are compared again"
    try:
        found = read_sealed(folder / _FILE, remedy)
        if found.get("key") != folder.name:
            raise Damaged(f"{folder / _FILE}: is of other images; {remedy}")
    except Damaged as error:
        warn(str(error))
        return None
    return tuple(Leak(*pair) for pair in found["pairs"])
