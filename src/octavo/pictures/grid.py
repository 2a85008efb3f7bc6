"""Pictures in rows and columns with headers, names and legends."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from octavo.pictures.style import INK, PALE, Colour, plain, short

_LONGEST = 720  # pixels of a picture's longer side that are drawn
_CELL, _WIDEST, _NARROWEST = 2.3, 10.3, 1.3  # inches: side of a picture, all of them together, side at least
_GAP, _LINE, _NOTED = 0.08, 0.28, 1.3  # inches: between pictures, line of a legend, height that a note needs
_HEADING = 0.75  # inches that the heading of a legend takes
Box = tuple[float, float, float, float]
"""Left, bottom, width and height in inches."""


@dataclass(frozen=True, eq=False)
class GridRow:
    """A row of pictures.

    Attributes:
        name: of what they show, written beside them.
        pictures: uint8 [H,W,3] each; None where there is none.
        note: two short lines under the name.
    """

    name: str
    pictures: tuple[np.ndarray | None, ...]
    note: str = ""


@dataclass(frozen=True)
class Swatch:
    """How a legend shows what an area means: a colour, with stripes of another or without."""

    colour: Colour
    stripes: Colour | None = None


Legend = Mapping[str, Swatch]


def picture_grid(
    rows: Sequence[GridRow],
    columns: Sequence[str],
    legends: Mapping[str, Legend],
    smooth: Collection[int] = (0,),
) -> Figure:
    """Return pictures in rows under their headers, and legends below; at most 11 inches wide up to seven columns.

    Args:
        rows: with as many pictures as there are columns.
        columns: headers; a second line of one is set smaller.
        legends: heading → name → what it looks like.
        smooth: columns of photographs, whose colours may be mixed where they are drawn smaller.

    Raises:
        ValueError: no rows, or a row with another number of pictures.
    """
    if not rows or any(len(row.pictures) != len(columns) for row in rows):
        raise ValueError(f"expected rows of {len(columns)} pictures")
    cell = max(min(_CELL, _WIDEST / len(columns) - _GAP), _NARROWEST)
    heights = [max(cell * min(max(_aspect(row), 0.3), 2.0), _NOTED if row.note else 0.0) for row in rows]
    left, top = 0.84 if any(row.note for row in rows) else 0.42, 0.62 if any("\n" in c for c in columns) else 0.42
    wide = len(columns) * (cell + _GAP)
    below = 0.1 + sum(_LINE * _lines(heading, legend, wide) for heading, legend in legends.items())
    size = (left + wide, top + sum(heights) + _GAP * len(rows) + below)
    figure = Figure(size, facecolor="white")
    for j, column in enumerate(columns):
        _header(figure, column, (left + j * (cell + _GAP) + cell / 2, size[1] - 0.15), size)
    y = size[1] - top
    for row, tall in zip(rows, heights, strict=True):
        y -= tall
        for j, picture in enumerate(row.pictures):
            _picture(figure, picture, (left + j * (cell + _GAP), y, cell, tall), size, smooth=j in smooth)
        _name(figure, row, (left, y, tall), size)
        y -= _GAP
    _legends(figure, legends, (left, below - 0.05, wide), size)
    return figure


def smaller(picture: np.ndarray, *, smooth: bool = False, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return a picture uint8 [H,W,3], or values uint8 [H,W], of at most 720 pixels a side, or of another size.

    Args:
        picture: what is made smaller.
        smooth: whether its colours may be mixed; those of masks never are.
        size: height and width, if they are to be others.
    """
    height, width = picture.shape[:2]
    factor = min(_LONGEST / max(height, width), 1.0)
    target = size or (max(1, round(height * factor)), max(1, round(width * factor)))
    if target == (height, width):
        return picture
    way = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((target[1], target[0]), way))


def _aspect(row: GridRow) -> float:
    return next((p.shape[0] / p.shape[1] for p in row.pictures if p is not None), 1.0)


