"""Training curves: loss, scores and learning rate by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from octavo.pictures.style import FAINT, INK, PALETTE, legend, plain, short

_PARTS: dict[str, Literal["-", "--"]] = {"train": "-", "holdout": "--"}
_WORDS = {"train": "training", "holdout": "held out"}
_TITLES = {"miou": "mIoU", "lr": "learning rate"}
_UNITS = {
    "loss": "mean loss",
    "accuracy": "share of images right (0–1)",
    "pixel_accuracy": "share of pixels right (0–1)",
    "miou": "mean IoU (0–1)",
    "lr": "step size of the head",
}
_OF_CLASSES = "iou_"
"""Begins what is there once a class, which is a figure of its own."""
_NAMED = 10


def training_curves(history: Sequence[Mapping[str, str]]) -> Figure:
    """Return a panel each of loss, scores and learning rate by epoch; held-out figures are dashed.

    Args:
        history: a row an epoch with `epoch`, `lr` and columns such as `train_loss` or `holdout_miou`; with `member`,
            a colour a member, grey from the eleventh on. Columns of single classes are passed over.

    Raises:
        ValueError: no rows.
    """
    if not history:
        raise ValueError("expected a row an epoch")
    members = list(dict.fromkeys(row.get("member", "") for row in history))
    quantities = _quantities(history)
    across = min(len(quantities), 2)
    down = math.ceil(len(quantities) / across)
    figure = Figure((4.8 * across, 3.1 * down), facecolor="white", layout="constrained")
    for place, (quantity, columns) in enumerate(quantities.items(), 1):
        axes = figure.add_subplot(down, across, place)
        for number, member in enumerate(members):
            own = [row for row in history if row.get("member", "") == member]
            for column in columns:
                _curve(axes, own, column, _colour(number, len(members)), member)
        _dress(axes, quantity)
    _legend(figure, members, [part for part in _PARTS if any(f"{part}_loss" in row for row in history)])
    return figure


def _colour(number: int, members: int) -> str:
    return PALETTE[number] if number < (_NAMED if members <= _NAMED else _NAMED - 1) else FAINT


def _legend(figure: Figure, members: Sequence[str], parts: Sequence[str]) -> None:
    """Name the members by colour, and beneath them what solid and dashed lines are."""
    if len(members) > 1:
        shown = members if len(members) <= _NAMED else members[: _NAMED - 1]
        entries = [(short(name, 24), Line2D([], [], color=PALETTE[i])) for i, name in enumerate(shown)]
        if rest := len(members) - len(shown):
            entries.append((f"{rest} others", Line2D([], [], color=FAINT)))
        legend(figure, entries, loc="outside upper center", ncols=min(len(entries), 5), fontsize=8)
    colour = INK if len(members) > 1 else _colour(0, 1)
    lines = [(_WORDS[part], Line2D([], [], color=colour, linestyle=_PARTS[part])) for part in parts]
    if lines:
        legend(figure, lines, loc="outside lower center", ncols=2, fontsize=8)


def _quantities(history: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return what there is to draw: quantity → its columns; the learning rate last."""
    found: dict[str, list[str]] = {}
    for column in dict.fromkeys(key for row in history for key in row):
        part, _, quantity = column.partition("_")
        if part in _PARTS and quantity and not quantity.startswith(_OF_CLASSES):
            found.setdefault(quantity, []).append(column)
    if any(row.get("lr") for row in history):
        found["lr"] = ["lr"]
    return found


def _curve(axes: Axes, rows: Sequence[Mapping[str, str]], column: str, colour: object, member: str) -> None:
    points = [(float(row["epoch"]), float(row[column])) for row in rows if row.get(column) not in (None, "")]
    if not points:
        return
    x, y = zip(*points, strict=True)
    part, marker = column.partition("_")[0], "o" if len(x) < 3 else ""
    label = plain(", ".join(filter(None, (member, _WORDS.get(part, "")))))
    axes.plot(x, y, _PARTS.get(part, "-"), color=colour, label=label, linewidth=1.5, marker=marker, markersize=4)


def _dress(axes: Axes, quantity: str) -> None:
    axes.set_title(_TITLES.get(quantity, quantity.replace("_", " ")), fontsize=10, color=INK, loc="left")
    axes.set_xlabel("epoch", fontsize=8, color=INK)
    axes.set_ylabel(_UNITS.get(quantity, quantity.replace("_", " ")), fontsize=8, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if quantity.endswith(("accuracy", "miou")):
        axes.set_ylim(0, 1)
    elif quantity in ("loss", "lr"):
        axes.set_ylim(bottom=0)
