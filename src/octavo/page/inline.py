"""Pictures as text in a page, re-encoded so that all of them together have room in it."""

from __future__ import annotations

import base64
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TypeVar

from PIL import Image

from octavo.data.pixels import MAX_PIXELS, BrokenImage, opened, refusing, strict

K = TypeVar("K", bound=Hashable)
_SMALL = 30_000  # bytes: a file below is taken as it is
_DRAWN = 6_000  # colours: a drawing with its smoothed edges has fewer, a photograph more


@dataclass(frozen=True)
class _Effort:
    """How hard pictures are squeezed: WebP's quality (0–100), and the share of their side that is kept."""

    quality: int
    side: float = 1.0


_EFFORTS = (_Effort(88), _Effort(75), _Effort(65, 0.75), _Effort(50, 0.5), _Effort(40, 0.33))


def inlined(pictures: Mapping[K, bytes], room: int) -> dict[K, str]:
    """Return pictures as `data:` URIs that need no more than `room` bytes together, if squeezing can do that.

    Drawings stay sharp in 256 colours; photographs become WebP; only where that isn't enough do they become smaller.
    What is no picture is left out.

    Args:
        pictures: PNG, JPEG, WebP or SVG files.
        room: bytes of all URIs together.
    """
    pictures = {key: content for key, content in pictures.items() if _is_picture(content)}
    small = {key: content for key, content in pictures.items() if len(content) <= _SMALL or _is_svg(content)}
    room -= sum(len(_uri(content)) for content in small.values())
    large = {key: content for key, content in pictures.items() if key not in small}
    found: dict[K, str] = {}
    for effort in _EFFORTS:
        found = {key: _uri(_squeezed(content, effort)) for key, content in large.items()}
        if sum(map(len, found.values())) <= room:
            break
    return {key: found[key] if key in found else _uri(small[key]) for key in pictures}


def _squeezed(content: bytes, effort: _Effort) -> bytes:
    """Return a picture in the smaller of the two forms that suit it; its own bytes where nothing is gained."""
    with Image.open(BytesIO(content)) as opened:
        image = _on_white(opened)
    if effort.side < 1:
        image = image.resize([max(1, round(side * effort.side)) for side in image.size], Image.Resampling.LANCZOS)
    drawn = image.getcolors(_DRAWN) is not None
    made = _png(image) if drawn else _webp(image, effort.quality)
    return made if len(made) < len(content) or effort.side < 1 else content


def _on_white(image: Image.Image) -> Image.Image:
    """Return an image in RGB; where it is transparent, white."""
    full = image.convert("RGBA")
    white = Image.new("RGBA", full.size, "white")
    return Image.alpha_composite(white, full).convert("RGB")


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    if max(image.size) > 16383:  # the format's limit
        image.save(buffer, "JPEG", quality=quality, optimize=True)
    else:
        image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _uri(content: bytes) -> str:
    return f"data:{_kind(content)};base64,{base64.b64encode(content).decode()}"


def _kind(content: bytes) -> str:
    if _is_svg(content):
        return "image/svg+xml"
    if content.startswith(b"\x89PNG"):
        return "image/png"
    return "image/webp" if content[8:12] == b"WEBP" else "image/jpeg"


def _is_svg(content: bytes) -> bool:
    return b"<svg" in content[:1000]


def _is_picture(content: bytes) -> bool:
    if _is_svg(content):
        return True
    try:
        with refusing(MAX_PIXELS), strict(MAX_PIXELS), opened(BytesIO(content), MAX_PIXELS) as image:
            image.load()
    except BrokenImage:
        return False
    return True
