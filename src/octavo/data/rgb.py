"""RGB conversion of images that Pillow has loaded, and the bands of TIFF files that have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from octavo.data.tiff import PHOTOMETRIC, Tags, georeferenced, unfit_alpha, unfit_bands


class BrokenImage(ValueError):
    """A file that can't be decoded; the message is the reason, in one line, without the file's name."""


def require_bands(tags: Tags | None, path: Path | None) -> None:
    """Refuse a TIFF whose bands don't make a picture, before it is loaded.

    Args:
        tags: of the file; None where it is no TIFF.
        path: where it lies, if that is known.

    Raises:
        BrokenImage: with what to do.
    """
    on_ground = tags is not None and path is not None and georeferenced(path, tags)
    if tags is not None and (reason := unfit_bands(tags, path.name if path else "FILE", on_ground)):
        raise BrokenImage(reason)


def to_rgb(image: Image.Image, name: str = "FILE") -> Image.Image:
    """Return a loaded image in RGB, as a viewer shows it; see `pixels.decode`. `name` is of its file.

    Raises:
        BrokenImage: values that have no place in 0–255, or a band that is called alpha and isn't.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_bytes(image)).convert("RGB")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        straight = {"La": "LA"}.get(image.mode)  # premultiplied grey has one way out only
        rgba = (image.convert(straight) if straight else image).convert("RGBA")
        alpha = np.asarray(rgba.getchannel("A"))
        if image.format == "TIFF" and (reason := unfit_alpha(alpha, name, len(image.mode))):
            raise BrokenImage(reason)
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_bytes(image: Image.Image) -> np.ndarray:
    """Scale a grey image of 16-bit, 32-bit or float values to uint8 [H, W]."""
    values = np.asarray(image)
    if image.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise BrokenImage("floating-point values outside 0–1")
        return np.rint(values * 255).astype(np.uint8)
    if image.mode == "I" and (values.min() < 0 or values.max() > 65535):
        raise BrokenImage("integer values outside 0–65535")
    scaled = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == 0:  # white is zero
        scaled = 255 - scaled
    if isinstance(clear := image.info.get("transparency"), int):
        scaled[values == clear] = 255
    return scaled
