"""Image files decoded by Pillow to the RGB that a person would see, or refused with a reason."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from PIL import (  # the plugins are registered here, once: Pillow's own lazy loading isn't made for threads
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from octavo.data.budget import DECODING
from octavo.data.formats import FORMATS, READ, SNIFFED, advice, format_of, unread_format
from octavo.data.png import without_pixels
from octavo.data.rgb import BrokenImage, require_bands, to_rgb
from octavo.data.strictness import MAX_PIXELS, strict
from octavo.data.tiff import tags_of

PLUGINS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin, BmpImagePlugin, TiffImagePlugin,
           GifImagePlugin, AvifImagePlugin, PpmImagePlugin)  # fmt: skip
LONGEST = 8
"""Most that the longer side may measure, in bounds on the shorter: one canvas holds a batch, as wide as its widest."""
_TORCH = 8  # strongest reduction by torch
DECODER = f"4/{PIL.__version__}"
"""Version of the decoding: pixels decoded under another may differ, so stores are keyed by it."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_AHEAD = 1 << 18
"""Bytes that are read at once where pixels are wanted; Pillow alone asks for small ones, a third of a JPEG's time."""
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Header:
    """What an image file says of itself: format (a key of SUFFIXES), Pillow's mode, and size in pixels, upright."""

    format: str
    mode: str
    width: int
    height: int


def bounded(width: int, height: int, side: int | None, scale: float = 1.0) -> tuple[int, int]:
    """Return (width, height) scaled down so that the shorter is at most `side` and the longer at most 8 × `side`.

    Unchanged where both already are. Of a strip the shorter may become less than `side`, but never less than 1.
    Before that, both are multiplied by `scale` and rounded, to at least 1.

    Raises:
        ValueError: for a scale that isn't in 0 < scale ≤ 1.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale {scale}: expected 0 < scale ≤ 1")
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    if side is None:
        return width, height
    short, long = min(width, height), max(width, height)
    if long > LONGEST * max(short, side):
        return max(1, round(width * LONGEST * side / long)), max(1, round(height * LONGEST * side / long))
    if short <= side:
        return width, height
    return max(side, round(width * side / short)), max(side, round(height * side / short))


def decode(
    source: str | Path | BinaryIO, max_pixels: int = MAX_PIXELS, side: int | None = None, scale: float = 1.0
) -> np.ndarray:
    """Decode one image file to uint8 [H, W, 3], upright, as a viewer shows it.

    Grey and palette become RGB; alpha is composited on white; CMYK is converted without colour profiles; 16-bit grey is
    scaled from 0–65535 to 0–255 whatever its content (a file that uses only 0–255 is black in a viewer too); float TIFF
    must lie in 0–1; of an animation the first frame is taken. The image is reduced, antialiased, by the factor `scale`
    (0 < scale ≤ 1) and, with `side`, to at most that many pixels on its shorter side and 8 times as many on the longer
    (see `bounded`); it is never enlarged. Safe in threads, which wait for each other where together they would need too
    much memory.

    A file whose pixels are all there is whole, even if metadata are damaged or an end mark is missing.

    Raises:
        BrokenImage: for anything that can't be decoded, or has more than `max_pixels` pixels.
    """
    source = Path(source) if isinstance(source, str) else source
    with refusing(max_pixels), strict(max_pixels), opened(source, max_pixels, _AHEAD) as image:
        target, whole = bounded(*image.size, side, scale), image.size
        if target != image.size:
            image.draft(None, (2 * target[0], 2 * target[1]))  # JPEG alone: decodes at 1/2, 1/4 or 1/8
        path = source if isinstance(source, Path) else None
        require_bands(getattr(image, "tag_v2", None), path)
        with DECODING.held(math.prod(whole if image.info.get("progressive") else image.size)):
            pixels, upright = loaded(image, target, side, scale, path.name if path else "FILE")
            Image.Image.close(image)  # its memory is free before another thread takes as much; the file stays open
            return turned(pixels, upright)


def turned(pixels: np.ndarray, upright: int) -> np.ndarray:
    """Return pixels uint8 [H, W, 3] turned as EXIF's orientation says."""
    return np.asarray(Image.fromarray(pixels).transpose(UPRIGHT[upright])) if upright in UPRIGHT else pixels


def loaded(
    image: Image.Image, size: tuple[int, int], side: int | None, scale: float, name: str
) -> tuple[np.ndarray, int]:
    """Return an image as uint8 [H, W, 3], reduced to (width, height), and EXIF's orientation, by which to turn it."""
    image.load()
    if image.format == "TIFF":  # Pillow turns it upright while loading
        size = bounded(*image.size, side, scale)
    upright = orientation(image)
    rgb = to_rgb(image, name)
    return np.array(rgb, dtype=np.uint8) if rgb.size == size else reduced(rgb, size), upright


