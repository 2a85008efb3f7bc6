"""Confusion matrices: which class was taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from octavo.pictures.style import INK, plain, short

NUMBERED = 20
"""Classes up to which every square has its number."""
NAMED = 70
"""Classes up to which every row has its name; with more, blocks of classes have one together."""
_BLOCKS = 25  # at most so many blocks
_TICKS = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1)


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Return the share of each true class (rows) that was taken for each class (columns), in percent.

    Colours go with the square root of the share, so that a few percent are seen beside a diagonal of nearly all. With
    more than 70 classes, blocks of `block_size` classes are marked instead of every class.

    Args:
        counts: int [C,C]: images or pixels, rows truth, columns predictions; a class that doesn't occur stays grey.
        names: of the C classes, in the order of the rows.

    Raises:
        ValueError: counts of another shape.
    """
    classes = len(names)
    if counts.shape != (classes, classes):
        raise ValueError(f"expected counts [{classes}, {classes}], got {counts.shape}")
    total = counts.sum(1, keepdims=True).astype(float)
    shares = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    side = min(max(3.2, 0.55 * classes if classes <= NUMBERED else 0.2 * classes), 9.4)
    figure = Figure((side + 1.6, side + 1.0), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["Blues"].with_extremes(bad="#dddddd")
    drawn = axes.imshow(shares, cmap=colours, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    axes.tick_params(length=0)
    axes.spines[:].set_color("#bbbbbb")
    (_named if classes <= NAMED else _blocks)(axes, names)
    if classes <= NUMBERED:
        _numbers(axes, shares)
    axes.set_xlabel("predicted class", color=INK, fontsize=10)
    axes.set_ylabel("true class", color=INK, fontsize=10)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02, ticks=_TICKS)
    bar.ax.set_yticklabels([f"{100 * tick:.0f} %" for tick in _TICKS], fontsize=8)
    bar.set_label("share of the true class", fontsize=9, color=INK)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure


def block_size(classes: int) -> int:
    """Return how many neighbouring classes are marked together, so that there are at most 25 blocks."""
    return next(size for k in range(20) for size in (5 * 10**k, 10 * 10**k, 20 * 10**k) if classes <= _BLOCKS * size)


def _named(axes: Axes, names: Sequence[str]) -> None:
    labels = [plain(short(name, 22)) for name in names]
    size = 9 if len(names) <= 55 else 8 if len(names) <= 62 else 7
    axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), labels, fontsize=size)


def _blocks(axes: Axes, names: Sequence[str]) -> None:
    """Mark blocks of neighbouring classes by lines, and name each by its places and by its first and last class."""
    size = block_size(len(names))
    starts = range(0, len(names), size)
    middles, places, ends = [], [], []
    for start in starts:
        end = min(start + size, len(names))
        middles.append((start + end - 1) / 2)
        places.append(f"{start + 1}–{end}")
        ends.append(plain(f"{short(names[start], 14)} … {short(names[end - 1], 14)}  {places[-1]}"))
        if start:
            axes.axhline(start - 0.5, color="#999999", linewidth=0.4)
            axes.axvline(start - 0.5, color="#999999", linewidth=0.4)
    axes.set_xticks(middles, places, rotation=90, fontsize=8)
    axes.set_yticks(middles, ends, fontsize=8)


def _numbers(axes: Axes, shares: np.ndarray) -> None:
    for (i, j), share in np.ndenumerate(shares):
        if np.isfinite(share) and share >= 0.005:
            text = f"{100 * share:.0f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if share > 0.4 else INK)
