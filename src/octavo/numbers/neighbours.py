"""Which images are near one another: how scattered a class is, which classes overlap, what a plane keeps of it.

Distances are Euclidean on the layer's own numbers, as in the t-SNE beside them: tables and plane speak of the same
neighbours. They are not standardised: a unit that says little is to count little. (On the 50 classes of the course with
vgg16, standardising changed purity from 0.380 to 0.379, and cosine to 0.451 with eight of the same ten classes last.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import procrustes
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 10
"""k where nothing else is said."""


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """How the classes lie among one another; C classes, a class of fewer than two images has NaN.

    Attributes:
        k: neighbours that were looked at.
        purity: float64 [C], 0–1: share of the neighbours of a class's images that are of that class.
        crossing: float64 [C,C], 0–1: share of the neighbours of a class's images (row) that are of each class.
        counts: int64 [C], images of each class.
    """

    k: int
    purity: np.ndarray
    crossing: np.ndarray
    counts: np.ndarray

    @property
    def chance(self) -> np.ndarray:
        """Purity that images in no order at all would have, float64 [C]."""
        total = int(self.counts.sum())
        share = (self.counts - 1) / max(total - 1, 1)
        return np.where(self.counts > 1, share, np.nan)

    @property
    def overlap(self) -> np.ndarray:
        """Share of neighbours that go over, both ways averaged, float64 [C,C], symmetric; NaN on the diagonal."""
        both = (self.crossing + self.crossing.T) / 2
        np.fill_diagonal(both, np.nan)
        return both

    def looked_at(self, label: int) -> int:
        """Return how many neighbours were looked at of each image of a class: at most as many as it has others."""
        return min(self.k, int(self.counts[label]) - 1)

    def scattered(self, count: int = 10) -> list[int]:
        """Return the classes of the lowest purity, lowest first; those without a purity are left out."""
        order = np.argsort(self.purity, kind="stable")
        return [int(c) for c in order[:count] if np.isfinite(self.purity[c])]

    def overlapping(self, count: int = 10) -> list[tuple[int, int]]:
        """Return the pairs of classes that overlap most, most first; pairs that don't at all are left out."""
        rows, columns = np.triu_indices(len(self.purity), 1)
        shares = np.nan_to_num(self.overlap[rows, columns])
        order = np.argsort(-shares, kind="stable")[:count]
        return [(int(rows[i]), int(columns[i])) for i in order if shares[i] > 0]


def nearest(points: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Return the k nearest other points of each point, nearest first, int64 [n,k]; k is at most n − 1.

    Args:
        points: float [n,F], finite.
        k: neighbours wanted.
    """
    k = min(k, len(points) - 1)
    if k < 1:
        return np.empty((len(points), 0), np.int64)
    # Asked without points, scikit-learn leaves each point itself out, also where others lie on the very same place.
    return NearestNeighbors(n_neighbors=k, n_jobs=-1).fit(points).kneighbors(return_distance=False).astype(np.int64)


def neighbourhoods(neighbours: np.ndarray, labels: np.ndarray, classes: int) -> Neighbourhoods:
    """Return how scattered each class is and which overlap.

    Where a class has fewer than k other images, as many neighbours as those are looked at, so that one that keeps to
    itself has purity 1 whatever its size.

    Args:
        neighbours: int64 [n,k], see `nearest`.
        labels: int64 [n], class ids.
        classes: C.
    """
    k = neighbours.shape[1]
    counts = np.bincount(labels, minlength=classes)
    crossing = np.full((classes, classes), np.nan)
    for c in np.flatnonzero(counts > 1):
        near = labels[neighbours[labels == c, : min(k, counts[c] - 1)]]
        crossing[c] = np.bincount(near.ravel(), minlength=classes) / near.size
    return Neighbourhoods(k, crossing.diagonal().copy(), crossing, counts)


def mean_share(shares: np.ndarray) -> float:
    """Return the mean of those classes' shares that aren't NaN; NaN where all are."""
    shares = shares[np.isfinite(shares)]
    return float(shares.mean()) if len(shares) else float("nan")


def trusted(points: np.ndarray, plane: np.ndarray, k: int = NEIGHBOURS) -> tuple[float, int]:
    """Return the trustworthiness of a plane, 0–1, and the k it was taken at: below n / 2, which it is defined for.

    It is 1 where the k nearest neighbours in the plane are those in the original space, and falls by the rank that the
    others have there (Venna and Kaski, ICANN 2001). NaN, and k = 0, for fewer than three points.

    Args:
        points: float [n,F].
        plane: float [n,2], the same points.
        k: neighbours wanted.
    """
    k = min(k, (len(points) - 1) // 2)
    if k < 1:
        return float("nan"), 0
    return float(trustworthiness(points, plane, n_neighbors=k)), k


def in_common(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of neighbours that two lists have in common, 0–1, a mean over the points; NaN without any.

    Args:
        first: int64 [n,k], see `nearest`.
        second: int64 [n,k], the same points elsewhere.
    """
    if not first.size:
        return float("nan")
    both = np.sort(np.concatenate([first, second], axis=1), axis=1)
    return float((both[:, 1:] == both[:, :-1]).sum() / first.size)


def disparity(first: np.ndarray, second: np.ndarray) -> float:
    """Return what is left between two planes after shifting, turning, mirroring and scaling one onto the other, 0–1.

    The sum of squares that `scipy.spatial.procrustes` leaves of two planes of norm one; NaN where all points of a
    plane are one.

    Args:
        first: float [n,2].
        second: float [n,2], the same points.
    """
    if np.ptp(first, axis=0).max(initial=0) == 0 or np.ptp(second, axis=0).max(initial=0) == 0:
        return float("nan")
    return float(procrustes(first.astype(np.float64), second.astype(np.float64))[2])