def reduced(rgb: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Return uint8 [H, W, 3] at another (width, height), bicubic and antialiased; it may lie in memory plane by plane.

    By torch, which gives what Pillow gives (to one level in 0.2 % of the values) in a fifth of its time; but its
    arithmetic on bytes fails on lines of pixels, and has too few digits for strong reductions.
    """
    factor = max(old / new for old, new in zip(rgb.size, size, strict=True))
    if factor > _TORCH or min(*rgb.size, *size) < 2:
        return np.array(rgb.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))
    import torch  # slow to load, and needed where something is reduced alone
    from torch.nn.functional import interpolate

    planes = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None]
    out = interpolate(planes, size=size[::-1], mode="bicubic", antialias=True)
    return out[0].permute(1, 2, 0).numpy()


def probe(source: str | Path | BinaryIO, max_pixels: int = MAX_PIXELS) -> Header:
    """Read an image file's header, without decoding its pixels.

    Raises:
        BrokenImage: when it isn't an image of a known format, or has more than `max_pixels` pixels.
    """
    with refusing(max_pixels), strict(max_pixels), opened(source, max_pixels) as image:
        name = "JPEG" if image.format == "MPO" else str(image.format)
        # Of TIFF alone, Pillow tells the upright size at once.
        size = image.size if name == "TIFF" or _orientation_of_header(image) < 5 else image.size[::-1]
        return Header(name, image.mode, *size)


def _orientation_of_header(image: ImageFile.ImageFile) -> int:
    """Return EXIF's orientation of an image that isn't decoded; Pillow would decode a PNG to look behind its pixels."""
    if image.format != "PNG" or image.fp is None:
        return orientation(image)
    tags = without_pixels(image.fp)
    if tags is None:
        return 1
    with Image.open(tags, formats=["PNG"]) as tagged:
        return orientation(tagged)


@contextmanager
def working_on(path: Path) -> Iterator[None]:
    """Hold back other threads while they and the work on one file's pixels would need too much memory together."""
    try:
        header = probe(path)
    except (BrokenImage, OSError):
        header = Header("", "", 0, 0)
    with DECODING.held(header.width * header.height):
        yield


@contextmanager
def refusing(max_pixels: int) -> Iterator[None]:
    """Turn whatever Pillow raises into BrokenImage; its plugins raise a dozen kinds of errors on damaged files."""
    try:
        yield
    except BrokenImage:
        raise
    except Exception as error:
        raise BrokenImage(_reason(error, max_pixels)) from error


def _reason(error: Exception, max_pixels: int) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not a {READ} image"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than the limit of {max_pixels:,} pixels"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:200]


@contextmanager
def opened(source: str | Path | BinaryIO, max_pixels: int, ahead: int = -1) -> Iterator[ImageFile.ImageFile]:
    """Give an image whose header has been read and found fit, and close it afterwards; see `refusing` and `strict`.

    A file is read in pieces of `ahead` bytes; by default in small ones, as is best for its header alone.
    """
    suffix = ""
    with ExitStack() as stack:
        if isinstance(source, (str, Path)):
            status = Path(source).stat()
            if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
                raise BrokenImage("not a file")
            if status.st_size == 0:
                raise BrokenImage("empty file")
            suffix = Path(source).suffix.lower()
            source = stack.enter_context(Path(source).open("rb", buffering=ahead))
        image = stack.enter_context(_identified(source, suffix))
        require_size(*image.size, max_pixels)
        yield image


def require_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image without pixels, and one with more than `max_pixels`.

    Raises:
        BrokenImage: it is one of these.
    """
    if width * height > max_pixels:
        raise BrokenImage(f"{width}×{height} pixels, more than the limit of {max_pixels:,}")
    if width < 1 or height < 1:
        raise BrokenImage("no pixels")


def _identified(source: BinaryIO, suffix: str) -> ImageFile.ImageFile:
    """Open an image of a known format; of another, say which it is by its first bytes or its file's ending."""
    try:
        return Image.open(source, formats=FORMATS)
    except UnidentifiedImageError as error:
        source.seek(0)
        name = format_of(source.read(SNIFFED)) or unread_format(suffix)
        if name and name not in FORMATS:
            raise BrokenImage(advice(name)) from error
        require_bands(tags_of(source), Path(source.name) if suffix else None)
        raise


def orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8; 1, upright, where there is none."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block: viewers show the picture as it is stored
        return 1
