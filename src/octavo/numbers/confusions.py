"""What is taken for what: pairs of classes, and an order in which classes that are confused stand side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Confused:
    """A true class that is taken for another.

    Attributes:
        true: class id.
        predicted: class id, another one.
        count: images or pixels, at least 1.
        share: of the true class, 0–1.
    """

    true: int
    predicted: int
    count: int
    share: float


def confusion_counts(labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> Counts:
    """Return how many images of each true class (rows) were taken for each class (columns), int64 [C,C].

    Args:
        labels: true class ids, int [n], 0..C-1.
        predicted: class ids, int [n], 0..C-1.
        classes: C.

    Raises:
        ValueError: an id that is no class, or another number of predictions than of labels.
    """
    ids = np.stack([labels, predicted]).astype(np.int64)
    if ids.size and not 0 <= ids.min() <= ids.max() < classes:
        raise ValueError(f"expected class ids 0 to {classes - 1}, got {ids.min()} to {ids.max()}")
    return np.bincount(ids[0] * classes + ids[1], minlength=classes * classes).reshape(classes, classes)


def row_shares(counts: Counts) -> NDArray[np.float64]:
    """Return counts [C,C] as shares of their row; a row without any stays zero."""
    total = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)


def similar_order(counts: Counts) -> NDArray[np.int64]:
    """Return the class ids in an order in which classes that are taken for one another stand side by side, int64 [C].

    Classes are clustered by average linkage; the distance is 1 - (share of i taken for j + share of j taken for i) / 2,
    and the tree's leaves are ordered so that neighbours are as near as the tree allows (Bar-Joseph et al.,
    Bioinformatics 17, 2001). Of the two directions the one that begins with the lower id is taken.

    Args:
        counts: [C,C], rows truth, columns predictions; a row may be empty.
    """
    classes = len(counts)
    if classes < 3:
        return np.arange(classes)
    shares = row_shares(counts)
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    order = leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed)).astype(np.int64)
    return order if order[0] < order[-1] else order[::-1].copy()


def top_confusions(counts: Counts, most: int = 15) -> tuple[Confused, ...]:
    """Return the pairs (true class, class it is taken for) with the highest counts; of equals the higher share first.

    Args:
        counts: [C,C], rows truth, columns predictions.
        most: at most this many pairs.
    """
    shares, wrong = row_shares(counts), counts.copy()
    np.fill_diagonal(wrong, 0)
    true, predicted = np.nonzero(wrong)
    first = np.lexsort((predicted, true, -shares[true, predicted], -wrong[true, predicted]))[:most]
    return tuple(Confused(i, j, int(counts[i, j]), float(shares[i, j]))
                 for i, j in zip(true[first].tolist(), predicted[first].tolist(), strict=True))  # fmt: skip


def taken_for(counts: Counts) -> tuple[tuple[int, int] | None, ...]:
    """Return of each class the other class that it is most often taken for, and how often; None where it never is.

    Of equally frequent ones it is that with the lower id.
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    most = wrong.argmax(axis=1).tolist()
    return tuple((j, int(row[j])) if row[j] else None for j, row in zip(most, wrong, strict=True))
