"""Points of many dimensions in a plane: t-SNE, and UMAP and PaCMAP where they are installed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import numpy as np
from sklearn.manifold import TSNE

from octavo.errors import UserError, lookup
from octavo.keyed import uniform

LEAST = 5
"""Points below which a plane says nothing."""
MOST = 5000
"""Points up to which a plane is drawn of all: t-SNE of more takes minutes, and they would hide one another."""
_SAMPLE = 0x73616D706C65  # keeps this draw apart from every other use of a seed


@dataclass(frozen=True, eq=False)
class Plane:
    """Points in a plane.

    Attributes:
        points: float32 [n,2], without unit.
        title: how the method is written, such as `t-SNE`.
        settings: what it was set to, in words, such as `perplexity 30`.
        seed: of its random draws.
    """

    points: np.ndarray
    title: str
    settings: str
    seed: int


@dataclass(frozen=True)
class Projection:
    """A way into the plane.

    Attributes:
        title: how it is written.
        setting: name of the one number that it depends on most.
        value: number of points → what that is set to.
        run: points float32 [n,F], that number, seed, whether to start from random places → [n,2].
    """

    title: str
    setting: str
    value: Callable[[int], float]
    run: Callable[[np.ndarray, float, int, bool], np.ndarray]

    def words(self, count: int) -> str:
        """Return what it is set to for `count` points."""
        return f"{self.setting} {self.value(count):.3g}"


def _tsne(points: np.ndarray, perplexity: float, seed: int, anywhere: bool) -> np.ndarray:
    start = "random" if anywhere else "pca"
    method = TSNE(perplexity=perplexity, init=start, metric="euclidean", random_state=seed, n_jobs=-1)
    return method.fit_transform(points)


def _umap(points: np.ndarray, neighbours: float, seed: int, anywhere: bool) -> np.ndarray:
    start = "random" if anywhere else "spectral"
    # One thread: with more, the same seed gives another plane.
    method = _extra("umap", "umap").UMAP(
        n_neighbors=int(neighbours), metric="euclidean", init=start, random_state=seed, n_jobs=1
    )
    return method.fit_transform(points)


def _pacmap(points: np.ndarray, neighbours: float, seed: int, anywhere: bool) -> np.ndarray:
    method = _extra("pacmap", "pacmap").PaCMAP(n_neighbors=int(neighbours), distance="euclidean", random_state=seed)
    return method.fit_transform(points, init="random" if anywhere else "pca")


PROJECTIONS: Mapping[str, Projection] = {
    "tsne": Projection("t-SNE", "perplexity", lambda n: min(30.0, (n - 1) / 3), _tsne),
    "umap": Projection("UMAP", "neighbours", lambda n: min(15, n - 1), _umap),
    "pacmap": Projection("PaCMAP", "neighbours", lambda n: min(10, max(1, int((n - 1) / 3.5))), _pacmap),
}
"""Each with its authors' settings: van der Maaten and Hinton, JMLR 2008; McInnes, Healy and Melville, arXiv 1802.03426,
2018; Wang, Huang, Rudin and Shaposhnik, JMLR 2021, which takes half as many mid-near points as neighbours and twice as
many far ones, so that few points have fewer neighbours. t-SNE and PaCMAP start from the principal components, UMAP
from a spectral layout."""


def project(points: np.ndarray, method: str = "tsne", seed: int = 0, *, anywhere: bool = False) -> Plane:
    """Return points in a plane, by Euclidean distances; the same for the same points, method, seed and machine.

    Args:
        points: float [n,F], n ≥ `LEAST`.
        method: a key of `PROJECTIONS`.
        seed: of its random draws, 0 … 2³² − 1.
        anywhere: start from random places, instead of those that the points themselves give: from these t-SNE depends
            on its seed by rounding errors alone.

    Raises:
        UserError: an unknown method or one that isn't installed, too few points, points that are all one, or numbers
            that aren't finite.
    """
    way = check(method)
    count = len(points)
    if count < LEAST:
        raise UserError(f"{way.title}: {count} images; expected at least {LEAST}")
    if not np.isfinite(points).all():
        raise UserError(f"{way.title}: the layer's output isn't finite; choose another layer")
    spread = points - points.mean(axis=0)
    if np.ptp(points, axis=0).max(initial=0) == 0:
        raise UserError(f"{way.title}: the layer gives the same numbers for every image; choose another layer")
    if spread.shape[1] == 1:
        spread = np.pad(spread, ((0, 0), (0, 1)))  # a line is a plane of no height
    spread = np.ascontiguousarray(spread / np.abs(spread).max(), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say of their seeds and threads is meant so
        placed = way.run(spread, way.value(count), seed, anywhere)
    return Plane(np.asarray(placed, np.float32), way.title, way.words(count), seed)


def check(method: str) -> Projection:
    """Return a projection that can be run.

    Raises:
        UserError: an unknown method, or one that isn't installed.
    """
    way = lookup(PROJECTIONS, method, "--method")
    if method != "tsne":
        _extra(method, method)
    return way


def sample(labels: np.ndarray, most: int = MOST, seed: int = 0) -> np.ndarray:
    """Return which points are drawn, in their order, int64 [min(n, most)]: of every class the same share.

    Every class keeps at least one point where there are no more than `most` classes. Which, depends on the seed and on
    their places alone.

    Args:
        labels: int64 [n], class ids.
        most: points that may be drawn.
        seed: of the draw.
    """
    count = len(labels)
    if count <= most:
        return np.arange(count)
    draw = uniform(seed, _SAMPLE, np.arange(count), n=1)[:, 0]
    order = np.lexsort((draw, labels))
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(count)
    rank[order] = np.arange(count) - starts[labels[order]]
    return np.sort(np.lexsort((draw, rank / sizes[labels]))[:most])


def _extra(module: str, extra: str) -> ModuleType:
    """Return a module of an extra; what it logs of its seed is not for the user."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(f"--method {extra}: needs an extra; install it: pip install 'octavo[{extra}]'") from None
    logging.getLogger(module).setLevel(logging.ERROR)
    return found
