"""A share of each class with its interval, as dots from the worst to the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from octavo.pictures.style import INK, MARKERS, PALETTE, plain, short

_ROWS = 50  # in a column
_STYLES = ("--", ":", "-.")
_BELOW, _AMONG, _ABOVE = 0, 1, 2
_LOOKS = {_BELOW: (PALETTE[4], MARKERS[4]), _AMONG: (PALETTE[0], MARKERS[0]), _ABOVE: (PALETTE[2], MARKERS[2])}


def interval_dots(
    names: Sequence[str], values: np.ndarray, ends: np.ndarray, *, what: str, lines: Mapping[str, float]
) -> Figure:
    """Return a dot with its interval for each class, from the top in the order given, in columns of at most 50.

    Where the whole interval lies beyond the first of the lines, the dot is a triangle of another colour.

    Args:
        names: of the C classes, C >= 1.
        values: [C], 0–1.
        ends: low and high end of each interval, [C,2].
        what: what the values are, for the axis.
        lines: name → value, 0–1, drawn across; one to three.

    Raises:
        ValueError: shapes that don't belong together, or no class.
    """
    count = len(names)
    if not count or values.shape != (count,) or ends.shape != (count, 2):
        raise ValueError(f"expected {count} (at least 1) values and ends, got {values.shape} and {ends.shape}")
    columns = math.ceil(count / _ROWS)
    rows = math.ceil(count / columns)
    figure = Figure((min(6.5 if columns == 1 else 4 * columns, 11), 1.3 + 0.17 * rows), facecolor="white",
                    layout="constrained")  # fmt: skip
    first = next(iter(lines.values()))
    kinds = np.where(ends[:, 1] < first, _BELOW, np.where(ends[:, 0] > first, _ABOVE, _AMONG))
    for column in range(columns):
        axes = figure.add_subplot(1, columns, column + 1)
        part = slice(column * rows, (column + 1) * rows)
        own = [plain(short(name, 26 if columns < 3 else 18)) for name in names[part]]
        axes.set_yticks(range(len(own)), own, fontsize=8)
        axes.set_ylim(max(rows, 2) - 0.4, -0.6)
        axes.set_xlabel(what, fontsize=9, color=INK)
        _dots(axes, values[part], ends[part], kinds[part])
        _dress(axes, columns)
        for style, value in zip(_STYLES, lines.values(), strict=False):
            axes.axvline(value, color=INK, linestyle=style, linewidth=1)
    _legend(figure, lines, set(kinds.tolist()))
    return figure


def _dots(axes: Axes, values: np.ndarray, ends: np.ndarray, kinds: np.ndarray) -> None:
    for kind, (colour, marker) in _LOOKS.items():
        rows = np.flatnonzero(kinds == kind)
        reach = np.abs(ends[rows] - values[rows, None]).T
        axes.errorbar(values[rows], rows, xerr=reach, fmt=marker, color=colour, markersize=4.5, elinewidth=1.1,
                      linestyle="none")  # fmt: skip


def _dress(axes: Axes, columns: int) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks(np.linspace(0, 1, 6 if columns == 1 else 3))
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    axes.tick_params(axis="x", labelsize=8, colors=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="both", alpha=0.22, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _legend(figure: Figure, lines: Mapping[str, float], kinds: set[int]) -> None:
    words = {_BELOW: "interval below that", _AMONG: "interval around that", _ABOVE: "interval above that"}
    handles = [
        Line2D([], [], color=INK, linestyle=style, linewidth=1, label=plain(f"{line} ({100 * value:.1f} %)"))
        for style, (line, value) in zip(_STYLES, lines.items(), strict=False)
    ]
    handles[1:1] = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=5, label=words[kind])
        for kind, (colour, marker) in _LOOKS.items()
        if kind in kinds
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, fontsize=8, frameon=False)