def _header(figure: Figure, column: str, at: tuple[float, float], size: tuple[float, float]) -> None:
    """Write a header, its top at `at` (middle, top, in inches)."""
    first, _, second = column.partition("\n")
    for text, down, points, colour in ((first, 0.0, 11, INK), (second, 0.22, 8.5, PALE)):
        figure.text(at[0] / size[0], (at[1] - down) / size[1], plain(text)).set(
            ha="center", va="top", fontsize=points, color=colour
        )


def _name(figure: Figure, row: GridRow, at: tuple[float, float, float], size: tuple[float, float]) -> None:
    """Write name and note upwards, left of `at` (left, bottom, height in inches)."""
    left, y, tall = at
    lines = [(short(row.name, int(tall * 11)), 9, INK), *((line, 8.5, PALE) for line in row.note.split("\n") if line)]
    for place, (text, points, colour) in enumerate(reversed(lines)):
        figure.text((left - 0.1 - 0.19 * place) / size[0], (y + tall / 2) / size[1], plain(text)).set(
            rotation=90, ha="right", va="center", fontsize=points, color=colour
        )


def _picture(figure: Figure, picture: np.ndarray | None, box: Box, size: tuple[float, float], *, smooth: bool) -> None:
    """Draw a picture into a box, as large as its shape lets it be."""
    x, y, wide, tall = box
    axes = figure.add_axes((x / size[0], y / size[1], wide / size[0], tall / size[1]))
    axes.set_xticks([])
    axes.set_yticks([])
    if picture is None:
        axes.set_facecolor("#f4f4f4")
        axes.spines[:].set_visible(False)
        axes.text(0.5, 0.5, "none", ha="center", va="center", fontsize=9, color=PALE, transform=axes.transAxes)
        return
    shown = smaller(picture, smooth=smooth)
    axes.imshow(shown, interpolation="auto" if smooth else "nearest", aspect="equal")
    axes.spines[:].set_color("#bbbbbb")
    axes.spines[:].set_linewidth(0.6)


def _step(legend: Legend) -> float:
    """Return the width of one entry of a legend, in inches."""
    return 0.45 + 0.085 * max((len(short(name, 30)) for name in legend), default=0)


def _across(heading: str, legend: Legend, wide: float) -> int:
    return max(1, int((wide - (_HEADING if heading else 0)) / _step(legend)))


def _lines(heading: str, legend: Legend, wide: float) -> int:
    return math.ceil(len(legend) / _across(heading, legend, wide))


def _legends(
    figure: Figure, legends: Mapping[str, Legend], at: tuple[float, float, float], size: tuple[float, float]
) -> None:
    """Draw legends one below another, from `at` (left, top and width in inches)."""
    left, top, wide = at
    for heading, legend in legends.items():
        _legend(figure, heading, legend, (left, top, wide), size)
        top -= _LINE * _lines(heading, legend, wide)


def _legend(
    figure: Figure, heading: str, legend: Legend, at: tuple[float, float, float], size: tuple[float, float]
) -> None:
    """Draw a square and a name an entry below `at` (left, top and width in inches)."""
    left, top, wide = at
    start, across = left + (_HEADING if heading else 0), _across(heading, legend, wide)
    if heading:
        text = figure.text(left / size[0], (top - _LINE + 0.075) / size[1], plain(heading))
        text.set(va="center", fontsize=9, color=PALE)
    for number, (name, swatch) in enumerate(legend.items()):
        x, y = start + number % across * _step(legend), top - _LINE * (number // across + 1)
        square = Rectangle((x / size[0], y / size[1]), 0.16 / size[0], 0.16 / size[1], transform=figure.transFigure)
        square.set(facecolor=_share(swatch.colour), edgecolor="#999999", linewidth=0.6)
        figure.add_artist(square)
        if swatch.stripes:
            striped = Rectangle(square.get_xy(), square.get_width(), square.get_height(), transform=figure.transFigure)
            striped.set(fill=False, hatch="/////", edgecolor=_share(swatch.stripes), linewidth=0)
            figure.add_artist(striped)
        text = figure.text((x + 0.23) / size[0], (y + 0.075) / size[1], plain(short(name, 30)))
        text.set(va="center", fontsize=9, color=INK)


def _share(colour: Colour) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255
