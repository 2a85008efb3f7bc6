"""Decoded images or masks, written once to one file per data set and found again by what they were made from."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import Timeout

from octavo.cache import locked, mark_used
from octavo.data.content import DIGITS, digest_of
from octavo.data.decoding import Decoder, Files, ImageDecoder, decoded, mean_bytes
from octavo.data.folder_sums import noted_in, require
from octavo.data.pixels import BrokenImage
from octavo.data.stored import CHECKED, Pixels
from octavo.data.walk import one_line
from octavo.errors import Damaged, UserError
from octavo.files import FULL, sync_folder
from octavo.integrity import sealed
from octavo.log import warn
from octavo.progress import Progress, silent

__all__ = ["Decoder", "Files", "ImageDecoder", "Pixels", "broken_text", "build", "decoded", "estimate", "store_key"]

_FORMAT = "2"


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


def built(files: Files, decoder: Decoder, cache: Path) -> Pixels | None:
    """Return the store of these images or masks if it is in `cache` already, and whole."""
    return _load(cache / "pixels" / store_key(files, decoder), files, decoder)


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
            # Another process may have built it while this one waited.
            pixels = _load(folder, files, decoder, tell=warn)
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


def _load(folder: Path, files: Files, decoder: Decoder, tell: Callable[[str], None] | None = None) -> Pixels | None:
    """Open a store that is whole; a damaged one, or one whose broken files have become readable, counts as absent."""
    if not folder.is_dir():
        return None
    try:
        pixels = Pixels(folder)
    except Damaged as error:
        if tell:
            tell(str(error))
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
    source = Path(files.folder or files.root)
    if source.is_relative_to(folder.parents[1] / "datasets") and noted_in(source):
        require(source, f"delete {source} (octavo cache --clear datasets), and it is made again", content=True)
    temporary = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        with (temporary / "pixels.bin").open("wb") as file:
            sizes, digests, broken, digest = _fill(file, files, decoder, progress)
            _flush(file)
        meta = {
            "checked": CHECKED,
            "key": key,
            "digest": digest,
            "images": len(sizes),
            "decoder": decoder.key,
            "planes": decoder.planes,
            "fill": decoder.fill,
            "folder": str(Path(files.folder or files.root).resolve()),
            "broken": {str(i): reason for i, reason in broken.items()},
            "hashes": {name: _save(temporary / name, array) for name, array in
                       {"sizes.npy": sizes, "digests.npy": np.array(digests, f"S{DIGITS}")}.items()},
        }  # fmt: skip
        with (temporary / "index.json").open("wb") as file:
            file.write(sealed(meta))
            _flush(file)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        if error.errno in FULL:
            raise UserError(_full(folder.parent.parent, decoder, "it filled up while they were written")) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _save(path: Path, array: np.ndarray) -> str:
    """Write an array to a file and return the SHA-256 of its content."""
    content = io.BytesIO()
    np.save(content, array)
    with path.open("wb") as file:
        file.write(content.getbuffer())
        _flush(file)
    return hashlib.sha256(content.getbuffer()).hexdigest()


def _fill(
    file: BinaryIO, files: Files, decoder: Decoder, progress: Progress
) -> tuple[np.ndarray, list[str], dict[int, str], str]:
    """Write all images in order; return their sizes and digests, the broken ones, and the digest of all."""
    total = len(files.files)
    sizes = np.zeros((total, 2), np.int32)
    digests = [""] * total
    broken: dict[int, str] = {}
    digest = hashlib.sha256()
    what = f"decode {_noun(decoder)}".strip()
    for index, image in enumerate(decoded([files.path(i) for i in range(total)], decoder)):
        if isinstance(image, str):
            broken[index] = image
        else:
            planes = np.ascontiguousarray(image.transpose(2, 0, 1))
            sizes[index], digests[index] = planes.shape[1:], digest_of(planes)
            digest.update(planes.data)
            file.write(planes.data)
        progress(what, index + 1, total)
    digest.update(sizes.astype("<i4").tobytes())
    return sizes, digests, broken, digest.hexdigest()


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
