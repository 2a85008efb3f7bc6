"""How far probabilities can be believed: accuracy by confidence, in the bins of the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from octavo.numbers.metrics import METRICS, GroupedGap, log_probabilities
from octavo.numbers.results import wilson

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Images in bins of equal width by the probability of their predicted class; K bins.

    Attributes:
        edges: float64 [K+1], 0 to 1; bin k holds the confidences in (edges[k], edges[k+1]].
        count: int64 [K], images.
        confidence: mean of the bin's images, float64 [K]; NaN where there are none.
        accuracy: share of them that was recognised, float64 [K]; NaN where there are none.
        low: lower end of its Wilson interval, float64 [K].
        high: upper end.
        ece: expected calibration error, 0–1.
        mean_confidence: of all images.
        mean_accuracy: of all images.
    """

    edges: Doubles
    count: NDArray[np.int64]
    confidence: Doubles
    accuracy: Doubles
    low: Doubles
    high: Doubles
    ece: float
    mean_confidence: float
    mean_accuracy: float


def reliability(logits: ArrayLike, labels: ArrayLike, level: float = 0.95) -> Reliability:
    """Return accuracy by confidence in the very bins that `METRICS["ece"]` makes.

    Args:
        logits: [n,C], or log-probabilities; n >= 1.
        labels: true class ids, int [n].
        level: of the intervals.
    """
    logprobs, truth = log_probabilities(logits), np.asarray(labels)
    binned = METRICS["ece"].prepare(logprobs, truth)
    assert isinstance(binned, GroupedGap)
    bins = binned.groups
    hits, confidence = logprobs.argmax(axis=1) == truth, np.exp(logprobs.max(axis=1))
    count = np.bincount(binned.group, minlength=bins)
    right = np.bincount(binned.group[hits], minlength=bins)
    ends = np.full((2, bins), np.nan)
    for k in np.flatnonzero(count):
        found = wilson(int(right[k]), int(count[k]), level)
        ends[:, k] = found.low, found.high
    return Reliability(
        edges=np.linspace(0, 1, bins + 1),
        count=count,
        confidence=_means(np.bincount(binned.group, confidence, bins), count),
        accuracy=_means(right, count),
        low=ends[0],
        high=ends[1],
        ece=float(binned(np.ones((1, len(truth))))[0]),
        mean_confidence=float(confidence.mean()),
        mean_accuracy=float(hits.mean()),
    )


def _means(total: NDArray[np.generic], count: NDArray[np.int64]) -> Doubles:
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
