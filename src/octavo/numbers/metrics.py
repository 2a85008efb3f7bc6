"""METRICS: what predictions are scored by, each with the rule that makes its number.

Every metric is written once, for weighted images and many weightings at a time: weights of one give the plain number,
and whole-number weights give that of a set with images repeated, which is what a bootstrap needs thousands of times.
torchmetrics and scikit-learn compute one weighting a call (seconds to minutes for what takes milliseconds here), so
they are the reference of the tests instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

Doubles = NDArray[np.float64]
Labels = NDArray[np.integer]

Statistic = Callable[[Doubles], Doubles]
"""weight [R,N] of N images in R replicates, each row with a positive sum → the metric's value in each replicate [R]."""

BINS = 15


@dataclass(frozen=True)
class Metric:
    """A metric of log-probabilities, and its rule."""

    name: str
    title: str
    prepare: Callable[[Doubles, Labels], Statistic]
    """(log-probabilities float64 [N,C], labels int [N]) → what turns weights into values."""
    higher_is_better: bool
    rule: str
    least_classes: int = 1
    """With fewer classes than this the metric says nothing and is left out."""
    proportion: bool = False
    """Whether each image scores 0 or 1 and the metric is their plain mean."""
    scale: Literal["logit", "log"] = "logit"
    """Where its noise is even: `logit` of what lies in 0..1, `log` of a loss."""

    def __call__(self, logits: ArrayLike, labels: ArrayLike, weight: ArrayLike | None = None) -> Doubles:
        """Return the value for each row of `weight` [R,N] as [R]; without weights one value, [1].

        Args:
            logits: [N,C], or log-probabilities.
            labels: int [N], class ids.
            weight: >= 0; each row needs a positive sum.
        """
        statistic = self.prepare(log_probabilities(logits), np.asarray(labels))
        return statistic(np.ones((1, len(np.asarray(labels)))) if weight is None else np.asarray(weight, np.float64))


def log_probabilities(logits: ArrayLike) -> Doubles:
    """Return log softmax of logits [N,C] in double precision; log-probabilities come back as they were."""
    return log_softmax(np.asarray(logits, np.float64), axis=1)


def grouped(weight: Doubles, group: Labels, groups: int) -> Doubles:
    """Return the sum of weight [R,N] over each group's images, [R,groups]; `group` int [N], below 0 is no group."""
    kept = group >= 0
    if not kept.all():
        weight, group = weight[:, kept], group[kept]
    # One pass in a fixed order: faster than a product with a one-hot matrix, and the same bits with any BLAS.
    return np.array([np.bincount(group, row, groups) for row in weight], np.float64)


def mean_of(values: ArrayLike) -> Statistic:
    """Return the statistic "weighted mean of values [N]"."""
    numbers = np.asarray(values, np.float64)
    return lambda weight: (weight * numbers).sum(axis=1) / weight.sum(axis=1)


def accuracy_of(predicted: Labels, labels: Labels) -> Statistic:
    """Return the statistic "share of images whose predicted class is the true one"; both int [N]."""
    return mean_of(predicted == labels)


def macro_f1_of(predicted: Labels, labels: Labels, classes: int) -> Statistic:
    """Return the statistic "mean F1 of the classes that occur in truth or prediction"; a prediction below 0 is none."""

    def value(weight: Doubles) -> Doubles:
        true = grouped(weight, labels, classes)
        called = grouped(weight, predicted, classes)
        hits = grouped(weight, np.where(predicted == labels, labels, -1), classes)
        occurs = true + called > 0
        f1 = 2 * hits / np.where(occurs, true + called, 1)
        return f1.sum(axis=1) / occurs.sum(axis=1)

    return value


def balanced_accuracy_of(predicted: Labels, labels: Labels, classes: int) -> Statistic:
    """Return the statistic "mean over the classes that occur in the truth of the share recognised"."""

    def value(weight: Doubles) -> Doubles:
        true = grouped(weight, labels, classes)
        hits = grouped(weight, np.where(predicted == labels, labels, -1), classes)
        occurs = true > 0
        return (hits / np.where(occurs, true, 1)).sum(axis=1) / occurs.sum(axis=1)

    return value


