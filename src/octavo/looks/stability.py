"""How much of the plane is the draw's: the same images laid out again, from other places and with other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from octavo.looks.embedding import Laid, Layer, layer_of, plane_of
from octavo.looks.look import Drawing, Table
from octavo.looks.subject import ClassifySubject
from octavo.numbers.neighbours import disparity, in_common, mean_share, nearest, neighbourhoods
from octavo.numbers.projection import LEAST
from octavo.pictures.embedding import purity_by_seed
from octavo.words import counted

SEEDS = 3
"""Planes that are compared."""


def stability(
    subject: ClassifySubject, layer: str | None = None, method: str = "tsne", seed: int = 0
) -> Drawing | None:
    """Draw how the classes' neighbourhoods in the plane differ from seed to seed; None as for `embedding`.

    The first plane is that of `embedding`; the others start from random places, or their seeds would change little.

    Args:
        subject: the run.
        layer: `MEMBER.LAYER`; by default the reference's.
        method: `tsne`, `umap` or `pacmap`.
        seed: of the first plane; the others have those after it.

    Raises:
        UserError: as `embedding`.
    """
    if len(subject.labels) < LEAST:
        return None
    own = layer_of(subject, layer)
    if layer is None and own.flat:
        return None
    planes = [plane_of(subject, own, method, seed + i, anywhere=i > 0) for i in range(SEEDS)]
    seeds = [plane.seed for plane in planes]
    near = [nearest(plane.points) for plane in planes]
    pure = np.stack([neighbourhoods(n, own.labels, len(subject.classes)).purity for n in near])
    pairs = _pairs(planes, near)
    return Drawing.single(
        purity_by_seed(own.lie.purity, pure, seeds, subject.classes),
        name="stability",
        title=f"How stable the plane is ({planes[0].title})",
        sees=_sees(own, planes, pairs, pure),
        source="explained/stability.json",
        caption="Each class is a line from its lowest to its highest value: short lines are what can be relied on, and "
        "the classes far left are scattered whatever the plane shows.",
        alt="Purity of each class in the plane, by seed",
        wide=False,
        tables=(_seeds_table(own, planes, pure), _pairs_table(pairs, own), _classes_table(subject, own, pure, seeds)),
    )


def _pairs(planes: Sequence[Laid], near: list[np.ndarray]) -> list[tuple[int, int, float, float]]:
    """Return seed, seed, share of neighbours in common and Procrustes disparity of each two planes."""
    return [
        (planes[a].seed, planes[b].seed, in_common(near[a], near[b]), disparity(planes[a].points, planes[b].points))
        for a, b in combinations(range(len(planes)), 2)
    ]


def _sees(layer: Layer, planes: Sequence[Laid], pairs: list[tuple[int, int, float, float]], pure: np.ndarray) -> str:
    common = 100 * float(np.mean([share for *_, share, _ in pairs]))
    chance = 100 * layer.lie.k / max(len(layer.rows) - 1, 1)
    swing = round(100 * float(np.nan_to_num(np.ptp(pure, axis=0)).max()))
    return (
        f"{planes[0].title} of {layer.name} with {counted(len(planes), 'seed')}, after the first from random places. "
        f"Two planes have {common:.0f} % of an image's {layer.lie.k} nearest neighbours in common ({chance:.1f} % by "
        f"chance), and the share of neighbours of the same class differs by up to {counted(swing, 'point')} in one "
        "class. What only one plane shows is the draw's, not the data's."
    )


def _seeds_table(layer: Layer, planes: Sequence[Laid], pure: np.ndarray) -> Table:
    worst = set(layer.lie.scattered(min(10, max(1, len(layer.lie.counts) // 4))))
    rows = []
    for plane, share in zip(planes, pure, strict=True):
        order = [int(c) for c in np.argsort(share, kind="stable") if np.isfinite(share[c])]
        found = len(worst & set(order[: len(worst)]))
        rows.append((plane.seed, _number(plane.trust), _number(mean_share(share)), found))
    return Table(
        title="The plane by seed",
        columns=(
            "seed",
            f"trustworthiness (k = {planes[0].k})",
            "neighbours of the same class",
            f"most scattered classes found (of {len(worst)})",
        ),
        rows=tuple(rows),
        kinds=("count", "number", "share", "count"),
        caption="The last column: how many of the classes that are the most scattered in the layer's own space would "
        "be read off this plane.",
    )


def _pairs_table(pairs: list[tuple[int, int, float, float]], layer: Layer) -> Table:
    return Table(
        title="Planes of two seeds",
        columns=("seed", "other seed", f"neighbours in common (k = {layer.lie.k})", "Procrustes disparity, 0–1"),
        rows=tuple((a, b, _number(share), _number(left)) for a, b, share, left in pairs),
        kinds=("count", "count", "share", "number"),
        caption="Disparity is what is left between two planes after one is shifted, turned, mirrored and scaled onto "
        "the other: 0 for the same shape.",
    )


def _classes_table(subject: ClassifySubject, layer: Layer, pure: np.ndarray, seeds: Sequence[int]) -> Table:
    swing = np.nan_to_num(np.ptp(pure, axis=0))
    order = [int(c) for c in np.argsort(-swing, kind="stable")[:10] if np.isfinite(pure[:, c]).all()]
    return Table(
        title="Classes whose neighbourhood depends on the seed most",
        columns=("class", "in the layer's space", *(f"in the plane, seed {seed}" for seed in seeds)),
        rows=tuple((subject.classes[c], float(layer.lie.purity[c]), *map(float, pure[:, c])) for c in order),
        kinds=("text", "share", *("share" for _ in seeds)),
        caption="Shares of neighbours that are of the same class.",
    )


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
