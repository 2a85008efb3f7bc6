"""Images in memory (encoded bytes, Pillow images, arrays), decoded to the pixels that their files would give."""

from __future__ import annotations

import io
import threading
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from octavo.data.budget import DECODING
from octavo.data.pixels import (
    bounded,
    decode,
    loaded,
    orientation,
    probe,
    reduced,
    refusing,
    require_bands,
    require_size,
    turned,
)
from octavo.data.rgb import BrokenImage
from octavo.data.strictness import MAX_PIXELS, strict

MemoryImage: TypeAlias = bytes | Image.Image | NDArray[np.uint8]
"""An encoded image, one that Pillow has opened or made, or pixels uint8 [H,W,3] (RGB) or [H,W] (grey)."""
_PILLOW = (
    threading.Lock()
)  # Pillow loads an image, and parses its EXIF block, when first asked, and not safely in threads


def decode_in_memory(
    image: MemoryImage, max_pixels: int = MAX_PIXELS, side: int | None = None, scale: float = 1.0
) -> np.ndarray:
    """Return the pixels of an image in memory, uint8 [H, W, 3], as `pixels.decode` returns those of its file.

    A Pillow image that isn't loaded yet is read from its file and decoded as that is, to the bit. Pixels that are
    decoded already, by Pillow or as an array, are reduced to `side` or by `scale` from their full size, where the
    decoder of a JPEG file has halved it first, once or more, if it is four times as large as it will be.

    Raises:
        BrokenImage: it can't be decoded, has no pixels or too many, or is an array of another shape or type.
    """
    if isinstance(image, np.ndarray):
        return _of_array(image, max_pixels, side, scale)
    if not isinstance(image, Image.Image):
        return decode(io.BytesIO(image), max_pixels, side, scale)
    with refusing(max_pixels), strict(max_pixels):
        if (encoded := _unread(image)) is not None:
            return decode(io.BytesIO(encoded), max_pixels, side, scale)
        require_size(*image.size, max_pixels)
        require_bands(getattr(image, "tag_v2", None), None)
        with DECODING.held(image.width * image.height), _PILLOW:
            return turned(*loaded(image, bounded(*image.size, side, scale), side, scale, "IMAGE"))


def size_in_memory(image: MemoryImage, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return the height and width, upright, of an image in memory.

    Raises:
        BrokenImage: as `decode_in_memory`, as far as that shows without decoding.
    """
    if isinstance(image, np.ndarray):
        require_array(image, max_pixels)
        return image.shape[0], image.shape[1]
    encoded = image
    if isinstance(image, Image.Image):
        with refusing(max_pixels), strict(max_pixels):
            encoded = _unread(image)
            if encoded is None:
                require_size(*image.size, max_pixels)
                with _PILLOW:
                    image.load()
                    width, height = image.size
                    return (height, width) if orientation(image) < 5 else (width, height)
    assert not isinstance(encoded, Image.Image) and encoded is not None
    header = probe(io.BytesIO(encoded), max_pixels)
    return header.height, header.width


def require_array(pixels: np.ndarray, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse an array that isn't an image.

    Raises:
        BrokenImage: it isn't uint8 [H,W,3] or [H,W], has no pixels or too many.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        shape = ",".join(map(str, pixels.shape))
        found = f"an array of {pixels.dtype} [{shape}]; expected uint8 [H,W,3] (RGB) or [H,W] (grey)"
        raise BrokenImage(f"{found}{_advice(pixels)}")
    require_size(pixels.shape[1], pixels.shape[0], max_pixels)


def _advice(pixels: np.ndarray) -> str:
    """Return what makes an image of an array, where that is likely known: `; of values from 0 to 1: …`."""
    if pixels.ndim == 4:
        return "; give a list of images for several: list(array)"
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        return "; take array[:, :, 0]"
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        return "; Image.fromarray(array) of Pillow is read with its alpha"
    if pixels.ndim == 3 and pixels.shape[0] == 3:
        return "; put the channels last: array.transpose(1, 2, 0)"
    if np.issubdtype(pixels.dtype, np.floating):
        return "; of values from 0 to 1: (255 * array).round().astype(np.uint8)"
    return ""


def _of_array(pixels: NDArray[np.uint8], max_pixels: int, side: int | None, scale: float) -> np.ndarray:
    require_array(pixels, max_pixels)
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    to = bounded(rgb.shape[1], rgb.shape[0], side, scale)
    if to == (rgb.shape[1], rgb.shape[0]):
        return rgb
    with refusing(max_pixels):
        return reduced(Image.fromarray(np.ascontiguousarray(rgb)), to)


def _unread(image: Image.Image) -> bytes | None:
    """Return the content of the file of a Pillow image that is as `Image.open` gave it; None of all others.

    Those are images that are loaded, were made otherwise, or of which another frame or size was asked for.
    """
    with _PILLOW:
        if not isinstance(image, ImageFile.ImageFile) or not image.tile or image.fp is None:
            return None
        if image.tell() or getattr(image, "decoderconfig", ()):
            return None
        here = image.fp.tell()
        image.fp.seek(0)
        try:
            return image.fp.read()
        finally:
            image.fp.seek(here)
