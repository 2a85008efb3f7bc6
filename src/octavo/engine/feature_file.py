"""Feature file: an array of the cache with checksums of its blocks, both while it is computed and when it is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from octavo.cache import PART
from octavo.errors import Damaged, DiskFull
from octavo.files import FULL, sync_folder, write_atomic
from octavo.integrity import check, read_sealed, sealed
from octavo.log import warn
from octavo.parts import BLOCK, Parts, block_digest, blocks_of

INDEX = "index.json"
"""Name of the file beside the features that holds their shape and checksums."""
_FEATURES, _MARKER = "features.npy", "done.json"
_WHOLE, _BEGUN = "features 1", "features begun 1"
_REMEDY = "they are computed again"


class FeatureFile:
    """Finished features, float32 [V,N,F], memory-mapped; each block is checked when it is first read.

    Attributes:
        shape: V, N and F.
    """

    def __init__(self, folder: Path) -> None:
        """Open the entry of the cache in `folder`.

        Raises:
            Damaged: it isn't what was written.
        """
        meta = read_sealed(folder / INDEX, _REMEDY)
        if meta.get("checked") != _WHOLE or meta["key"] != folder.name:
            raise Damaged(f"{folder / INDEX}: is of other features, or of another version of Octavo; {_REMEDY}")
        path = folder / _FEATURES
        self.folder, self.shape = folder, tuple(meta["shape"])
        self._start, self._row = _room(path, self.shape)
        self._bytes = np.memmap(path, np.uint8, "r")
        self._array = np.memmap(path, np.float32, "r", self._start, self.shape)
        self._parts = Parts(path, meta["blocks"], folder / INDEX)

    def __reduce__(self) -> tuple[type[FeatureFile], tuple[Path]]:
        """Travel to another process as the name of the folder, not as its content."""
        return FeatureFile, (self.folder,)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Return a copy of rows, float32 [n,F], by view and image, int64 [n] each.

        Raises:
            Damaged: they aren't what was computed.
        """
        view, image = place
        rows = np.asarray(view, np.int64) * self.shape[1] + image
        self._parts.require(blocks_of(self._start + rows * self._row, self._row), self._digest)
        return self._array[view, image]

    def whole(self) -> np.ndarray:
        """Return everything, float32 [V,N,F].

        Raises:
            Damaged: it isn't what was computed.
        """
        self._parts.require(np.arange(-(-len(self._bytes) // BLOCK)), self._digest)
        return self._array

    def _digest(self, block: int) -> str:
        return block_digest(self._bytes, block)


def opened(folder: Path, *, tell: Callable[[str], None] = warn) -> FeatureFile | None:
    """Return the finished features in `folder`; None where there are none, or `tell` was told that they are damaged."""
    if not (folder / _FEATURES).is_file() and not (folder / INDEX).is_file():
        return None
    if (folder / PART).is_file():  # killed just before it was renamed
        return None
    try:
        return FeatureFile(folder)
    except Damaged as error:
        tell(str(error))
        return None


class Computation:
    """Features that are being computed, in a file of their whole size that is filled from its start to its end.

    Attributes:
        array: float32 [V,N,F], memory-mapped; rows are written in ascending order.
        batches: how many batches were in it when it was opened, each as it was written.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        """Open what an earlier computation has left in `folder`, or begin.

        Raises:
            DiskFull: there isn't the room for all of it.
        """
        self.folder, self.shape = folder, shape
        self._part, self._marker = folder / PART, folder / _MARKER
        self._digests: list[str] = []
        self.batches = self._reached()
        mode = "r+" if self.batches else "w+"
        self.array = np.lib.format.open_memmap(self._part, mode=mode, dtype=np.float32, shape=shape)
        _reserve(self._part)
        self._bytes = np.memmap(self._part, np.uint8, "r")
        self._start, self._row = _room(self._part, shape)

    def _reached(self) -> int:
        if not self._marker.is_file():
            return 0
        try:
            return self._checked()
        except Damaged as error:
            warn(str(error))
            self._digests = []
            return 0

    def _checked(self) -> int:
        """Return how many batches the file holds, after comparing them with their checksums."""
        meta = read_sealed(self._marker, _REMEDY)
        if meta.get("checked") != _BEGUN or meta["key"] != self.folder.name or tuple(meta["shape"]) != self.shape:
            raise Damaged(f"{self._marker}: is of other features, or of another version of Octavo; {_REMEDY}")
        _room(self._part, self.shape)
        content = np.memmap(self._part, np.uint8, "r")[: meta["bytes"]]
        for block, expected in enumerate([*meta["blocks"], meta["last"]]):
            check(self._part, block_digest(content, block), expected, _REMEDY)
        self._digests = meta["blocks"]
        return meta["batches"]

    def mark(self, batches: int, view: int, image: int) -> None:
        """Note that so many batches are done, of which `image` in `view` is the last row."""
        self.array.flush()  # what is noted is on the disk before
        stop = self._start + (view * self.shape[1] + image + 1) * self._row
        self._hash(stop // BLOCK)
        last = hashlib.sha256(self._bytes[stop // BLOCK * BLOCK : stop].data).hexdigest()
        meta = {"checked": _BEGUN, "key": self.folder.name, "shape": self.shape, "batches": batches, "bytes": stop}
        write_atomic(self._marker, sealed(meta | {"blocks": self._digests, "last": last}))

    def finish(self) -> None:
        """Give the file its final name, checksums first."""
        self.array.flush()
        self._hash(-(-len(self._bytes) // BLOCK))
        meta: dict[str, Any] = {"checked": _WHOLE, "key": self.folder.name, "shape": self.shape}
        write_atomic(self.folder / INDEX, sealed(meta | {"blocks": self._digests}))
        del self.array, self._bytes  # nothing may have the file open where Windows is to rename it
        self._part.replace(self.folder / _FEATURES)
        sync_folder(self.folder)
        self._marker.unlink(missing_ok=True)

    def _hash(self, stop: int) -> None:
        self._digests += [block_digest(self._bytes, block) for block in range(len(self._digests), stop)]


def _room(path: Path, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return where the numbers of an array begin in its file, and the bytes of a row.

    Raises:
        Damaged: the file is missing or of another size.
    """
    row, header = 4 * shape[2], 128  # as NumPy pads the header of any such array
    expected, found = header + shape[0] * shape[1] * row, path.stat().st_size if path.is_file() else -1
    if found != expected:
        told = "missing" if found < 0 else f"damaged: {found:,} bytes"
        raise Damaged(f"{path}: {told}, expected {expected:,} bytes; {_REMEDY}")
    return header, row


def _reserve(path: Path) -> None:
    """Give the file at `path` its room on the disk: writing to a mapped file would end the process on a full one."""
    if not hasattr(os, "posix_fallocate"):
        return
    size = path.stat().st_size
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in FULL:
                return  # a file system that can't reserve
            path.unlink()  # what was computed before is lost with it: there is no room for the rest
            raise DiskFull(
                f"{path}: {os.strerror(error.errno)}; features need {size / 2**20:,.0f} MiB (octavo cache lists what "
                "may be cleared)"
            ) from error
