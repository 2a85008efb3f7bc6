"""Decoded images or masks in one memory-mapped file per data set, made once and found again by what they were."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import Timeout

from octavo.cache import locked, mark_used
from octavo.data.decoding import Decoder, Files, ImageDecoder, decoded, mean_bytes
from octavo.data.pixels import BrokenImage
from octavo.data.walk import one_line
from octavo.errors import UserError
from octavo.files import sync_folder
from octavo.progress import Progress, silent

__all__ = ["Decoder", "Files", "ImageDecoder", "Pixels", "broken_text", "build", "decoded", "estimate", "store_key"]

_FORMAT = "2"


class Pixels:
    """Decoded images or masks, memory-mapped: uint8 [planes, H, W] each, in one buffer, in the order of their files.

    Attributes:
        key: names what the store was made from: folder, file names, sizes and times, decoder.
        digest: SHA-256 over all pixels and sizes; equal digests are equal pixels, on any machine.
        planes: 3 of images, 1 of masks.
        fill: value around a smaller image in a batch: 0 of images, 255 of masks.
        sizes: int32 [N, 2], height and width in pixels; 0, 0 for a broken image.
        broken: index -> reason, for the images that couldn't be decoded.
    """

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.folder = folder
        self.key: str = meta["key"]
        self.digest: str = meta["digest"]
        self.planes: int = meta["planes"]
        self.fill: int = meta["fill"]
        self.broken: dict[int, str] = {int(i): reason for i, reason in meta["broken"].items()}
        self.sizes: np.ndarray = np.load(folder / "sizes.npy", allow_pickle=False)
        lengths = self.sizes.astype(np.int64).prod(axis=1) * self.planes
        self._ends = np.cumsum(lengths)
        total = int(self._ends[-1]) if len(lengths) else 0
        on_disk = (folder / "pixels.bin").stat().st_size
        if on_disk != total or len(lengths) != meta["images"]:
            raise ValueError(f"expected {total} bytes, found {on_disk}")
        self._buffer = np.memmap(folder / "pixels.bin", np.uint8, "r") if total else np.empty(0, np.uint8)
        self._grid, self._rows = self._uniform(lengths)

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
        """
        if index in self.broken:
            raise ValueError(f"image {index} is broken: {self.broken[index]}")
        height, width = self.sizes[index].tolist()
        end = int(self._ends[index])
        return self._buffer[end - self.planes * height * width : end].reshape(self.planes, height, width)

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a copy of the images `indices`, uint8 [B, planes, H, W], and sizes, int32 [B, 2] (height, width).

        H and W are the largest in the batch; smaller images lie in the top left corner, `fill` around them.

        Raises:
            ValueError: when one of them is broken.
            IndexError: when one is outside 0 … len - 1.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"images {chosen.min()} … {chosen.max()} of {len(self)}")
        sizes = self.sizes[chosen]
        if len(bad := chosen[sizes[:, 0] == 0]):
            raise ValueError(f"image {bad[0]} is broken: {self.broken[int(bad[0])]}")
        if self._grid is not None:
            return self._grid[self._rows[chosen]], sizes
        height, width = sizes.max(axis=0, initial=0).tolist()
        canvas = np.full((len(chosen), self.planes, height, width), self.fill, np.uint8)
        for row, index in zip(canvas, chosen.tolist(), strict=True):
            image = self.image(index)
            row[:, : image.shape[1], : image.shape[2]] = image
        return canvas, sizes


def estimate(files: Files, decoder: Decoder) -> int:
    """Return the bytes that a store of these files will take, from the headers of at most 200 of them."""
    paths = [files.path(i) for i in range(len(files.files))]
    return int(mean_bytes(paths, decoder, 200) * len(paths))


def store_key(files: Files, decoder: Decoder) -> str:
    """Return the name of a store: a hash of the folder, each file's name, size and time, and the decoder.

    It is known without reading the files, so that a second run decodes nothing. A file that is changed without a change
    of its size and time (in nanoseconds) isn't noticed.
    """
    folder = Path(files.folder or files.root).resolve()
    digest = hashlib.sha256(f"{_FORMAT}\n{decoder.key}\n{folder}\n".encode("utf-8", "surrogateescape"))
    for index, file in enumerate(files.files):
        try:
            status = files.path(index).stat()
            facts = f"{status.st_size}/{status.st_mtime_ns}"
        except OSError:
            facts = "missing"
        digest.update(f"{facts}/{file}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def build(
    files: Files, decoder: Decoder, cache: Path, *, skip_broken: bool = False, progress: Progress = silent
) -> Pixels:
    """Return the store of these images or masks, decoded now or found in `cache`.

    Safe while other processes build the same store: one builds, the others wait. With `skip_broken`, files that can't
    be decoded are in `Pixels.broken`, for the caller to leave out.

    Raises:
        UserError: for broken files (by name) without `skip_broken`, and when the disk is too small or fills up.
    """
    key = store_key(files, decoder)
    folder = cache / "pixels" / key
    pixels = _load(folder, files, decoder)
    if pixels is None:
        with locked(cache, f"pixels-{key}"):
            pixels = _load(folder, files, decoder)  # another process may have built it while this one waited
            if pixels is None:
                _sweep(cache, folder.parent)
                _require_space(cache, files, decoder)
                _write(files, decoder, folder, key, progress)
                pixels = Pixels(folder)
    if pixels.broken and not skip_broken:
        raise UserError(broken_text(files, pixels.broken, _noun(decoder) or "files"))
    mark_used(folder)
    return pixels


