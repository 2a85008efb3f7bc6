"""The cache folder: where it is, what lies in it, locks between processes, and clearing it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from octavo.errors import Damaged, UserError, lookup
from octavo.files import write_atomic
from octavo.integrity import sealed, unsealed
from octavo.log import warn
from octavo.words import counted

KINDS = {
    "pixels": "decoded images",
    "features": "outputs of frozen extractors",
    "datasets": "torchvision data sets",
    "leaks": "images that parts of data share",
}
"""What the cache holds: folder name -> in words. Everything in it can be made again."""
_LOCKS = "locks"
_STAND_INS: dict[Path, Path] = {}  # folder that can't be written → temporary one

PART = "part.npy"
"""Name of the file of features that are still computed."""
FACTS = "facts.json"
"""Name of the file beside cached features that says what they were made from (pixels have it in their index.json)."""


@dataclass(frozen=True)
class CacheEntry:
    """One thing in the cache.

    Attributes:
        kind: a key of KINDS.
        path: where it lies; a `.tmp` is being built, or what a killed build has left.
        bytes: its size.
        used: when it was last used (Unix seconds), as far as `mark_used` was told.
        source: the folder, file or `torchvision:NAME` it was made from; empty where nothing says so.
        images: how many images it holds; None where nothing says so.
        what: what of these images it holds, in words: `masks`, `vgg16, 64 px`, …; may be empty.
    """

    kind: str
    path: Path
    bytes: int
    used: float
    source: str = ""
    images: int | None = None
    what: str = ""


def cache_dir() -> Path:
    """Return the cache folder: `OCTAVO_CACHE` where it is set, or the system's place for caches."""
    return Path(os.environ.get("OCTAVO_CACHE") or platformdirs.user_cache_dir("octavo"))


def open_cache(asked: Path | None = None) -> Path:
    """Return a cache folder that can be written: `asked`, or else that of `cache_dir`.

    One that can't be made or written is replaced by a temporary folder, which is removed when the process ends, and the
    user is warned once. What it holds is read all the same.

    Raises:
        UserError: there can be no temporary folder either.
    """
    folder = asked or cache_dir()
    if folder in _STAND_INS:
        return _STAND_INS[folder]
    reason = _unusable(folder)
    if not reason:
        return folder
    where = "--cache" if asked else "OCTAVO_CACHE" if os.environ.get("OCTAVO_CACHE") else "cache"
    try:
        _STAND_INS[folder] = stand_in = Path(tempfile.mkdtemp(prefix="octavo-cache-"))
    except OSError as error:
        raise UserError(
            f"{where}: {folder} can't be written ({reason}), and there is no temporary folder either "
            f"({(error.strerror or str(error)).lower()}); set OCTAVO_CACHE to a folder of yours"
        ) from error
    atexit.register(_removed, folder, stand_in)
    held = _link_entries(folder, stand_in)
    beside = f"; {counted(held, 'entry', 'entries')} of it can be read" if held else ""
    warn(
        f"{where}: {folder} can't be written ({reason}){beside}; {stand_in} is used until this command ends; set "
        "OCTAVO_CACHE to a folder of yours to keep what is computed"
    )
    return stand_in


def _link_entries(folder: Path, stand_in: Path) -> int:
    """Let a temporary folder hold the whole entries of a cache that can only be read; return how many there are.

    Each entry becomes a folder of links, so that one that is made anew, because it is damaged, say, takes the place of
    the links and not of what they lead to.
    """
    count = 0
    entries: list[Path] = []
    for kind in KINDS:
        with suppress(OSError):
            entries += sorted((folder / kind).iterdir())
    for entry in entries:
        with suppress(OSError):  # one that can't be read keeps none of the others from being read
            if entry.name.endswith(".tmp") or (entry / PART).exists():
                continue  # being built, or left by a build that was killed
            files = list(entry.iterdir()) if entry.is_dir() else None
            place = stand_in / entry.parent.name / entry.name
            place.parent.mkdir(exist_ok=True)
            if files is None:
                place.symlink_to(entry.absolute())
            else:
                place.mkdir()
                for file in files:
                    (place / file.name).symlink_to(file.absolute())
            count += 1
    return count


