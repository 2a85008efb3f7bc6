"""Pillow's process-wide switches: its warnings as errors, the most pixels that it decodes, and how it takes memory."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from PIL import Image, ImageFile

MAX_PIXELS = 100_000_000
"""Pixels of an image that is decoded, unless more are asked for."""
# In larger blocks than the C library keeps for itself once they are free: else each thread keeps a whole image's.
Image.core.set_block_size(1 << 26)

# Damaged metadata beside sound pixels: a person sees the picture, so it is no reason to refuse it.
_HARMLESS = (
    r"(Possibly c|C)orrupt EXIF data|Metadata Warning|Tag offset too large|Tag data larger than file|"
    r"Truncated File Read|Image appears to be a malformed MPO|Invalid APNG"
)


class _Strictness:
    """Pillow's process-wide switches, held while any thread decodes.

    `warnings.catch_warnings` swaps a global list and isn't safe when threads enter and leave it in turns. So the first
    one in sets the switches, the last one out restores them, and those in between only count.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._undo = ExitStack()

    def enter(self, max_pixels: int) -> None:
        with self._lock:
            if self._inside == 0:
                limit, truncated = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
                self._undo.callback(setattr, Image, "MAX_IMAGE_PIXELS", limit)
                self._undo.callback(setattr, ImageFile, "LOAD_TRUNCATED_IMAGES", truncated)
                self._undo.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("error", module=r"PIL\b")
                warnings.filterwarnings("ignore", message=_HARMLESS, module=r"PIL\b")
                ImageFile.LOAD_TRUNCATED_IMAGES = False
            # Raised on purpose, never lowered and never off: `max_pixels` itself is checked after the header is read.
            if Image.MAX_IMAGE_PIXELS is not None:
                Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._undo.pop_all().close()


_STRICTNESS = _Strictness()


@contextmanager
def strict(max_pixels: int = MAX_PIXELS) -> Iterator[None]:
    """Hold Pillow to its warnings as errors and to `max_pixels`; safe in threads, may be nested.

    `decode` does this itself; around many decodings it saves setting and restoring the switches for each.
    """
    _STRICTNESS.enter(max_pixels)
    try:
        yield
    finally:
        _STRICTNESS.leave()
