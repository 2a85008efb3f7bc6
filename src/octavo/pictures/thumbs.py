"""Thumbnails in one sheet, for a plot that shows an image where the mouse is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

ROOM = 3_000_000
"""Bytes that a sheet should not exceed."""
_QUALITIES = (80, 65, 50, 35, 20)


@dataclass(frozen=True)
class Sheet:
    """Thumbnails in rows.

    Attributes:
        content: the bytes of a JPEG file.
        side: pixels of a thumbnail's side.
        across: thumbnails in a row.
    """

    content: bytes
    side: int
    across: int


def thumb_sheet(images: Iterable[np.ndarray], count: int, room: int = ROOM) -> Sheet:
    """Return the thumbnails of images in one sheet: each whole, in the middle of a white square.

    The squares have 48 pixels, and 40 where there are more than 1,500 images; JPEG's quality is lowered until the sheet
    is small enough.

    Args:
        images: `count` of them, uint8 [H,W,3] of any size.
        count: at least 1.
        room: bytes.
    """
    side = 48 if count <= 1500 else 40
    across = math.ceil(math.sqrt(count))
    sheet = Image.new("RGB", (across * side, math.ceil(count / across) * side), "white")
    for place, image in enumerate(images):
        height, width = image.shape[:2]
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
        corner = (place % across * side + (side - size[0]) // 2, place // across * side + (side - size[1]) // 2)
        sheet.paste(small, corner)
    content = b""
    for quality in _QUALITIES:
        file = BytesIO()
        sheet.save(file, "JPEG", quality=quality, optimize=True)
        content = file.getvalue()
        if len(content) <= room:
            break
    return Sheet(content, side, across)
