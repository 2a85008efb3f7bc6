"""Which images are worth looking at: the worst mistakes, the least certain, the surest."""

from __future__ import annotations

import numpy as np


def worst_mistakes(labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the images that were taken for another class, the most confident first, int64 [k].

    Args:
        labels: true class ids, int [n].
        predicted: class ids, int [n].
        probabilities: float [n,C].
    """
    wrong = np.flatnonzero(predicted != labels)
    return wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]


def least_certain(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all images, the smallest margin first, int64 [n], and the margin of each image, float [n].

    The margin is the highest probability less the second highest; 0 if two classes are equally probable.

    Args:
        probabilities: float [n,C], C at least 2.
    """
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    margin = two[:, 1] - two[:, 0]
    return np.argsort(margin, kind="stable"), margin


def surest(labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the images that were recognised, int64 [k]: the surest of each class first, then the rest.

    Arguments as of `worst_mistakes`.
    """
    right = np.flatnonzero(predicted == labels)
    order = right[np.argsort(-probabilities[right, predicted[right]], kind="stable")]
    _, first = np.unique(labels[order], return_index=True)
    rest = np.setdiff1d(np.arange(len(order)), first)
    return order[np.concatenate([np.sort(first), rest])]


def second(probabilities: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the most probable class that isn't the predicted one, int64 [n].

    Args:
        probabilities: float [n,C], C at least 2.
        predicted: class ids, int [n].
    """
    rest = probabilities.copy()
    rest[np.arange(len(rest)), predicted] = -1
    return rest.argmax(1)
