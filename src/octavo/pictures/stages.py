"""The table of predicted masks by stage of training: one row an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from octavo.pictures.style import INK, PALE, Colour, plain, short

_LONGEST = 720  # pixels of a picture's longer side that are drawn
_CELL, _GAP, _LINE = 2.3, 0.08, 0.28  # inches: side of a picture, room between them, line of the legend


@dataclass(frozen=True, eq=False)
class StageRow:
    """One image of a table of stages.

    Attributes:
        name: what it is called.
        pictures: image, truth, and a mask a stage, each uint8 [H,W,3]; None where there is none.
    """

    name: str
    pictures: tuple[np.ndarray | None, ...]


def stage_table(rows: Sequence[StageRow], columns: Sequence[str], classes: Mapping[str, Colour]) -> Figure:
    """Return the table of predicted masks by stage: one row an image, a legend of the classes below.

    Args:
        rows: images with as many pictures as there are columns.
        columns: headers; a second line of one is set smaller.
        classes: name → red, green, blue in 0–255.

    Raises:
        ValueError: no rows, or a row with another number of pictures.
    """
    if not rows or any(len(row.pictures) != len(columns) for row in rows):
        raise ValueError(f"expected rows of {len(columns)} pictures")
    heights = [_CELL * min(max(_aspect(row), 0.3), 2.0) for row in rows]
    left, top = 0.42, 0.62 if any("\n" in column for column in columns) else 0.42
    wide = len(columns) * (_CELL + _GAP)
    across = max(1, int(wide / _legend_step(classes)))
    below = 0.1 + _LINE * math.ceil(len(classes) / across)
    size = (left + wide, top + sum(heights) + _GAP * len(rows) + below)
    figure = Figure(size, facecolor="white")
    for j, column in enumerate(columns):
        _header(figure, column, (left + j * (_CELL + _GAP) + _CELL / 2, size[1] - 0.15), size)
    y = size[1] - top
    for row, tall in zip(rows, heights, strict=True):
        y -= tall
        for j, picture in enumerate(row.pictures):
            _picture(figure, picture, (left + j * (_CELL + _GAP), y, _CELL, tall), size, smooth=j == 0)
        text = figure.text((left - 0.1) / size[0], (y + tall / 2) / size[1], plain(short(row.name, int(tall * 11))))
        text.set(rotation=90, ha="right", va="center", fontsize=9, color=INK)
        y -= _GAP
    _legend(figure, classes, (left, below - 0.05), across, size)
    return figure


def _aspect(row: StageRow) -> float:
    return next((p.shape[0] / p.shape[1] for p in row.pictures if p is not None), 1.0)


def _header(figure: Figure, column: str, at: tuple[float, float], size: tuple[float, float]) -> None:
    """Write a header, its top at `at` (middle, top, in inches)."""
    first, _, second = column.partition("\n")
    for text, down, points, colour in ((first, 0.0, 11, INK), (second, 0.22, 8.5, PALE)):
        figure.text(at[0] / size[0], (at[1] - down) / size[1], plain(text)).set(
            ha="center", va="top", fontsize=points, color=colour
        )


def _picture(
    figure: Figure,
    picture: np.ndarray | None,
    box: tuple[float, float, float, float],
    size: tuple[float, float],
    *,
    smooth: bool,
) -> None:
    """Draw a picture into a box (left, bottom, width, height in inches), as large as its shape lets it be."""
    x, y, wide, tall = box
    axes = figure.add_axes((x / size[0], y / size[1], wide / size[0], tall / size[1]))
    axes.set_xticks([])
    axes.set_yticks([])
    if picture is None:
        axes.set_facecolor("#f4f4f4")
        axes.spines[:].set_visible(False)
        axes.text(0.5, 0.5, "none", ha="center", va="center", fontsize=9, color=PALE, transform=axes.transAxes)
        return
    axes.imshow(_smaller(picture, smooth), interpolation="nearest", aspect="equal")
    axes.spines[:].set_color("#bbbbbb")
    axes.spines[:].set_linewidth(0.6)


def _smaller(picture: np.ndarray, smooth: bool) -> np.ndarray:
    """Return a picture of at most 720 pixels a side; the colours of masks are never mixed."""
    height, width = picture.shape[:2]
    factor = _LONGEST / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    way = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, way))


def _legend(
    figure: Figure, classes: Mapping[str, Colour], corner: tuple[float, float], across: int, size: tuple[float, float]
) -> None:
    """Draw a square and a name a class, `across` of them in a line, below `corner` (left, top, in inches)."""
    step = _legend_step(classes)
    for number, (name, colour) in enumerate(classes.items()):
        x, y = corner[0] + number % across * step, corner[1] - _LINE * (number // across + 1)
        square = Rectangle((x / size[0], y / size[1]), 0.16 / size[0], 0.16 / size[1], transform=figure.transFigure)
        square.set(facecolor=tuple(c / 255 for c in colour), edgecolor="#999999", linewidth=0.6)
        figure.add_artist(square)
        text = figure.text((x + 0.23) / size[0], (y + 0.075) / size[1], plain(short(name, 30)))
        text.set(va="center", fontsize=9, color=INK)


def _legend_step(classes: Mapping[str, Colour]) -> float:
    """Return the width of one entry of the legend, in inches."""
    return 0.45 + 0.085 * max(len(short(name, 30)) for name in classes)
