"""Training curves: loss, scores and learning rate by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from octavo.pictures.style import INK, PALETTE, plain

_PARTS = {"train": "-", "holdout": "--"}
_TITLES = {"miou": "mIoU", "lr": "learning rate"}


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
                _curve(axes, own, column, PALETTE[number % len(PALETTE)], member)
        _dress(axes, quantity)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = len(handles) if len(handles) <= 4 else 4
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    return figure


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
    label = plain(", ".join(filter(None, (member, words))))
    axes.plot(
        x, y, _PARTS.get(part, "-"), color=colour, label=label, linewidth=1.5, marker="o" if len(x) < 3 else "",
        markersize=4,
    )  # fmt: skip


def _dress(axes: Axes, quantity: str) -> None:
    axes.set_title(_TITLES.get(quantity, quantity.replace("_", " ")), fontsize=10, color=INK, loc="left")
    axes.set_xlabel("epoch", fontsize=8, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if quantity.endswith(("accuracy", "miou")):
        axes.set_ylim(0, 1)
    elif quantity in ("loss", "lr"):
        axes.set_ylim(bottom=0)
