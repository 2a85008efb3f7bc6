"""PNG files written from strips of rows, and their tags read without their pixels.

Pillow holds the whole picture in memory for the one, at four bytes a pixel, and decodes it for the other.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from io import BytesIO
from typing import IO, BinaryIO

import numpy as np

from octavo.overwrite import beginning_with

_GREY, _RGB, _UP = 0, 2, 2
_LEVEL = 6
_HEAD = b"\x89PNG\r\n\x1a\n"
_TAGS, _LONGEST_TAG = (b"eXIf", b"tEXt", b"zTXt", b"iTXt"), 1 << 24
_SIGNED = b"Software\0Octavo"

PNG = beginning_with("mask of ours", b"tEXt" + _SIGNED, 64, image=True)
"""The kind of file that `write_png` writes."""


def write_png(file: BinaryIO, strips: Iterable[np.ndarray], height: int, width: int, *, grey: bool = False) -> None:
    """Write a PNG of 8 bits a channel (PNG specification, third edition).

    Args:
        file: open for writing.
        strips: from top to bottom, uint8 [n,W,3], or [n,W] with `grey`; `height` rows together.
        height: in pixels.
        width: in pixels.
        grey: one channel instead of three.

    Raises:
        ValueError: strips of another shape, or of another height together.
    """
    shape = (width,) if grey else (width, 3)
    file.write(_HEAD)
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _GREY if grey else _RGB, 0, 0, 0))
    _chunk(file, b"tEXt", _SIGNED)
    packer, rows = zlib.compressobj(_LEVEL), 0
    above = np.zeros((1, width * (1 if grey else 3)), np.uint8)
    for strip in strips:
        if strip.shape[1:] != shape or strip.dtype != np.uint8:
            raise ValueError(f"expected strips of uint8 [n, {', '.join(map(str, shape))}], got {strip.shape}")
        lines = strip.reshape(len(strip), -1)
        # Filter "Up": each row less the one above it, which makes a mask's rows mostly zeros.
        filtered = np.full((len(lines), lines.shape[1] + 1), _UP, np.uint8)
        np.subtract(lines, np.concatenate([above, lines[:-1]]), out=filtered[:, 1:])
        if packed := packer.compress(filtered.data):
            _chunk(file, b"IDAT", packed)
        above, rows = lines[-1:].copy() if len(lines) else above, rows + len(lines)
    if rows != height:
        raise ValueError(f"expected {height} rows, got {rows}")
    _chunk(file, b"IDAT", packer.flush())
    _chunk(file, b"IEND", b"")


def without_pixels(file: IO[bytes]) -> BytesIO | None:
    """Return a PNG of one pixel with the texts and EXIF data of a PNG, from before and behind its pixels.

    None if it has none. A damaged end is left out.
    """
    tags = BytesIO()
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in _TAGS and length <= _LONGEST_TAG:
            tags.write(head + file.read(length + 4))
        else:
            file.seek(length + 4, os.SEEK_CUR)
        if kind == b"IEND":
            break
    if not tags.tell():
        return None
    made = BytesIO()
    made.write(_HEAD)
    _chunk(made, b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, _GREY, 0, 0, 0))
    made.write(tags.getvalue())
    _chunk(made, b"IDAT", zlib.compress(b"\0\0"))
    _chunk(made, b"IEND", b"")
    made.seek(0)
    return made


def _chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
