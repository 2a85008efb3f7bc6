"""Search for near-duplicates, taken from the cache where the same files were searched before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from octavo.cache import locked, mark_used, note_facts, source_of
from octavo.data.decoding import Files
from octavo.data.store import Pixels
from octavo.errors import Damaged
from octavo.files import write_atomic
from octavo.integrity import read_sealed, sealed
from octavo.leaks.find import RULE, find_leaks
from octavo.leaks.leak import Leak
from octavo.leaks.originals import by_originals
from octavo.log import warn
from octavo.progress import Progress, Say, unsaid

MOST = 2_000_000_000
"""Pairs of images that are compared without being asked for: some ten minutes on two cores."""
ENOUGH = 128
"""Pixels of the shorter side of decoded images from which on a search finds no more in larger ones."""
_FILE = "pairs.json"


def comparisons(counts: Mapping[str, int], *, within: bool = False) -> int:
    """Return how many pairs of images there are between parts of so many images, or `within` them too."""
    between = sum(a * b for a, b in combinations(counts.values(), 2))
    return between + (sum(n * (n - 1) // 2 for n in counts.values()) if within else 0)


def search(
    pixels: Pixels,
    files: Files,
    parts: Mapping[str, np.ndarray],
    cache: Path,
    *,
    within: bool = False,
    progress: Progress,
) -> tuple[Leak, ...]:
    """Return what `find_leaks` does, from the cache folder where the same parts of the same files were searched before.

    A search in images that were decoded at least as large, or with `ENOUGH` pixels, counts for smaller ones too.

    Args:
        pixels: the decoded images of all files.
        files: the files.
        parts: name → places among them, int [n], in any order; broken images are passed over.
        cache: the cache folder.
        within: whether near-duplicates in one part are returned as well.
        progress: told how far it is.

    Raises:
        UserError: the cache can't be written.
    """
    key = _key(pixels, files, parts, within)
    folder = cache / "leaks" / key
    with locked(cache, f"leaks-{key}"):
        if (kept := _kept(folder, files, _side(pixels))) is not None:
            mark_used(folder)
            return kept
        found = find_leaks(pixels, parts, within=within, progress=progress)
        found = tuple(by_originals(leak, files) for leak in found)
        folder.mkdir(parents=True, exist_ok=True)
        images = sum(map(len, parts.values()))
        note_facts(folder, source=source_of(pixels.folder), images=images, what=" and ".join(sorted(parts)))
        pairs = [[files.files[leak.first], files.files[leak.second], leak.kind, leak.similarity] for leak in found]
        write_atomic(folder / _FILE, sealed({"key": key, "side": _side(pixels), "pairs": pairs}))
    return found


def searched(pixels: Pixels, files: Files, parts: Mapping[str, np.ndarray], cache: Path) -> bool:
    """Return whether `search` would take what it returns from the cache folder."""
    folder = cache / "leaks" / _key(pixels, files, parts, within=False)
    return _kept(folder, files, _side(pixels), tell=unsaid) is not None


def _key(pixels: Pixels, files: Files, parts: Mapping[str, np.ndarray], within: bool) -> str:
    """Return the name of a search: a hash of its rule and of each part's files, their sizes and times."""
    digest = hashlib.sha256(
        f"{within}\n{RULE}\n{Path(files.folder or files.root).resolve()}\n".encode(errors="replace")
    )
    for name in sorted(parts):
        digest.update(f"part {name}\n".encode())
        for facts in sorted(_facts(files, int(i)) for i in np.unique(parts[name]) if int(i) not in pixels.broken):
            digest.update(facts)
    return digest.hexdigest()[:20]


def _facts(files: Files, index: int) -> bytes:
    try:
        status = files.path(index).stat()
        facts = f"{status.st_size}/{status.st_mtime_ns}"
    except OSError:
        facts = "missing"
    return f"{files.files[index]}/{facts}\0".encode("utf-8", "surrogateescape")


def _side(pixels: Pixels) -> int:
    """Return how large decoded images are: the median of their shorter sides, ENOUGH at most."""
    sides = pixels.sizes.min(1)
    return min(ENOUGH, int(np.median(sides[sides > 0]))) if (sides > 0).any() else 0


def _kept(folder: Path, files: Files, side: int, tell: Say = warn) -> tuple[Leak, ...] | None:
    """Return what an earlier search found in images of at least `side` pixels; a damaged one is told, and is none."""
    if not folder.is_dir():
        return None
    remedy = "the images are compared again"
    try:
        found = read_sealed(folder / _FILE, remedy)
        if found.get("key") != folder.name:
            raise Damaged(f"{folder / _FILE}: is of other images; {remedy}")
    except Damaged as error:
        tell(str(error))
        return None
    return _leaks(found["pairs"], files) if found["side"] >= side else None


def _leaks(pairs: list[Any], files: Files) -> tuple[Leak, ...]:
    place = {file: i for i, file in enumerate(files.files)}
    return tuple(Leak(place[first], place[second], kind, similarity) for first, second, kind, similarity in pairs)
