"""The cache folder: where it is, what lies in it, locks between processes, and clearing it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from octavo.errors import UserError, lookup

KINDS = {"pixels": "decoded images", "features": "outputs of frozen extractors", "datasets": "torchvision data sets"}
"""What the cache holds: folder name -> in words. Everything in it can be made again."""


@dataclass(frozen=True)
class CacheEntry:
    """One thing in the cache: its kind (a key of KINDS), place, size in bytes, and time of change (Unix seconds)."""

    kind: str
    path: Path
    bytes: int
    modified: float


def cache_dir() -> Path:
    """Return the cache folder: `OCTAVO_CACHE` where it is set, or the system's place for caches."""
    return Path(os.environ.get("OCTAVO_CACHE") or platformdirs.user_cache_dir("octavo"))


def caches(root: Path) -> list[CacheEntry]:
    """List what lies in the cache folder `root`, by kind, then name; nothing where there is no such folder."""
    entries: list[CacheEntry] = []
    for kind in KINDS:
        for path in sorted((root / kind).iterdir()) if (root / kind).is_dir() else ():
            entries.append(CacheEntry(kind, path, _bytes(path), path.stat().st_mtime))
    return entries


def clear(root: Path, kind: str | None = None) -> int:
    """Remove one kind from the cache folder `root`, or all, and return the bytes freed; what is being built stays.

    Raises:
        UserError: for an unknown kind.
    """
    if kind is not None:
        lookup(KINDS, kind, "cache")
    freed = 0
    for entry in caches(root):
        if kind not in (None, entry.kind):
            continue
        try:
            with locked(root, f"{entry.kind}-{entry.path.name.removesuffix('.tmp')}", timeout=0):
                if entry.path.is_dir():
                    shutil.rmtree(entry.path)
                else:
                    entry.path.unlink()
                freed += entry.bytes
        except Timeout:
            continue
    return freed


@contextmanager
def locked(root: Path, name: str, timeout: float = -1) -> Iterator[None]:
    """Hold a lock between processes, under `root`/locks; the system frees it when its holder dies.

    Raises:
        filelock.Timeout: when it isn't free within `timeout` seconds (-1 waits for ever).
        UserError: when the cache folder can't be written.
    """
    lock = FileLock(root / "locks" / f"{name}.lock", timeout=timeout)
    try:
        (root / "locks").mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{root}: the cache can't be written; set OCTAVO_CACHE to a folder of yours") from error
    try:
        yield
    finally:
        lock.release()


def _bytes(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum((Path(folder) / name).lstat().st_size for folder, _, names in os.walk(path) for name in names)
