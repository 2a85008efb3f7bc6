"""Decoded images or masks as they are read: memory-mapped, each checked when it is first read."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from octavo.data.content import digest_of
from octavo.errors import Damaged
from octavo.integrity import read_checked, read_sealed
from octavo.parts import Parts

CHECKED = "pixels 1"
"""Kind and version of the checksums of a store; one of another version, or without any, is decoded again."""
REMEDY = "it is decoded again"
"""What happens to a damaged store."""


class Pixels:
    """Decoded images or masks, memory-mapped: uint8 [planes, H, W] each, in one buffer, in the order of their files.

    Attributes:
        key: names what the store was made from: folder, file names, sizes and times, decoder.
        digest: SHA-256 over all pixels and sizes; equal digests are equal pixels, on any machine.
        planes: 3 of images, 1 of masks.
        fill: value around a smaller image in a batch: 0 of images, 255 of masks.
        sizes: int32 [N, 2], height and width in pixels; 0, 0 for a broken image.
        broken: index -> reason, for the images that couldn't be decoded.

    Images are checked against their digests as they are first read, everything else when the store is opened.
    """

    def __init__(self, folder: Path) -> None:
        """Open the store in `folder`.

        Raises:
            Damaged: it isn't what was written.
        """
        meta = read_sealed(folder / "index.json", REMEDY)
        if meta.get("checked") != CHECKED or meta["key"] != folder.name:
            raise Damaged(f"{folder / 'index.json'}: is of another store, or of another version of Octavo; {REMEDY}")
        self.folder = folder
        self.key: str = meta["key"]
        self.digest: str = meta["digest"]
        self.planes: int = meta["planes"]
        self.fill: int = meta["fill"]
        self.broken: dict[int, str] = {int(i): reason for i, reason in meta["broken"].items()}
        self.sizes = _array(folder / "sizes.npy", meta)
        self._digests = _array(folder / "digests.npy", meta)
        lengths = self.sizes.astype(np.int64).prod(axis=1) * self.planes
        self._ends = np.cumsum(lengths)
        total = int(self._ends[-1]) if len(lengths) else 0
        self._buffer = _mapped(folder / "pixels.bin", total)
        self._grid, self._rows = self._uniform(lengths)
        self._parts = Parts(folder / "pixels.bin", self._digests, folder / "index.json", "image")

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """The content digest of each image (see `octavo.data.content`), empty for a broken one."""
        return tuple(self._digests.astype(str).tolist())

    def _uniform(self, lengths: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """Where all images have one size, view the buffer as [n, planes, H, W]; rows maps image -> n."""
        whole = lengths > 0
        rows = np.cumsum(whole) - 1
        shapes = np.unique(self.sizes[whole], axis=0)
        if len(shapes) != 1:
            return None, rows
        return self._buffer.reshape(-1, self.planes, *shapes[0].tolist()), rows

    def __reduce__(self) -> tuple[type[Pixels], tuple[Path]]:
        """Travel to another process as the name of the folder, not as its content."""
        return Pixels, (self.folder,)

    def __len__(self) -> int:
        return len(self.sizes)

    def image(self, index: int) -> np.ndarray:
        """Return one image as a view, uint8 [planes, H, W].

        Raises:
            ValueError: when it is broken.
            Damaged: when it isn't what was decoded.
        """
        if index in self.broken:
            raise ValueError(f"image {index} is broken: {self.broken[index]}")
        self._parts.require(np.array([index], np.int64), self._content)
        return self._view(index)

    def _content(self, index: int) -> str:
        return digest_of(self._view(index))

    def _view(self, index: int) -> np.ndarray:
        height, width = self.sizes[index].tolist()
        end = int(self._ends[index])
        return self._buffer[end - self.planes * height * width : end].reshape(self.planes, height, width)

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a copy of the images `indices`, uint8 [B, planes, H, W], and sizes, int32 [B, 2] (height, width).

        H and W are the largest in the batch; smaller images lie in the top left corner, `fill` around them.

        Raises:
            ValueError: when one of them is broken.
            Damaged: when one isn't what was decoded.
            IndexError: when one is outside 0 … len - 1.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"images {chosen.min()} … {chosen.max()} of {len(self)}")
        sizes = self.sizes[chosen]
        if len(bad := chosen[sizes[:, 0] == 0]):
            raise ValueError(f"image {bad[0]} is broken: {self.broken[int(bad[0])]}")
        self._parts.require(chosen, self._content)
        if self._grid is not None:
            return self._grid[self._rows[chosen]], sizes
        height, width = sizes.max(axis=0, initial=0).tolist()
        canvas = np.full((len(chosen), self.planes, height, width), self.fill, np.uint8)
        for row, index in zip(canvas, chosen.tolist(), strict=True):
            image = self._view(index)
            row[:, : image.shape[1], : image.shape[2]] = image
        return canvas, sizes


def _array(path: Path, meta: Mapping[str, Any]) -> np.ndarray:
    content = read_checked(path, meta["hashes"][path.name], REMEDY)
    return np.load(io.BytesIO(content), allow_pickle=False)


def _mapped(path: Path, size: int) -> np.ndarray:
    found = path.stat().st_size if path.is_file() else -1
    if found != size:
        told = "missing" if found < 0 else f"damaged: {found:,} bytes"
        raise Damaged(f"{path}: {told}, expected {size:,} bytes; {REMEDY}")
    return np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8)
