"""PNG files written from strips of rows: Pillow holds the whole picture in memory, at four bytes a pixel."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from octavo.overwrite import beginning_with

_GREY, _RGB, _UP = 0, 2, 2
_LEVEL = 6
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
    file.write(b"\x89PNG\r\n\x1a\n")
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


def _chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
