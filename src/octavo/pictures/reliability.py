"""Reliability diagrams: accuracy by confidence, above a histogram of the confidences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from octavo.numbers.reliability import Reliability
from octavo.pictures.style import FAINT, INK, PALETTE

_FEW = 10  # images: bins of members with fewer are not drawn


def reliability_diagram(found: Reliability, members: Sequence[Reliability] = ()) -> Figure:
    """Return accuracy by confidence with its intervals, and the share of images in each bin below.

    Args:
        found: of the system in question.
        members: of others, drawn as thin grey lines through their bins of at least ten images.
    """
    figure = Figure((6.6, 6.4), facecolor="white", layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, label="confidence = accuracy")
    for number, member in enumerate(members):
        kept = member.count >= _FEW
        above.plot(member.confidence[kept], member.accuracy[kept], color="#aaaaaa", linewidth=0.9,
                   label="" if number else f"each member (bins of {_FEW} images and more)")  # fmt: skip
    kept = found.count > 0
    x, y = found.confidence[kept], found.accuracy[kept]
    reach = np.abs(np.stack([found.low[kept], found.high[kept]]) - y)
    above.vlines(x, x, y, color=PALETTE[9], linewidth=3.5, alpha=0.6, label="gap")
    above.errorbar(x, y, yerr=reach, fmt="-o", color=PALETTE[0], markersize=4.5, linewidth=1.5, elinewidth=1.1,
                   capsize=2, label="ensemble" if len(members) else "member")  # fmt: skip
    above.set_ylim(-0.02, 1.02)
    above.set_ylabel("accuracy in the bin", fontsize=9, color=INK)
    above.legend(loc="upper left", fontsize=8, frameon=False)
    total = found.count.sum()
    below.bar(found.edges[:-1], found.count / total, np.diff(found.edges), align="edge", color=FAINT, edgecolor="white")
    for value, style, name, colour in (
        (found.mean_confidence, "-", "mean confidence", PALETTE[9]),
        (found.mean_accuracy, ":", "accuracy", PALETTE[0]),
    ):
        below.axvline(value, color=colour, linestyle=style, linewidth=1.6, label=f"{name} ({100 * value:.1f} %)")
    below.legend(loc="upper left", fontsize=8, frameon=False)
    below.set_xlabel("confidence: probability of the predicted class", fontsize=9, color=INK)
    below.set_ylabel("share of images", fontsize=9, color=INK)
    below.set_xlim(-0.01, 1.01)
    for axes in (above, below):
        axes.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
        axes.tick_params(labelsize=8, colors=INK)
        axes.grid(alpha=0.22)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
