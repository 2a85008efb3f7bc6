"""Looking for leaks in data that may have been searched before, and telling when that would take too long."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from octavo.cache import locked, mark_used, note_facts, source_of
from octavo.data.store import Pixels
from octavo.files import write_atomic
from octavo.leaks.find import RULE, find_leaks
from octavo.leaks.leak import Leak
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
        if (folder / _FILE).is_file():
            mark_used(folder)
            return tuple(Leak(*pair) for pair in json.loads((folder / _FILE).read_text(encoding="utf-8")))
        found = find_leaks(pixels, parts, within=within, progress=progress)
        folder.mkdir(parents=True, exist_ok=True)
        images = sum(map(len, parts.values()))
        note_facts(folder, source=source_of(pixels.folder), images=images, what=" and ".join(parts))
        pairs = [[leak.first, leak.second, leak.kind, leak.similarity] for leak in found]
        write_atomic(folder / _FILE, json.dumps(pairs).encode())
    return found
