"""IoU class by class: with intervals, and over the epochs of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from octavo.pictures.style import FAINT, INK, MARKERS, PALE, PALETTE, plain, short

_ROWS = 50  # classes in a column
_NAMED = 10  # lines with a colour and a name of their own


@dataclass(frozen=True)
class ClassIou:
    """IoU of one class.

    Attributes:
        name: of the class.
        value: its IoU.
        low: lower end of its interval; None for no interval.
        high: upper end.
        scored: whether it is in the mean.
        share: its share of the pixels with a truth, 0–1.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    scored: bool
    share: float


def iou_dots(classes: Sequence[ClassIou], mean: float | None, level: float) -> Figure:
    """Return a dot with its interval for each class, from the top in the order given, in columns of at most 50.

    Args:
        classes: what is drawn; those that aren't scored are hollow squares.
        mean: the mIoU, drawn across; None for none.
        level: of the intervals, 0–1.

    Raises:
        ValueError: no class.
    """
    if not classes:
        raise ValueError("expected a class at least")
    columns = math.ceil(len(classes) / _ROWS)
    rows = math.ceil(len(classes) / columns)
    wide = (7.2, 10.5, 11.0)[min(columns, 3) - 1]
    figure = Figure((wide, 1.3 + 0.2 * max(rows, 3)), facecolor="white", layout="constrained")
    low = min([0.0, *(c.value for c in classes)])
    for column in range(columns):
        axes = figure.add_subplot(1, columns, column + 1)
        part = classes[column * rows : (column + 1) * rows]
        _dots(axes, part, columns)
        axes.set_ylim(rows - 0.4, -0.6)
        axes.set_xlim(low - 0.03, 1.03)
        axes.set_xlabel("IoU (0–1)", fontsize=9, color=INK)
        if mean is not None:
            axes.axvline(mean, color=INK, linestyle="--", linewidth=1)
    figure.legend(handles=_handles(classes, mean, level), loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    return figure


def _dots(axes: Axes, classes: Sequence[ClassIou], columns: int) -> None:
    for scored, colour, marker, fill in ((True, PALETTE[0], "o", PALETTE[0]), (False, PALE, "s", "white")):
        rows = [i for i, c in enumerate(classes) if c.scored == scored]
        values = np.array([classes[i].value for i in rows])
        reach = np.array([_reach(classes[i]) for i in rows]).reshape(-1, 2).T
        axes.errorbar(values, rows, xerr=reach, fmt=marker, color=colour, markerfacecolor=fill, markersize=5,
                      elinewidth=1.2, linestyle="none")  # fmt: skip
    length = (26, 22, 16)[min(columns, 3) - 1]
    names = [plain(short(c.name if c.scored else f"({c.name})", length)) for c in classes]
    axes.set_yticks(range(len(classes)), names, fontsize=8)
    for i, c in enumerate(classes):
        axes.annotate(_percent(c.share), (1, i), (6, 0), xycoords=("axes fraction", "data"), va="center", fontsize=8,
                      color=PALE, textcoords="offset points", annotation_clip=False)  # fmt: skip
    axes.annotate("share of\npixels", (1, 1), (6, 2), xycoords="axes fraction", va="bottom", fontsize=8, color=PALE,
                  textcoords="offset points", annotation_clip=False)  # fmt: skip
    axes.set_xticks(np.linspace(0, 1, 6 if columns < 3 else 3))
    axes.tick_params(axis="x", labelsize=8, colors=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="both", alpha=0.22, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _reach(c: ClassIou) -> tuple[float, float]:
    low, high = c.value if c.low is None else c.low, c.value if c.high is None else c.high
    return max(c.value - low, 0.0), max(high - c.value, 0.0)


def _percent(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


def _handles(classes: Sequence[ClassIou], mean: float | None, level: float) -> list[Line2D]:
    handles = [
        Line2D(
            [], [], color=PALETTE[0], marker="o", markersize=5, linewidth=1.2, label=f"IoU, {100 * level:g} % interval"
        )
    ]
    if not all(c.scored for c in classes):
        handles.append(
            Line2D([], [], color=PALE, marker="s", markerfacecolor="white", markersize=5, linewidth=1.2,
                   label="not in the mean")
        )  # fmt: skip
    if mean is not None:
        handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1, label=f"mIoU ({mean:.3f})"))
    return handles


def iou_curves(
    epochs: Sequence[int],
    classes: Mapping[str, np.ndarray],
    mean: np.ndarray,
    kept: int | None = None,
) -> Figure:
    """Return a line a class by epoch: the first ten in colours with their names at the end, the others grey.

    Args:
        epochs: E of them, from 1.
        classes: name → IoU float [E], not a number where the class doesn't occur; the ones to name first.
        mean: mIoU float [E].
        kept: the epoch whose weights were kept, marked.

    Raises:
        ValueError: no epoch, no class, or another number of values.
    """
    x = np.asarray(epochs, float)
    if not len(x) or not classes or any(len(y) != len(x) for y in (*classes.values(), mean)):
        raise ValueError(f"expected classes with {len(x)} (at least 1) values each")
    figure = Figure((10, 5), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    every, thick = max(1, math.ceil(len(x) / 20)), 1.5 if len(x) <= 60 else 1.0
    for y in list(classes.values())[_NAMED:]:
        axes.plot(x, y, color=FAINT, linewidth=0.9, marker="o" if len(x) < 3 else "", markersize=3, zorder=1)
    named = list(classes.items())[:_NAMED]
    for (_, y), colour, marker in zip(named, PALETTE, MARKERS, strict=False):
        axes.plot(x, y, color=colour, marker=marker, markersize=4.5, linewidth=thick, markevery=every, zorder=3)
    axes.plot(x, mean, color=INK, linestyle="--", linewidth=1.8, marker="*" if len(x) < 3 else "", zorder=4)
    if kept is not None:
        axes.axvline(kept, color=PALE, linewidth=1, linestyle=":", zorder=0)
        axes.annotate(f"kept: epoch {kept}", (kept, 1), (0, 3), xycoords=("data", "axes fraction"), fontsize=8,
                      textcoords="offset points", ha="center", va="bottom", color=PALE)  # fmt: skip
    if others := len(classes) - len(named):
        axes.set_title(f"grey: {others} rarer classes", loc="left", fontsize=8, color=PALE)
    _dress(axes, x)
    _ends(axes, x, [*named, ("mIoU (mean)", mean)])
    return figure


def _ends(axes: Axes, x: np.ndarray, lines: Sequence[tuple[str, np.ndarray]]) -> None:
    """Write each line's name right of its end, pushed apart where they would overlap."""
    room = 0.048  # of the height of the axes, which is that of a line of 8 points
    ends = [(i, _last(x, y)) for i, (_, y) in enumerate(lines)]
    ends = sorted(((i, *end) for i, end in ends if end is not None), key=lambda end: end[2])
    (start, edge) = axes.get_xlim()
    span = edge - start
    places = apart([y for _, _, y in ends], room)
    for (i, right, y), place in zip(ends, places, strict=True):
        last = i == len(lines) - 1
        colour, marker = (INK, "") if last else (PALETTE[i], MARKERS[i])
        axes.plot([right, edge + 0.02 * span, edge + 0.04 * span], [y, place, place], "--" if last else "-",
                  color=colour, linewidth=0.8, marker=marker, markevery=[2], markersize=4.5, clip_on=False)  # fmt: skip
        axes.annotate(plain(short(lines[i][0], 26)), (edge + 0.04 * span, place), (6, 0), va="center", fontsize=8,
                      textcoords="offset points", color=INK, annotation_clip=False)  # fmt: skip
    axes.set_xlim(start, edge)


def _last(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    known = np.flatnonzero(np.isfinite(y))
    return (float(x[known[-1]]), float(y[known[-1]])) if len(known) else None


def apart(places: Sequence[float], room: float) -> list[float]:
    """Return sorted places in 0–1, moved so that neighbours are at least `room` from each other, and little else."""
    found = list(places)
    for _ in range(200):
        moved = False
        for i in range(1, len(found)):
            lack = room - (found[i] - found[i - 1])
            if lack > 1e-9:
                found[i - 1], found[i], moved = found[i - 1] - lack / 2, found[i] + lack / 2, True
        if not moved:
            break
    low, high = min(found, default=0.0), max(found, default=1.0)
    shift = -low if low < 0 else min(0.0, 1 - high)
    return [place + shift for place in found]


def _dress(axes: Axes, x: np.ndarray) -> None:
    axes.set_xlabel("epoch", fontsize=9, color=INK)
    axes.set_ylabel("IoU on the held-out images (0–1)", fontsize=9, color=INK)
    axes.set_ylim(0, 1)
    room = 0.02 * (x[-1] - x[0]) or 0.5
    axes.set_xlim(x[0] - room, x[-1] + room)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