def _removed(folder: Path, stand_in: Path) -> None:
    _STAND_INS.pop(folder, None)
    shutil.rmtree(stand_in, ignore_errors=True)


def _unusable(folder: Path) -> str:
    """Return why a folder can't be the cache, made now if it isn't there; "" where it can."""
    if folder.parts[:1] == ("~",):
        return "there is no home folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return (error.strerror or str(error)).lower()
    for name in (*KINDS, _LOCKS):
        inside = folder / name
        if os.path.lexists(inside) and not (inside.is_dir() and os.access(inside, os.W_OK | os.X_OK)):
            return f"{name} in it is no folder that can be written"
    return ""


def is_cache(root: Path) -> bool:
    """Tell whether Octavo has used a folder as its cache."""
    return any((root / kind).is_dir() for kind in KINDS)


def caches(root: Path) -> list[CacheEntry]:
    """List what lies in the cache folder `root`, by kind, then name; nothing where there is no such folder."""
    entries: list[CacheEntry] = []
    for kind in KINDS:
        for path in sorted((root / kind).iterdir()) if (root / kind).is_dir() else ():
            entries.append(CacheEntry(kind, path, _bytes(path), path.stat().st_mtime, *_origin(kind, path)))
    return entries


def mark_used(folder: Path) -> None:
    """Note that an entry of the cache is used now; a cache that can only be read stays as it is."""
    with suppress(OSError):
        os.utime(folder)


def note_facts(folder: Path, *, source: str, images: int, what: str) -> None:
    """Say beside an entry, for `octavo cache`, what it was made from: see `CacheEntry`."""
    write_atomic(folder / FACTS, sealed({"folder": source, "images": images, "what": what}))


def source_of(store: Path) -> str:
    """Return what a store of pixels was made from, or nothing where that can't be told."""
    return _origin("pixels", store)[0]


def _origin(kind: str, path: Path) -> tuple[str, int | None, str]:
    """Return source, images and what of them: what can't be told is empty."""
    if path.name.endswith(".tmp"):
        return "", None, "being built, or left by a build that was killed"
    if kind == "datasets":
        name, own = path.name.removesuffix(".raw"), path.name.endswith(".raw")
        return f"torchvision:{name}", None, "torchvision's own files" if own else "as PNG files"
    facts = _facts(path / ("index.json" if kind == "pixels" else FACTS))
    images = facts.get("images")
    what = facts.get("what", "masks" if facts.get("planes") == 1 else "")
    return str(facts.get("folder", "")), images if isinstance(images, int) else None, str(what)


def _facts(path: Path) -> dict[str, Any]:
    """Return what a file of facts says; nothing for one that isn't there or is damaged."""
    try:
        return unsealed(path.read_bytes(), path, "it is made again")[0]
    except (OSError, Damaged):
        return {}


def clear(root: Path, kind: str | None = None) -> int:
    """Remove one kind from the cache folder `root`, or all, and return the bytes freed; what is being built stays.

    Raises:
        UserError: for an unknown kind, or a folder that was never a cache, whose `datasets` may be the user's own.
    """
    if kind is not None:
        lookup(KINDS, kind, "cache")
    freed, entries = 0, caches(root)
    if entries and not (root / _LOCKS).is_dir():
        raise UserError(
            f"{root}: was never used as a cache (no {_LOCKS} in it), so nothing is removed; expected the folder that "
            "--cache or OCTAVO_CACHE named before"
        )
    for entry in entries:
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
    lock = FileLock(root / _LOCKS / f"{name}.lock", timeout=timeout)
    try:
        (root / _LOCKS).mkdir(parents=True, exist_ok=True)
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
