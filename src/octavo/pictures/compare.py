"""Runs side by side: each with its interval, their differences, and the classes in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from octavo.numbers.results import Interval
from octavo.pictures.style import FAINT, INK, MARKERS, PALE, PALETTE, legend, plain, short

MOST = 10
"""Runs that a figure tells apart by colour and shape."""
_ROW, _LETTERS = 0.3, 44  # inches a row; letters of its name


@dataclass(frozen=True)
class Gap:
    """A difference of two runs.

    Attributes:
        name: of the pair.
        difference: as a share, with its interval.
        told_apart: whether it is drawn full, not hollow.
    """

    name: str
    difference: Interval
    told_apart: bool


def runs_and_gaps(
    names: Sequence[str], values: Sequence[Interval], gaps: Sequence[Gap], what: str, members: Sequence[Interval] = ()
) -> Figure:
    """Return the runs with their intervals, and below them the differences with theirs about a line at zero.

    Args:
        names: of K runs.
        values: their headline as a share.
        gaps: the differences to draw.
        what: is measured, such as `accuracy`.
        members: the same of each run's best member; drawn hollow.

    Raises:
        ValueError: no runs, no gaps, or numbers that don't belong together.
    """
    if not names or not gaps or len(values) != len(names) or (members and len(members) != len(names)):
        raise ValueError(f"expected a value for each run and a gap: {len(names)}, {len(values)}, {len(gaps)}")
    rows = len(names) * (1.5 if members else 1.0)
    heights = (max(rows, 2), max(len(gaps), 1.5))
    figure = Figure((9.2, 1.9 + _ROW * sum(heights)), facecolor="white", layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=heights)
    shift = 0.17 if members else 0.0
    for place, value in enumerate(values):
        colour, marker = PALETTE[place % MOST], MARKERS[place % MOST]
        _line(above, place - shift, value, colour, marker, "" if place else "ensemble", full=True)
        if members:
            _line(above, place + shift, members[place], colour, marker, "" if place else "best member", full=False)
        if place:
            above.axhline(place - 0.5, color=FAINT, linewidth=0.6)
    _dress(above, names, f"{what} [%]")
    if members:
        figure.legend(*above.get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=9, frameon=False)
    for place, gap in enumerate(gaps):
        _line(below, place, gap.difference, INK, "o", "", full=gap.told_apart)
    below.axvline(0, color=PALE, linewidth=1)
    _dress(below, [gap.name for gap in gaps], f"difference in {what} [percentage points]; full: told apart")
    return figure


def class_sides(
    classes: Sequence[str], names: Sequence[str], values: np.ndarray, what: str, images: Sequence[int]
) -> Figure:
    """Return a line a class with a marker a run, from the lowest to the highest.

    Args:
        classes: names of those to draw, from the top.
        names: of K runs, ten at most.
        values: [K,C] shares; not a number where there is none.
        what: is measured, such as `share of the class's images that is recognised`.
        images: of each class, written beside its name.

    Raises:
        ValueError: no classes, too many runs, or values of another shape.
    """
    if not classes or not 0 < len(names) <= MOST or values.shape != (len(names), len(classes)):
        raise ValueError(f"expected values [{len(names)}, {len(classes)}] of at most {MOST} runs, got {values.shape}")
    lines = -(-len(names) // 4)
    figure = Figure((8.6, 1.1 + 0.2 * lines + 0.27 * max(len(classes), 2)), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for place in range(len(classes)):
        known = values[:, place][~np.isnan(values[:, place])]
        if len(known):
            axes.plot([100 * known.min(), 100 * known.max()], [place, place], color=FAINT, linewidth=2.5, zorder=1)
    entries: list[tuple[str, Artist]] = []
    for number, name in enumerate(names):
        # A little apart, so that equal values don't hide each other.
        rows = np.arange(len(classes)) + (number - (len(names) - 1) / 2) * min(0.16, 0.5 / len(names))
        style = {"color": PALETTE[number], "marker": MARKERS[number], "markersize": 6.5, "linestyle": ""}
        spots = axes.plot(100 * values[number], rows, markeredgecolor="white", zorder=2, **style)
        entries.append((short(name, 24), spots[0]))
    labels = [f"{short(name, 24)} ({count:,})" for name, count in zip(classes, images, strict=True)]
    _dress(axes, labels, f"{what} [%]")
    legend(figure, entries, loc="outside upper center", ncols=min(len(names), 4), fontsize=8.5)
    return figure


def _line(axes: Axes, place: float, value: Interval, colour: str, marker: str, label: str, *, full: bool) -> None:
    """Draw a number with its interval, in percent."""
    if value.low is not None and value.high is not None:
        axes.plot([100 * value.low, 100 * value.high], [place, place], color=colour, linewidth=1.8, zorder=2)
    face = colour if full else "white"
    spot = axes.plot([100 * value.value], [place], color=colour, marker=marker, linestyle="", label=label or "_")[0]
    spot.set(markersize=7, markerfacecolor=face, markeredgewidth=1.4, zorder=3)


def _dress(axes: Axes, rows: Sequence[str], title: str) -> None:
    """Name the rows from the top and the axis below."""
    axes.set_yticks(range(len(rows)), [plain(short(row, _LETTERS)) for row in rows], fontsize=9, color=INK)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.06)
    axes.set_xlabel(title, fontsize=9, color=INK)
    axes.tick_params(axis="x", labelsize=8.5, colors=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
