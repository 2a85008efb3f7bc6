"""How far several systems (members, their ensemble) make the same mistakes; S of them, on n images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.integer]


def disagreement(predicted: Ids) -> NDArray[np.float64]:
    """Return the share of images on which each two systems name different classes, float64 [S,S], 0–1.

    Args:
        predicted: class ids, int [S,n], n >= 1.
    """
    return np.array([(predicted != row).mean(axis=1) for row in predicted])


def both_wrong(predicted: Ids, labels: Ids) -> NDArray[np.float64]:
    """Return the share of images on which each two systems are both wrong, float64 [S,S]; in the diagonal each alone.

    Args:
        predicted: class ids, int [S,n], n >= 1.
        labels: true class ids, int [n].
    """
    wrong = predicted != labels
    return np.array([(wrong & row).mean(axis=1) for row in wrong])


@dataclass(frozen=True)
class Agreement:
    """How far all systems agree; shares of the n images, 0–1.

    Attributes:
        unanimous: images for which all name one class.
        unanimous_wrong: images for which all name the same wrong class.
        any_right: images for which at least one names the true class.
    """

    unanimous: float
    unanimous_wrong: float
    any_right: float


def agreement(predicted: Ids, labels: Ids) -> Agreement:
    """Return how far all systems agree; arguments as of `both_wrong`."""
    same = (predicted == predicted[0]).all(axis=0)
    return Agreement(
        unanimous=float(same.mean()),
        unanimous_wrong=float((same & (predicted[0] != labels)).mean()),
        any_right=float((predicted == labels).any(axis=0).mean()),
    )