def _noun(decoder: Decoder) -> str:
    return "masks" if decoder.planes == 1 else ""


def broken_text(files: Files, broken: Mapping[int, str], what: str = "files") -> str:
    """Return one line that names up to five broken files with their reasons, and what to do."""
    shown = "; ".join(f"{files.files[i]} ({reason})" for i, reason in sorted(broken.items())[:5])
    more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
    return one_line(f"{files.root}: {len(broken)} of {len(files.files)} {what} can't be decoded: {shown}{more}; "
                    "mend or remove them, or go on without them by --skip-broken")  # fmt: skip


def _load(folder: Path, files: Files, decoder: Decoder) -> Pixels | None:
    """Open a store that is whole; a damaged one, or one whose broken files have become readable, counts as absent."""
    try:
        pixels = Pixels(folder)
    except (OSError, ValueError, KeyError, EOFError, TypeError):
        return None
    if len(pixels) != len(files.files):
        return None
    return None if any(_decodes(files.path(i), decoder) for i in pixels.broken) else pixels


def _decodes(path: Path, decoder: Decoder) -> bool:
    try:
        decoder.decode(path)
    except BrokenImage:
        return False
    return True


def _sweep(cache: Path, folder: Path) -> None:
    """Remove what killed builds left behind; a build that still runs holds its lock."""
    for stale in folder.glob("*.tmp"):
        try:
            with locked(cache, f"{folder.name}-{stale.stem}", timeout=0):
                shutil.rmtree(stale, ignore_errors=True)
        except Timeout:
            continue


def _require_space(cache: Path, files: Files, decoder: Decoder) -> None:
    needed, free = estimate(files, decoder), shutil.disk_usage(cache).free
    if needed > free:
        raise UserError(_full(cache, decoder, f"{needed / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free"))


def _full(cache: Path, decoder: Decoder, facts: str) -> str:
    lower = ""
    if isinstance(decoder, ImageDecoder):
        lower = f", or lower data.{'scale' if decoder.side is None else 'stored'} in the recipe"
    return (f"{cache}: not enough room on the disk for the decoded {_noun(decoder) or 'images'} ({facts}); free some, "
            f"or set OCTAVO_CACHE to another disk{lower}")  # fmt: skip


def _write(files: Files, decoder: Decoder, folder: Path, key: str, progress: Progress) -> None:
    """Decode everything into a folder beside the target and rename it there when it is whole."""
    temporary = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        with (temporary / "pixels.bin").open("wb") as file:
            sizes, broken, digest = _fill(file, files, decoder, progress)
            _flush(file)
        with (temporary / "sizes.npy").open("wb") as file:
            np.save(file, sizes)
            _flush(file)
        meta = {
            "key": key,
            "digest": digest,
            "images": len(sizes),
            "decoder": decoder.key,
            "planes": decoder.planes,
            "fill": decoder.fill,
            "folder": str(Path(files.folder or files.root).resolve()),
            "broken": broken,
        }
        with (temporary / "index.json").open("wb") as file:
            file.write(json.dumps(meta, ensure_ascii=True).encode())
            _flush(file)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(_full(folder.parent.parent, decoder, "it filled up while they were written")) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(file: BinaryIO, files: Files, decoder: Decoder, progress: Progress) -> tuple[np.ndarray, dict[int, str], str]:
    """Write all images in order; return their sizes, the broken ones, and the digest."""
    total = len(files.files)
    sizes = np.zeros((total, 2), np.int32)
    broken: dict[int, str] = {}
    digest = hashlib.sha256()
    what = f"decode {_noun(decoder)}".strip()
    for index, image in enumerate(decoded([files.path(i) for i in range(total)], decoder)):
        if isinstance(image, str):
            broken[index] = image
        else:
            planes = np.ascontiguousarray(image.transpose(2, 0, 1))
            sizes[index] = planes.shape[1:]
            digest.update(planes.data)
            file.write(planes.data)
        progress(what, index + 1, total)
    digest.update(sizes.astype("<i4").tobytes())
    return sizes, broken, digest.hexdigest()


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
