"""Figures of a run: masks by stage, training curves, confusion matrices.

Every function gives a matplotlib figure of its own: nothing goes through pyplot, whose figures are global state.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from octavo.files import write_atomic

Colour = tuple[int, int, int]

_INK, _PALE = "#222222", "#8a8a8a"
_PARTS = {"train": "-", "holdout": "--"}
_TITLES = {"miou": "mIoU", "lr": "learning rate"}
_LONGEST = 720  # pixels of a picture's longer side that are drawn
_CELL, _GAP, _LINE = 2.3, 0.08, 0.28  # inches: side of a picture, room between them, line of the legend
_ANNOTATED = 20  # classes up to which a confusion matrix has numbers
_COLOURS = colormaps["tab10"].colors  # pyright: ignore[reportAttributeAccessIssue]


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
        text = figure.text((left - 0.1) / size[0], (y + tall / 2) / size[1], _plain(_short(row.name, int(tall * 11))))
        text.set(rotation=90, ha="right", va="center", fontsize=9, color=_INK)
        y -= _GAP
    _legend(figure, classes, (left, below - 0.05), across, size)
    return figure


def training_curves(history: Sequence[Mapping[str, str]]) -> Figure:
    """Return a panel each of loss, scores and learning rate by epoch; held-out figures are dashed.

    Args:
        history: a row an epoch with `epoch`, `lr` and columns such as `train_loss` or `holdout_miou`; with `member`,
            a colour a member.

    Raises:
        ValueError: no rows.
    """
    if not history:
        raise ValueError("expected a row an epoch")
    members = list(dict.fromkeys(row.get("member", "") for row in history))
    quantities = _quantities(history)
    across = min(len(quantities), 2)
    down = math.ceil(len(quantities) / across)
    figure = Figure((4.6 * across, 3.1 * down), facecolor="white", layout="constrained")
    for place, (quantity, columns) in enumerate(quantities.items(), 1):
        axes = figure.add_subplot(down, across, place)
        for number, member in enumerate(members):
            own = [row for row in history if row.get("member", "") == member]
            for column in columns:
                _curve(axes, own, column, _COLOURS[number % len(_COLOURS)], member)
        _dress(axes, quantity)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = len(handles) if len(handles) <= 4 else 4
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    return figure


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Return the share of each true class (rows) that was taken for each class (columns), in percent.

    Args:
        counts: int [C,C]: images or pixels, rows truth, columns predictions; a class that doesn't occur stays grey.
        names: of the C classes.

    Raises:
        ValueError: counts of another shape.
    """
    classes = len(names)
    if counts.shape != (classes, classes):
        raise ValueError(f"expected counts [{classes}, {classes}], got {counts.shape}")
    total = counts.sum(1, keepdims=True).astype(float)
    shares = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    side = min(max(3.2, 0.62 * classes if classes <= _ANNOTATED else 0.27 * classes), 16.0)
    figure = Figure((side + 1.6, side + 1.0), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["Blues"].with_extremes(bad="#dddddd")
    drawn = axes.imshow(shares, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    size = 9 if classes <= _ANNOTATED else 7
    labels = [_plain(_short(name, 22)) for name in names]
    axes.set_xticks(range(classes), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(classes), labels, fontsize=size)
    axes.set_xlabel("predicted", color=_INK)
    axes.set_ylabel("true", color=_INK)
    axes.tick_params(length=0)
    axes.spines[:].set_color("#bbbbbb")
    if classes <= _ANNOTATED:
        _numbers(axes, shares)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.ax.set_yticklabels(["0 %", "25 %", "50 %", "75 %", "100 %"], fontsize=8)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure


def save(figure: Figure, path: Path, dpi: int = 130) -> Path:
    """Write a figure as PNG, whole or not at all, and return where."""
    with warnings.catch_warnings():
        # Names in a script that matplotlib's own font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")
        write_atomic(path, lambda file: figure.savefig(file, format="png", dpi=dpi, bbox_inches="tight"))
    return path


def _aspect(row: StageRow) -> float:
    return next((p.shape[0] / p.shape[1] for p in row.pictures if p is not None), 1.0)


def _header(figure: Figure, column: str, at: tuple[float, float], size: tuple[float, float]) -> None:
    """Write a header, its top at `at` (middle, top, in inches)."""
    first, _, second = column.partition("\n")
    for text, down, points, colour in ((first, 0.0, 11, _INK), (second, 0.22, 8.5, _PALE)):
        figure.text(at[0] / size[0], (at[1] - down) / size[1], _plain(text)).set(
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
        axes.text(0.5, 0.5, "none", ha="center", va="center", fontsize=9, color=_PALE, transform=axes.transAxes)
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
        text = figure.text((x + 0.23) / size[0], (y + 0.075) / size[1], _plain(_short(name, 30)))
        text.set(va="center", fontsize=9, color=_INK)


def _legend_step(classes: Mapping[str, Colour]) -> float:
    """Return the width of one entry of the legend, in inches."""
    return 0.45 + 0.085 * max(len(_short(name, 30)) for name in classes)


def _quantities(history: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return what there is to draw: quantity → its columns; the learning rate last."""
    found: dict[str, list[str]] = {}
    for column in dict.fromkeys(key for row in history for key in row):
        part, _, quantity = column.partition("_")
        if part in _PARTS and quantity:
            found.setdefault(quantity, []).append(column)
    if any(row.get("lr") for row in history):
        found["lr"] = ["lr"]
    return found


def _curve(axes: Axes, rows: Sequence[Mapping[str, str]], column: str, colour: object, member: str) -> None:
    points = [(float(row["epoch"]), float(row[column])) for row in rows if row.get(column) not in (None, "")]
    if not points:
        return
    x, y = zip(*points, strict=True)
    part = column.partition("_")[0]
    words = {"train": "training", "holdout": "held out"}.get(part, "")
    label = _plain(", ".join(filter(None, (member, words))))
    axes.plot(
        x, y, _PARTS.get(part, "-"), color=colour, label=label, linewidth=1.5, marker="o" if len(x) < 3 else "",
        markersize=4,
    )  # fmt: skip


def _dress(axes: Axes, quantity: str) -> None:
    axes.set_title(_TITLES.get(quantity, quantity.replace("_", " ")), fontsize=10, color=_INK, loc="left")
    axes.set_xlabel("epoch", fontsize=8, color=_INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8, colors=_INK)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if quantity.endswith(("accuracy", "miou")):
        axes.set_ylim(0, 1)
    elif quantity in ("loss", "lr"):
        axes.set_ylim(bottom=0)


def _numbers(axes: Axes, shares: np.ndarray) -> None:
    for (i, j), share in np.ndenumerate(shares):
        if np.isfinite(share) and share >= 0.005:
            text = f"{100 * share:.0f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if share > 0.55 else _INK)


def _plain(text: str) -> str:
    """Return text in which no dollar sign begins a formula."""
    return text.replace("$", r"\$")


def _short(text: str, length: int) -> str:
    """Return text of at most `length` letters, its middle left out."""
    length = max(length, 5)
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[: length - half - 1]}…{text[-half:]}"
