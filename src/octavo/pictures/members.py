"""What each member adds: accuracy and gain, how far members disagree, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from octavo.numbers.results import Interval
from octavo.pictures.style import INK, MARKERS, PALE, PALETTE, legend, plain, short

_LONGEST = 24  # letters of a member's name


def gains(names: Sequence[str], accuracy: Sequence[Interval], gain: Sequence[Interval | None]) -> Figure:
    """Return two panels with a row a system: its accuracy, and what the ensemble loses without it.

    Args:
        names: S systems, the ensemble last.
        accuracy: S shares, 0–1.
        gain: accuracy of the ensemble less that without the member, -1 to 1; None for the ensemble, and where nothing
            is left without it.
    """
    rows = range(len(names))
    figure = Figure((9.5, 1.2 + 0.34 * len(names)), facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for row in rows:
        _bar(left, row, accuracy[row], row, 100)
        if (own := gain[row]) is not None:
            _bar(right, row, own, row, 100)
    right.axvline(0, color=INK, linestyle="--", linewidth=1)
    low, high = right.get_xlim()
    right.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
    left.set_yticks(rows, [plain(short(name, _LONGEST)) for name in names], fontsize=9)
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_xlabel("accuracy [%]", fontsize=9, color=INK)
    right.set_xlabel("what the member adds [points of accuracy]", fontsize=9, color=INK)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.tick_params(axis="x", labelsize=8, colors=INK)
        axes.tick_params(axis="y", length=0)
        axes.grid(alpha=0.22)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _bar(axes: Axes, row: int, bar: Interval, number: int, scale: float) -> None:
    if bar.low is not None and bar.high is not None:
        axes.plot([scale * bar.low, scale * bar.high], [row, row], color=_colour(number), linewidth=1.6)
    axes.plot([scale * bar.value], [row], _marker(number), color=_colour(number), markersize=6)


def _colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def disagreements(names: Sequence[str], differ: np.ndarray, wrong: np.ndarray) -> Figure:
    """Return two matrices: the share of images on which two systems differ, and on which both are wrong, in percent.

    Args:
        names: S systems.
        differ: [S,S], 0–1; the diagonal stays empty.
        wrong: [S,S], 0–1; in the diagonal what each gets wrong alone.
    """
    side = min(max(0.52 * len(names), 1.9), 4.4)
    figure = Figure((2 * side + 2.2, side + 1.9), facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    blank = differ.astype(float).copy()
    np.fill_diagonal(blank, np.nan)
    labels = [plain(short(name, _LONGEST)) for name in names]
    titles = ("they name different classes\n[% of images]", "both are wrong\n[% of images]")
    for axes, shares, title in zip((left, right), (blank, wrong), titles, strict=True):
        colours = colormaps["Blues"].with_extremes(bad="#eeeeee")
        top = max(float(np.nanmax(shares)), 0.01)
        axes.imshow(shares, cmap=colours, vmin=0, vmax=1.15 * top, interpolation="nearest")
        for (i, j), share in np.ndenumerate(shares):
            if np.isfinite(share):
                ink = "white" if share > 0.65 * top else INK
                axes.text(j, i, f"{100 * share:.1f}", ha="center", va="center", fontsize=8, color=ink)
        axes.set_title(title, fontsize=10, color=INK)
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), labels, fontsize=8)
        axes.set_xlabel("system", fontsize=9, color=INK)
        axes.tick_params(length=0)
        axes.spines[:].set_color("#bbbbbb")
    left.set_ylabel("system", fontsize=9, color=INK)
    return figure


def cost_plot(
    names: Sequence[str],
    milliseconds: np.ndarray,
    accuracy: Sequence[Interval],
    front: np.ndarray,
    growing: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """Return accuracy against milliseconds per image; a line joins what nothing beats.

    Args:
        names: S systems, the ensemble last; at most nine get a legend's entry of their own.
        milliseconds: [S], above 0.
        accuracy: S shares, 0–1.
        front: which of them, and of `growing`, are on the Pareto front, bool [S] or [S+K].
        growing: milliseconds and accuracy [K] of the ensemble's first 1, 2, … K members, the fastest first.
    """
    figure = Figure((8.2, 4.2), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    times, values = milliseconds, np.array([own.value for own in accuracy])
    if growing is not None:
        times, values = np.append(times, growing[0]), np.append(values, growing[1])
    best = sorted(np.flatnonzero(front).tolist(), key=lambda i: times[i])
    line = axes.plot(times[best], 100 * values[best], color=PALE, linestyle="--", linewidth=1.2, zorder=1)
    entries: list[tuple[str, Artist]] = [("Pareto front", line[0])]
    if growing is not None:
        style = {"color": _colour(len(names) - 1), "linewidth": 1.4, "marker": ".", "markersize": 5, "zorder": 2}
        steps = axes.plot(growing[0], 100 * growing[1], **style)  # pyright: ignore[reportArgumentType]
        entries.append(("first 1, 2, … members", steps[0]))
    for row, (name, bar) in enumerate(zip(names, accuracy, strict=True)):
        colour, marker = _colour(row), _marker(row)
        if bar.low is not None and bar.high is not None:
            ends = [100 * bar.low, 100 * bar.high]
            axes.plot([milliseconds[row]] * 2, ends, color=colour, linewidth=1.1, alpha=0.7)
        last = row == len(names) - 1
        spot = axes.plot([milliseconds[row]], [100 * bar.value], marker, color=colour, markersize=10 if last else 7,
                         markeredgecolor=INK if last else colour)  # fmt: skip
        entries += [(short(name, _LONGEST), spot[0])] if row < 8 or last else []
    _dress_cost(axes, milliseconds)
    legend(figure, entries, loc="outside right center", fontsize=8)
    return figure


def _dress_cost(axes: Axes, milliseconds: np.ndarray) -> None:
    if milliseconds.max() > 8 * milliseconds.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: f"{x:g}" if f"{x:.0e}"[0] in "25" else ""))
    else:
        axes.set_xlim(0, 1.08 * milliseconds.max())
    axes.tick_params(which="both", labelsize=8, length=3.5, pad=4, colors=INK)
    axes.set_xlabel("time per image [ms]", fontsize=9, color=INK)
    axes.set_ylabel("accuracy [%]", fontsize=9, color=INK)
    axes.grid(alpha=0.22)
    axes.spines[["top", "right"]].set_visible(False)
