"""Images as points in a plane: all classes at once, ten at a time, and how little the draw of the plane changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from octavo.pictures.style import FAINT, INK, MARKERS, PALE, PALETTE, legend, plain, short

GROUP = 10
"""Classes in a panel."""
PANELS = 6
"""Panels in a figure."""
NAMED = 60
"""Classes up to which all names are written in the plane; beyond, those that keep together most."""
_SIDE, _NAMES = 7.8, 1.7  # inches: of the plane with its axes, and beside it for a legend
_POINTS = 8.5  # size of the names in the plane


@dataclass(frozen=True, eq=False)
class Cloud:
    """Images in a plane, n of them.

    Attributes:
        points: float [n,2], without unit.
        labels: int [n], class ids.
        classes: names of the C classes.
        title: method, layer, number of images, settings, seed.
        axes: how the method is written, such as `t-SNE`.
    """

    points: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    title: str
    axes: str

    @property
    def dot(self) -> float:
        """Area of a point, in square points: smaller where there are more."""
        return float(np.clip(16_000 / max(len(self.points), 1), 3, 26))


def look_of(label: int) -> tuple[str, str]:
    """Return a class's colour and marker: the same in every figure, and no two classes of a panel share either."""
    return PALETTE[label % GROUP], MARKERS[(label + label // GROUP) % GROUP]


def whole_plane(cloud: Cloud) -> Figure:
    """Return all classes in one plane: with a legend up to ten, and beyond with each name at its class's median.

    Of more than `NAMED` classes, those are named whose images lie closest together.

    Raises:
        ValueError: no points.
    """
    _require(cloud)
    few = len(cloud.classes) <= GROUP
    wide, tall = _SIDE + _NAMES * few, _SIDE
    figure = Figure((wide, tall), facecolor="white")
    axes = figure.add_axes((0.35 / wide, 0.35 / tall, (_SIDE - 0.45) / wide, (tall - 0.75) / tall))
    _dress(axes, cloud)
    axes.set_title(plain(cloud.title), fontsize=10, color=INK, loc="left")
    dots = [_dots(axes, cloud, label) for label in range(len(cloud.classes))]
    if few:
        _legend(axes, dots)
    else:
        _names(figure, axes, cloud)
    return figure


def groups(cloud: Cloud) -> list[list[int]]:
    """Return the class ids of each panel: ten a panel in their order; a panel without any image is left out."""
    here = set(cloud.labels.tolist())
    tens = [list(range(start, min(start + GROUP, len(cloud.classes)))) for start in range(0, len(cloud.classes), GROUP)]
    return [ten for ten in tens if here & set(ten)]


def ten_at_a_time(cloud: Cloud) -> list[Figure]:
    """Return figures of up to six panels, two abreast: ten classes in colour in each, the others light grey.

    Raises:
        ValueError: no points.
    """
    _require(cloud)
    panels = groups(cloud)
    figures = []
    for start in range(0, len(panels), PANELS):
        part = panels[start : start + PANELS]
        across, down = min(2, len(part)), math.ceil(len(part) / 2)
        figure = Figure((5.5 * across, 4.3 * down + 0.4), facecolor="white", layout="constrained")
        figure.suptitle(plain(cloud.title), fontsize=10, color=INK, x=0.01, ha="left")
        for place, ten in enumerate(part, 1):
            _panel(figure.add_subplot(down, across, place), cloud, ten)
        figures.append(figure)
    return figures


def _panel(axes: Axes, cloud: Cloud, ten: list[int]) -> None:
    others = ~np.isin(cloud.labels, ten)
    axes.scatter(*cloud.points[others].T, s=cloud.dot * 0.6, color=FAINT, linewidths=0, rasterized=True)
    dots = [_dots(axes, cloud, label, 1.5) for label in ten]
    _dress(axes, cloud)
    _legend(axes, dots)


def purity_by_seed(feature: np.ndarray, planes: np.ndarray, seeds: Sequence[int], names: Sequence[str]) -> Figure:
    """Return each class's purity in planes of several seeds (up) by its purity in the layer's own space (across).

    Args:
        feature: float [C], 0–1; NaN leaves a class out.
        planes: float [S,C], 0–1, a row a seed; S is at most ten.
        seeds: S of them.
        names: of the C classes; those whose planes differ most are named.
    """
    here = np.isfinite(feature) & np.isfinite(planes).all(0)
    x, y = 100 * feature[here], 100 * planes[:, here]
    low = 10 * (min(x.min(initial=90), y.min(initial=90)) // 10)
    figure = Figure((7.2, 5.6), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.axline((0, 0), (100, 100), color=FAINT, linewidth=1, zorder=0)
    axes.vlines(x, y.min(0), y.max(0), color=PALE, linewidth=0.8, zorder=1)
    for row, seed in enumerate(seeds):
        colour, marker = look_of(row)
        axes.scatter(x, y[row], s=22, color=colour, marker=marker, label=f"seed {seed}", linewidths=0, zorder=2)
    for place, at in _furthest(x, y, (100 - low) / 100):
        text = plain(short(names[int(np.flatnonzero(here)[place])], 16))
        axes.annotate(text, at, (0, 5), textcoords="offset points", ha="center", fontsize=8, color=INK)
    axes.set_xlabel("neighbours of the same class, in the layer's own space (%)", fontsize=9, color=INK)
    axes.set_ylabel("neighbours of the same class, in the plane (%)", fontsize=9, color=INK)
    room = (100 - low) / 30
    axes.set(xlim=(low - room, 100 + room), ylim=(low - room, 100 + 2 * room))
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def _furthest(x: np.ndarray, y: np.ndarray, scale: float, count: int = 5) -> list[tuple[int, tuple[float, float]]]:
    """Return the columns of y [S,n] that vary most, and each one's upper end, without those whose names would meet."""
    found: list[tuple[int, tuple[float, float]]] = []
    swing = np.ptp(y, axis=0)
    for place in np.argsort(-swing, kind="stable").tolist():
        at = float(x[place]), float(y[:, place].max())
        free = all(abs(at[0] - other[0]) > 19 * scale or abs(at[1] - other[1]) > 4 * scale for _, other in found)
        if free and swing[place] > 0 and len(found) < count:
            found.append((place, at))
    return found


def _require(cloud: Cloud) -> None:
    if not len(cloud.points):
        raise ValueError("expected at least one point")


def _dots(axes: Axes, cloud: Cloud, label: int, larger: float = 1) -> tuple[str, Artist]:
    """Draw a class, and return how it is named and what names it."""
    colour, marker = look_of(label)
    own = cloud.points[cloud.labels == label]
    name = short(cloud.classes[label], 18) + ("" if len(own) else " (none)")
    return name, axes.scatter(*own.T, s=larger * cloud.dot, color=colour, marker=marker, linewidths=0, alpha=0.85)


def _dress(axes: Axes, cloud: Cloud) -> None:
    axes.set_xlabel(f"{cloud.axes} 1 (no unit)", fontsize=8, color=INK)
    axes.set_ylabel(f"{cloud.axes} 2 (no unit)", fontsize=8, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set_color("#bbbbbb")


def _legend(axes: Axes, dots: Sequence[tuple[str, Artist]]) -> None:
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0}
    for handle in legend(axes, dots, **place, fontsize=8.5, handletextpad=0.3).legend_handles:
        handle.set(sizes=[34], alpha=1)  # pyright: ignore[reportOptionalMemberAccess]


def _names(figure: Figure, axes: Axes, cloud: Cloud) -> None:
    """Write marker and name of each class at the median of its points, off other names, with a line if far off."""
    middles = _middles(cloud)
    axes.autoscale_view()
    axes.apply_aspect()
    limits, box, pixel = (axes.get_xlim(), axes.get_ylim()), axes.get_window_extent(), figure.dpi / 72
    halo = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    texts = []
    for label, middle in middles.items():
        name = plain(short(cloud.classes[label], 18))
        text = axes.annotate(name, tuple(middle), (5, 0), textcoords="offset points", va="center", fontsize=_POINTS)
        text.set(color=INK, zorder=5, path_effects=halo)
        texts.append(text)
    sizes = [text.get_window_extent().size for text in texts]
    room = np.array(sizes) * 1.02 + np.array([11, 2]) * pixel
    corner, back = np.array([box.x0, box.y0]), axes.transData.inverted()
    at = axes.transData.transform(list(middles.values())) - corner
    moved = _apart(at, room, (box.width, box.height))
    end, begin = back.transform(moved + corner), back.transform(moved + corner - (room / 2 - 5 * pixel) * (1, 0))
    for text, label, start, stop, first, far in zip(
        texts, middles, middles.values(), end, begin, np.abs(moved - at).max(1) > 14 * pixel, strict=True
    ):
        if far:
            axes.plot(*np.stack([start, stop]).T, color=PALE, linewidth=0.7, zorder=4)
        colour, marker = look_of(label)
        axes.plot(*first, marker=marker, markersize=6.5, color=colour, markeredgecolor="white", zorder=5)
        text.xy = tuple(first)
    axes.set(xlim=limits[0], ylim=limits[1])


def _middles(cloud: Cloud) -> dict[int, np.ndarray]:
    """Return class id → median [2], of the classes that are named, those that keep together most last and on top."""
    found = {}
    for label in np.unique(cloud.labels).tolist():
        own = cloud.points[cloud.labels == label]
        middle = np.median(own, axis=0)
        found[label] = (float(np.median(np.abs(own - middle).sum(1))), middle)
    order = sorted(found, key=lambda label: found[label][0])[:NAMED]
    return {label: found[label][1] for label in reversed(order)}


def _apart(at: np.ndarray, room: np.ndarray, within: tuple[float, float]) -> np.ndarray:
    """Return middles [n,2] of boxes of size `room` [n,2], near `at` [n,2], that no longer overlap, as far as they can.

    Each pair that overlaps is pushed apart along the axis on which that takes less, all at once, again and again.
    Written by hand: matplotlib places labels where it is told.
    """
    places, low = at.astype(float).copy(), room / 2
    high = np.array(within) - low
    places += np.arange(len(at))[:, None] * (1e-3, 2e-3)  # two on one place are told apart
    for _ in range(400):
        gap = places[:, None] - places[None]
        over = (room[:, None] + room[None]) / 2 - np.abs(gap)
        both = np.all(over > 0.5, axis=-1) & ~np.eye(len(at), dtype=bool)
        if not both.any():
            break
        axis = over.argmin(-1)[..., None] == np.arange(2)
        push = np.where(both[..., None] & axis, np.sign(gap) * over * 0.52, 0).sum(1)
        places = np.clip(places + np.clip(push, -12, 12), low, np.maximum(high, low))
    return places
