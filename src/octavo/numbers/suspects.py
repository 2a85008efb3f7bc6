"""Labels that are probably wrong, by confident learning."""

from __future__ import annotations

import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

import numpy as np


@dataclass(frozen=True, eq=False)
class Suspects:
    """Images whose label is probably wrong, the most suspicious first; k of them.

    Attributes:
        indices: places among the images that were given, int64 [k].
        suggested: the most probable class of each, int64 [k]; never the one it is labelled with.
        self_confidence: probability of the class it is labelled with, float64 [k], ascending.
        confidence: probability of the suggested class, float64 [k].
    """

    indices: np.ndarray
    suggested: np.ndarray
    self_confidence: np.ndarray
    confidence: np.ndarray


def label_suspects(labels: np.ndarray, probabilities: np.ndarray) -> Suspects:
    """Return the images whose label is probably wrong.

    Confident learning (Northcutt, Jiang and Chuang, Journal of Artificial Intelligence Research 70, 2021) counts them:
    an image is one if its probability of another class reaches the mean of that class's own images. As many images are
    taken, those least confident of their label; the ones whose most probable class is their label are left out. A class
    without images is never what makes an image suspicious.

    Args:
        labels: class ids, int [n]; any number of images, and classes may have none.
        probabilities: float [n,C], rows sum to one; from networks that were not trained on these images.

    Raises:
        ValueError: another shape, a label outside 0…C-1, or rows that are no probabilities.
    """
    labels, probabilities = np.asarray(labels, np.int64), np.asarray(probabilities, np.float64)
    _require(labels, probabilities)
    present, compact = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        return _suspects(np.zeros(0, np.int64), labels, probabilities)
    # What lies on classes without images goes to none of the others: their columns would no longer mean what they did.
    own = probabilities[:, present]
    found = _ranked(compact, own)
    best = probabilities[found].argmax(1)
    return _suspects(found[best != labels[found]], labels, probabilities)


def _require(labels: np.ndarray, probabilities: np.ndarray) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or probabilities.shape[1] < 2:
        raise ValueError(f"expected labels [n] and probabilities [n,C], got {labels.shape} and {probabilities.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise ValueError(f"labels outside 0…{probabilities.shape[1] - 1}")
    if not (np.isfinite(probabilities).all() and np.allclose(probabilities.sum(1), 1, atol=1e-3)):
        raise ValueError("expected rows of probabilities that sum to one")


def _ranked(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    # Imported here: it takes a second and a half, pandas included.
    from cleanlab.filter import find_label_issues

    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        found = find_label_issues(
            labels,
            probabilities.clip(0, 1),
            filter_by="low_self_confidence",
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        )
    return np.asarray(found, np.int64)


def _suspects(found: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> Suspects:
    some = probabilities[found]
    return Suspects(found, some.argmax(1), some[np.arange(len(found)), labels[found]], some.max(1, initial=0))
