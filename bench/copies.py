"""Changes that make a near-duplicate of an image: what the leak gate is tried on."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def recompressed(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """Through JPEG of quality 45 to 55."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(draw.integers(45, 56)))
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def resized(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """By 0.6 to 1.6, by one of three filters, half of them back again."""
    factor = draw.uniform(0.6, 1.6)
    filters = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
    width, height = (max(8, round(side * factor)) for side in image.size)
    other = image.resize((width, height), filters[draw.integers(3)])
    return other.resize(image.size, Image.Resampling.BICUBIC) if draw.random() < 0.5 else other


def mirrored(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """Left to right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def upside_down(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """Top to bottom."""
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def cropped(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """To 80 to 95 % of the area, half of them resized back."""
    (width, height), wide, tall = image.size, 0, 0
    while not (0.8 <= wide * tall / (width * height) < 1 and wide <= width and tall <= height):
        area, shape = draw.uniform(0.8, 0.95), np.exp(draw.uniform(-0.11, 0.11))
        wide, tall = int(np.ceil(width * np.sqrt(area * shape))), int(np.ceil(height * np.sqrt(area / shape)))
    x, y = int(draw.integers(0, width - wide + 1)), int(draw.integers(0, height - tall + 1))
    part = image.crop((x, y, x + wide, y + tall))
    return part.resize(image.size, Image.Resampling.BICUBIC) if draw.random() < 0.5 else part


def recoloured(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """Brightness, contrast, saturation by 5 to 10 % each, hue by up to 10 % of the circle."""
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(1 + draw.choice([-1, 1]) * draw.uniform(0.05, 0.1))
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue).astype(int) + round(256 * draw.uniform(-0.1, 0.1))) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")


KINDS: dict[str, Change] = {
    "recompressed": recompressed,
    "resized": resized,
    "mirrored": mirrored,
    "upside down": upside_down,
    "cropped": cropped,
    "recoloured": recoloured,
}
