"""Checksums of all files of a folder in the cache, kept in a hidden file inside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from octavo.errors import Damaged
from octavo.files import write_atomic
from octavo.integrity import check, read_sealed, sealed, sha256_of

SUMS = ".checksums.json"
"""Name of that file."""
_KIND = "files 1"


def sums_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in and below a folder, by its path in it; nothing where there is no folder."""
    return {name: sha256_of(folder / name) for name in _names(folder)}


def note(folder: Path, sums: Mapping[str, str], made_from: Mapping[str, str], name: str) -> None:
    """Note what the files of a folder are that will be called `name`, and what those were that it was made from."""
    meta = {"kind": _KIND, "name": name, "state": _state(folder)}
    write_atomic(folder / SUMS, sealed(meta | {"files": dict(sums), "made_from": dict(made_from)}))


def noted_in(folder: Path) -> bool:
    """Tell whether a folder has checksums, whole or damaged."""
    return (folder / SUMS).is_file()


def noted(folder: Path, remedy: str) -> tuple[dict[str, str], dict[str, str], str]:
    """Return what `note` was given, and the sizes and times that the files had then.

    Raises:
        Damaged: the list isn't what was written.
    """
    meta = read_sealed(folder / SUMS, remedy)
    if meta.get("kind") != _KIND or meta.get("name") != folder.name:
        raise Damaged(f"{folder / SUMS}: is of another folder, or of another version of Octavo; {remedy}")
    return meta["files"], meta["made_from"], meta["state"]


def require(folder: Path, remedy: str, *, content: bool = False) -> None:
    """Compare a folder with its checksums; files are read where a size or time has changed, or if `content` says so.

    Raises:
        Damaged: a file isn't what was written, is missing, or wasn't there.
    """
    sums, made_from, state = noted(folder, remedy)
    if not content and state == _state(folder):
        return
    require_files(folder, sums, remedy)
    with suppress(OSError):  # a cache that can only be read is read again the next time
        note(folder, sums, made_from, folder.name)


def require_files(folder: Path, sums: Mapping[str, str], remedy: str) -> None:
    """Compare the files in and below a folder with checksums by path.

    Raises:
        Damaged: a file isn't what it was, is missing, or wasn't there.
    """
    names = set(_names(folder))
    for name in sorted(names | sums.keys()):
        if name not in names or name not in sums:
            raise Damaged(f"{folder / name}: {'missing' if name in sums else 'was not written by Octavo'}; {remedy}")
        check(folder / name, sha256_of(folder / name), sums[name], remedy)


def _names(folder: Path) -> list[str]:
    found = (Path(top) / name for top, _, names in os.walk(folder) for name in names)
    return sorted(path.relative_to(folder).as_posix() for path in found if path.name != SUMS)


def _state(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in _names(folder):
        status = (folder / name).stat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
