"""Reliability diagrams: accuracy by confidence, above a histogram of the confidences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from octavo.numbers.reliability import Reliability
from octavo.pictures.style import FAINT, INK, PALETTE

FEW = 10
"""Bins with fewer images are drawn hollow and are left out of the lines."""


def reliability_diagram(found: Reliability, members: Sequence[Reliability] = ()) -> Figure:
    """Return accuracy by confidence with its intervals, and the share of images in each bin below.

    Args:
        found: of the system in question.
        members: of others, drawn as thin grey lines.
    """
    figure = Figure((6.6, 6.8), facecolor="white", layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for number, member in enumerate(members):
        kept = member.count >= FEW
        label = "" if number else "each member"
        above.plot(member.confidence[kept], member.accuracy[kept], color="#aaaaaa", linewidth=0.9, label=label)
    _bins(above, found)
    _histogram(below, found)
    for axes in (above, below):
        axes.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
        axes.yaxis.set_major_formatter(PercentFormatter(1, None, " %"))
        axes.tick_params(labelsize=8, colors=INK)
        axes.grid(alpha=0.22)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2, fontsize=8, frameon=False)
    return figure


def _bins(axes: Axes, found: Reliability) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, label="confidence = accuracy")
    x, y = found.confidence, found.accuracy
    some, many = found.count > 0, found.count >= FEW
    axes.vlines(x[some], x[some], y[some], color=PALETTE[9], linewidth=3.5, alpha=0.6, label="gap")
    axes.plot(x[many], y[many], color=PALETTE[0], linewidth=1.5)
    for kept, fill, label in (
        (many, PALETTE[0], "bin, with its interval"),
        (some & ~many, "white", f"bin of fewer than {FEW} images"),
    ):
        if kept.any():
            reach = np.abs(np.stack([found.low[kept], found.high[kept]]) - y[kept])
            axes.errorbar(x[kept], y[kept], yerr=reach, fmt="o", color=PALETTE[0], markerfacecolor=fill, markersize=5,
                          elinewidth=1.1 if fill != "white" else 0.6, capsize=2, label=label)  # fmt: skip
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("accuracy in the bin", fontsize=9, color=INK)


def _histogram(axes: Axes, found: Reliability) -> None:
    shares = found.count / found.count.sum()
    axes.bar(found.edges[:-1], shares, np.diff(found.edges), align="edge", color=FAINT, edgecolor="white")
    for value, style, name, colour in (
        (found.mean_confidence, "-", "mean confidence", PALETTE[9]),
        (found.mean_accuracy, ":", "accuracy", PALETTE[0]),
    ):
        axes.axvline(value, color=colour, linestyle=style, linewidth=1.6, label=f"{name} ({100 * value:.1f} %)")
    axes.set_xlabel("confidence: probability of the predicted class", fontsize=9, color=INK)
    axes.set_ylabel("share of images", fontsize=9, color=INK)
    axes.set_xlim(-0.01, 1.01)
