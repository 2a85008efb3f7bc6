"""Checksums of the parts of a memory-mapped file: each part is checked when it is first read."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from octavo.errors import Damaged

BLOCK = 1 << 20
"""Bytes of a part where the file has no parts of its own."""


class Parts:
    """The checksums of a memory-mapped file's parts, compared at the first access to each.

    Processes that are forked later know what was compared before, and tell each other (loaders of batches are forked
    again in each epoch); processes that are started in another way compare for themselves. Safe among threads.
    """

    def __init__(self, path: Path, digests: Sequence[str] | np.ndarray, index: Path, noun: str = "block") -> None:
        """Begin with nothing compared.

        Args:
            path: the file.
            digests: what each part should hash to, hexadecimal digits.
            index: file without which the entry of the cache counts as absent; deleted when a part is damaged.
            noun: what a part is.
        """
        self.path, self.index, self.noun = path, index, noun
        self._digests = np.asarray(digests, np.str_)
        self._compared = np.frombuffer(mmap.mmap(-1, max(1, len(self._digests))), np.uint8)

    def require(self, which: np.ndarray, digest: Callable[[int], str]) -> None:
        """Compare those of the parts `which`, int64 [n], that weren't compared before; `digest` hashes one of them.

        Raises:
            Damaged: the first that isn't what was written. The entry of the cache is made again the next time.
        """
        for part in which[self._compared[which] == 0].tolist():
            found, expected = digest(part), str(self._digests[part])
            if found != expected:
                raise Damaged(self._told(part, found, expected))
            self._compared[part] = 1

    def _told(self, part: int, found: str, expected: str) -> str:
        try:
            self.index.unlink(missing_ok=True)
            remedy = "run the command again (train with --resume), which makes it anew"
        except OSError:
            remedy = f"delete {self.path.parent} and run the command again (train with --resume)"
        return (f"{self.path}: damaged: SHA-256 of {self.noun} {part:,} of {len(self._digests):,} is {found[:12]}…, "
                f"expected {expected[:12]}…; {remedy}")  # fmt: skip


def block_digest(content: np.ndarray, block: int) -> str:
    """Return the SHA-256 of one block of `BLOCK` bytes of a file, `content` uint8 [n]; the last may be shorter."""
    return hashlib.sha256(content[block * BLOCK : (block + 1) * BLOCK].data).hexdigest()


def blocks_of(first: np.ndarray, length: int) -> np.ndarray:
    """Return the numbers of the blocks, ascending int64, in which pieces of `length` bytes from `first` [n] lie."""
    if not len(first) or not length:
        return np.empty(0, np.int64)
    span = np.arange(-(-length // BLOCK) + 1)
    return np.unique(np.minimum(first[:, None] // BLOCK + span, (first[:, None] + length - 1) // BLOCK))
