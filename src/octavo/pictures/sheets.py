"""Contact sheets: a grid of images with two lines below each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from PIL import Image

from octavo.pictures.style import INK, PALE, plain, short

SIDE = 1.6
"""Side in inches of the square that an image is drawn into."""
_ACROSS = 6
_MARGIN, _GAP, _CAPTION = 0.22, 0.02, 0.42  # inches: room left of an image, right of it, and below it for two lines
_POINTS = 8.5
_BLOCKS = 16  # pixels up to which an image is enlarged as blocks; a larger one smoothly
_DRAWN = 320  # pixels of an image's longer side that go into the figure

Line = tuple[str, str, str]
"""A line below an image: what stands before a name, the name, which may be shortened, and what stands behind it."""


@dataclass(frozen=True, eq=False)
class Tile:
    """An image of a contact sheet.

    Attributes:
        picture: uint8 [H,W,3] of any size.
        first: the line below it, such as `("true ", "tarantula", "")`.
        second: the line below that, such as `("→ ", "black widow", ", 97 %")`.
    """

    picture: np.ndarray
    first: Line
    second: Line


def contact_sheet(tiles: Sequence[Tile], across: int = _ACROSS) -> Figure:
    """Return a grid of numbered images, row by row, each as large as its shape lets it be in a square of `SIDE` inches.

    Args:
        tiles: at least one image.
        across: images in a row; six make a sheet eleven inches wide.

    Raises:
        ValueError: no images, or none in a row.
    """
    if not tiles or across < 1:
        raise ValueError(f"expected images, and at least one in a row; got {len(tiles)} images, {across} in a row")
    across = min(across, len(tiles))
    step, tall = _MARGIN + SIDE + _GAP, SIDE + _CAPTION
    size = (across * step, math.ceil(len(tiles) / across) * tall)
    figure = Figure(size, facecolor="white")
    for place, tile in enumerate(tiles):
        x, y = place % across * step + _MARGIN, size[1] - (place // across + 1) * tall + _CAPTION
        lay(figure, tile.picture, (x, y, SIDE, SIDE))
        write(figure, str(place + 1), (x - 0.05, y + SIDE - 0.02), ha="right", va="top", fontsize=8, color=PALE)
        for down, line, colour in ((0.03, tile.first, PALE), (0.19, tile.second, INK)):
            text = fitted(line, SIDE - 0.03, _POINTS)
            write(figure, text, (x, y - down), va="top", fontsize=_POINTS, color=colour)
    return figure


def lay(figure: Figure, picture: np.ndarray, box: tuple[float, float, float, float]) -> None:
    """Draw an image uint8 [H,W,3] into the middle of a box (left, bottom, width, height in inches), its shape kept."""
    wide, tall = (float(side) for side in figure.get_size_inches())
    axes = figure.add_axes((box[0] / wide, box[1] / tall, box[2] / wide, box[3] / tall))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#bbbbbb")
    axes.spines[:].set_linewidth(0.5)
    axes.imshow(enlarged(picture, _DRAWN), interpolation="antialiased", aspect="equal")


def write(figure: Figure, text: str, at: tuple[float, float], **looks: object) -> None:
    """Write text, in which a dollar sign is one, at a place in inches from the figure's lower left corner."""
    wide, tall = figure.get_size_inches()
    figure.text(float(at[0] / wide), float(at[1] / tall), plain(text)).set(**looks)


def enlarged(picture: np.ndarray, longest: int) -> np.ndarray:
    """Return an image uint8 [H,W,3] whose longer side has `longest` pixels: bicubic, or as blocks if it is tiny."""
    height, width = picture.shape[:2]
    factor = longest / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    way = Image.Resampling.NEAREST if max(height, width) <= _BLOCKS else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, way))


def fitted(line: Line, wide: float, points: float) -> str:
    """Return a line that is at most `wide` inches wide in letters of `points`: its name loses letters in the middle."""
    before, name, after = line
    length = len(name)
    while True:
        text = f"{before}{short(name, length)}{after}"
        found = _width(text, points)
        if found <= wide or length <= 5:
            return text
        length = max(5, min(length - 1, int(length * wide / found) + 2))


def _width(text: str, points: float) -> float:
    """Return how wide a line of text is in matplotlib's font, in inches."""
    if not text.strip():
        return 0.0  # matplotlib has no path of nothing
    with warnings.catch_warnings():
        # Names in a script that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")
        path = TextPath((0, 0), plain(text), size=points)
    return float(np.asarray(path.vertices)[:, 0].max()) / 72  # corners of the outlines: quicker than their extent