def ranks(logprobs: Doubles, labels: Labels) -> NDArray[np.int64]:
    """Return how many classes come before the true one [N]; of equal scores the lower class id comes first."""
    own = logprobs[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logprobs.shape[1]) < np.asarray(labels)[:, None]
    return ((logprobs > own) | ((logprobs == own) & earlier)).sum(axis=1)


@dataclass(frozen=True)
class GroupedGap:
    """The statistic "sum over groups of |weighted sum of gap [N]|, over the sum of weights", as in the ECE.

    Noise alone raises it, so that resamples lie above the true value; `noise` is what its interval needs instead.
    """

    gap: Doubles
    group: Labels
    groups: int

    def __call__(self, weight: Doubles) -> Doubles:
        """Return the value in each replicate [R] of weight [R,N]."""
        return np.abs(self._means(weight)).sum(axis=1)

    def noise(self, weight: Doubles) -> Doubles:
        """Return how far the groups' means lie from those of the images as they are, summed over groups, [R].

        By the triangle inequality the value is never further from its true one than this.
        """
        return np.abs(self._means(weight) - self._means(np.ones((1, len(self.gap))))).sum(axis=1)

    def _means(self, weight: Doubles) -> Doubles:
        return grouped(weight * self.gap, self.group, self.groups) / weight.sum(axis=1, keepdims=True)


def _ece(logprobs: Doubles, labels: Labels) -> GroupedGap:
    confidence = np.exp(logprobs.max(axis=1))
    # Bin m holds ((m-1)/15, m/15]; a rounded 1.0000000000000002 belongs to the last.
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return GroupedGap((logprobs.argmax(axis=1) == labels) - confidence, bins, BINS)


def _brier(logprobs: Doubles, labels: Labels) -> Statistic:
    probabilities = np.exp(logprobs)
    own = probabilities[np.arange(len(labels)), labels]
    return mean_of((probabilities**2).sum(axis=1) - 2 * own + 1)


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric(
            "accuracy",
            "accuracy",
            lambda p, y: accuracy_of(p.argmax(axis=1), y),
            True,
            "Share of images whose most probable class is the true one; of equally probable classes the lower id is "
            "taken.",
            proportion=True,
        ),
        Metric(
            "top5",
            "top-5",
            lambda p, y: mean_of(ranks(p, y) < 5),
            True,
            "Share of images whose true class is among the five most probable; of equally probable classes the lower "
            "id comes first.",
            least_classes=6,
            proportion=True,
        ),
        Metric(
            "macro_f1",
            "macro F1",
            lambda p, y: macro_f1_of(p.argmax(axis=1), y, p.shape[1]),
            True,
            "Mean over classes of 2·TP/(2·TP+FP+FN); classes that occur neither in truth nor in prediction are left "
            "out (scikit-learn's f1_score, average macro).",
        ),
        Metric(
            "balanced_accuracy",
            "balanced accuracy",
            lambda p, y: balanced_accuracy_of(p.argmax(axis=1), y, p.shape[1]),
            True,
            "Mean over the classes that occur in the truth of the share of their images that were recognised.",
        ),
        Metric(
            "nll",
            "NLL",
            lambda p, y: mean_of(-p[np.arange(len(y)), y]),
            False,
            "Mean negative natural logarithm of the true class's probability.",
            scale="log",
        ),
        Metric(
            "ece",
            "ECE",
            _ece,
            False,
            "Expected calibration error (Guo et al., ICML 2017): 15 bins of equal width over the confidence, each "
            "((m-1)/15, m/15]; mean |accuracy - confidence| of the bins, weighted by their images.",
        ),
        Metric(
            "brier",
            "Brier",
            _brier,
            False,
            "Mean over images of the squared distance between probabilities and one-hot truth, summed over classes "
            "(Brier 1950; 0 to 2).",
            scale="log",
        ),
    )
}
"""Name in `metrics.json` → metric, in the order of display."""


def metrics_for(classes: int) -> dict[str, Metric]:
    """Return the entries of `METRICS` that say something with this many classes."""
    return {name: metric for name, metric in METRICS.items() if classes >= metric.least_classes}
