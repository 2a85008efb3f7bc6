"""Heat maps over images: a row an image, a column a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from octavo.pictures.sheets import enlarged, fitted, lay, write
from octavo.pictures.style import INK, PALE

COLOURS = "viridis"
"""matplotlib's colour map, dark blue to yellow: evenly brighter from end to end, so that grey prints and colour-blind
readers keep its order."""
_WIDEST, _LARGEST, _GAP, _NOTE = 10.9, 1.7, 0.06, 0.2  # inches: figure, picture, room between them, line below it
_NAMES, _HEADER, _BAR = 1.35, 0.28, 0.62  # inches: column of names, line of headers, legend
_COLOUR = 0.6  # share of the colour in an overlay; the rest is the image in grey
_DRAWN = 320  # pixels of an overlay's longer side
_POINTS = 8.5


@dataclass(frozen=True, eq=False)
class HeatCell:
    """What one network looked at in one image.

    Attributes:
        seen: the image as the network got it, uint8 [S,S,3].
        heat: float [h,w], at least 0, without unit; None where the network has no map.
        note: a few letters below it, such as `97 %`.
    """

    seen: np.ndarray
    heat: np.ndarray | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class HeatRow:
    """An image and its heat maps.

    Attributes:
        lines: what is said of it, on the left: its name, truth, prediction.
        picture: uint8 [H,W,3].
        cells: a network each.
    """

    lines: tuple[str, ...]
    picture: np.ndarray
    cells: tuple[HeatCell, ...]


def heat_table(rows: Sequence[HeatRow], networks: Sequence[str]) -> Figure:
    """Return images (rows) under the heat maps of networks (columns), each map scaled to its own highest value.

    Raises:
        ValueError: no rows, or one with another number of cells than networks.
    """
    if not rows or any(len(row.cells) != len(networks) for row in rows):
        raise ValueError(f"expected rows of {len(networks)} cells")
    columns = 1 + len(networks)
    side = min(_LARGEST, (_WIDEST - _NAMES) / columns - _GAP)
    step = (side + _GAP, side + _NOTE)
    size = (_NAMES + columns * step[0], _HEADER + len(rows) * step[1] + _BAR)
    figure = Figure(size, facecolor="white")
    for j, name in enumerate(("original", *networks)):
        middle = _NAMES + j * step[0] + side / 2
        text = fitted(("", name, ""), side, 9)
        write(figure, text, (middle, size[1] - _HEADER + 0.06), ha="center", fontsize=9, color=INK)
    for i, row in enumerate(rows):
        _draw(figure, row, size[1] - _HEADER - i * step[1], side)
    _legend(figure, size)
    return figure


def overlay(seen: np.ndarray, heat: np.ndarray, longest: int = _DRAWN) -> np.ndarray:
    """Return an image in grey under its heat in colour, uint8 [H,W,3], its longer side `longest` pixels.

    The map is enlarged to the image bilinearly, as in Selvaraju et al. (ICCV 2017), and divided by its highest value.

    Args:
        seen: uint8 [S,S,3].
        heat: float [h,w], at least 0; all zero gives the lowest colour everywhere.
        longest: pixels.
    """
    image = enlarged(seen, longest)
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float64)[..., None] / 255
    top = float(heat.max())
    scaled = (heat / top if top > 0 else np.zeros_like(heat)).astype(np.float32)
    whole = Image.fromarray(scaled).resize((image.shape[1], image.shape[0]), Image.Resampling.BILINEAR)
    colour = colormaps[COLOURS](np.clip(np.asarray(whole), 0, 1))[..., :3]
    return np.rint(255 * (_COLOUR * colour + (1 - _COLOUR) * grey)).astype(np.uint8)


def _draw(figure: Figure, row: HeatRow, top: float, side: float) -> None:
    """Draw a row whose upper edge is at `top` inches."""
    for down, line in enumerate(row.lines):
        text = fitted(("", line, ""), _NAMES - 0.1, _POINTS)
        at = (0.02, top - 0.04 - 0.17 * down)
        write(figure, text, at, va="top", fontsize=_POINTS, color=PALE if down == 0 else INK)
    lay(figure, row.picture, (_NAMES, top - side, side, side))
    for j, cell in enumerate(row.cells, 1):
        x = _NAMES + j * (side + _GAP)
        if cell.heat is None:
            at = (x + side / 2, top - side / 2)
            write(figure, "no spatial\nmap", at, ha="center", va="center", fontsize=_POINTS, color=PALE)
        else:
            lay(figure, overlay(cell.seen, cell.heat), (x, top - side, side, side))
        write(figure, cell.note, (x + side / 2, top - side - 0.03), ha="center", va="top", fontsize=8, color=INK)


def _legend(figure: Figure, size: tuple[float, float]) -> None:
    wide = min(3.2, size[0] - 0.8)
    axes = figure.add_axes(((size[0] - wide) / 2 / size[0], 0.38 / size[1], wide / size[0], 0.12 / size[1]))
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), COLOURS), cax=axes, orientation="horizontal", ticks=[0, 0.5, 1]
    )
    bar.ax.set_xticklabels(["0 %", "50 %", "100 %"], fontsize=8)
    bar.ax.tick_params(length=2, pad=2, colors=INK)
    bar.set_label("speaks for the class, in % of the map's highest value", fontsize=8, color=INK, labelpad=2)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
