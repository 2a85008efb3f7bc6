"""How pixels are counted and averaged: what the rules of `rules` are made of.

Everything is written for many weightings of the images at a time, which is what a bootstrap needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Confusions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Counts:
    """Pixels of each class, float64 [...,C]: whole numbers, so that sums are exact in any order."""

    hits: Doubles
    """Of this class and predicted so."""
    truth: Doubles
    """Of this class."""
    called: Doubles
    """Predicted so."""

    @property
    def union(self) -> Doubles:
        """Pixels of this class or predicted so."""
        return self.truth + self.called - self.hits

    @property
    def iou(self) -> Doubles:
        """Intersection over union; not a number where the union is empty."""
        return ratio(self.hits, self.union)

    def pooled(self, weight: Doubles) -> Counts:
        """Return the sums over images [n,C], each taken as often as weight [R,n] says, as [R,C]."""
        return Counts(weight @ self.hits, weight @ self.truth, weight @ self.called)


@dataclass(frozen=True, eq=False)
class Means:
    """What a rule makes of R weightings of the images."""

    value: Doubles
    """[R]; not a number where the rule has none."""
    per_class: Doubles
    """[R,C]: each class's share in it; not a number where it has none."""
    counted: Flags
    """[R,C]: whether the class enters the mean."""


Count = Callable[[Confusions], Counts]
Average = Callable[[Counts, Flags], Means]
Measure = Callable[[Counts, Flags, Doubles], Means]


def ratio(part: Doubles, whole: Doubles, empty: float = np.nan) -> Doubles:
    """Return part / whole, and `empty` where whole is zero."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), empty)


def masked(confusions: Confusions) -> Counts:
    """Leave pixels without truth out."""
    return _counts(confusions[:, :-1, :-1], confusions[:, :-1])


def unmasked(confusions: Confusions) -> Counts:
    """Leave no pixel out: a class predicted where there is no truth is that class's false positive."""
    return _counts(confusions[:, :, :-1], confusions[:, :-1])


def both_known(confusions: Confusions) -> Counts:
    """Leave pixels without truth or without prediction out."""
    return _counts(confusions[:, :-1, :-1], confusions[:, :-1, :-1])


def _counts(predicted: Confusions, true: Confusions) -> Counts:
    hits = np.diagonal(true, axis1=1, axis2=2)
    return Counts(*(x.astype(np.float64) for x in (hits, true.sum(axis=2), predicted.sum(axis=1))))


def mean_of(values: Doubles, counted: Flags, empty: float = np.nan) -> Means:
    """Return the mean of values [R,C] over the counted ones; `empty` where none is."""
    total = np.where(counted, values, 0).sum(axis=-1)
    return Means(ratio(total, counted.sum(axis=-1), empty), values, counted)


def over_scored(counts: Counts, scored: Flags) -> Means:
    """Average over the scored classes, and have no number if one of them is absent."""
    return mean_of(counts.iou, np.broadcast_to(scored, counts.hits.shape))


def over_all(counts: Counts, scored: Flags) -> Means:
    """Average over all classes, and have no number if one of them is absent."""
    return mean_of(counts.iou, np.ones(counts.hits.shape, bool))


def over_present(counts: Counts, scored: Flags) -> Means:
    """Average over the classes that occur in truth or prediction."""
    return mean_of(counts.iou, counts.union > 0)


def over_true(counts: Counts, scored: Flags) -> Means:
    """Average over the classes that occur in the truth; zero if none does."""
    return mean_of(ratio(counts.hits, counts.union, 0), counts.truth > 0, 0)


def absent_as(value: float) -> Average:
    """Average over all classes, an absent one counted as `value`."""
    return lambda counts, scored: mean_of(ratio(counts.hits, counts.union, value), np.ones(counts.hits.shape, bool))


def micro(empty: float) -> Average:
    """Sum pixels over classes before dividing; `empty` where there is none."""
    return lambda counts, scored: Means(
        ratio(counts.hits.sum(axis=-1), counts.union.sum(axis=-1), empty), counts.iou, counts.union > 0
    )


def pixel_accuracy(counts: Counts, scored: Flags) -> Means:
    """Return the share of pixels that are right, and of each class's."""
    value = ratio(counts.hits.sum(axis=-1), counts.truth.sum(axis=-1))
    return Means(value, ratio(counts.hits, counts.truth), counts.truth > 0)


def mean_accuracy(counts: Counts, scored: Flags) -> Means:
    """Average each class's share of right pixels over the classes that occur in the truth."""
    return mean_of(ratio(counts.hits, counts.truth), counts.truth > 0)


def frequency_weighted(counts: Counts, scored: Flags) -> Means:
    """Weight each class's IoU with its share of the true pixels."""
    total = (counts.truth * ratio(counts.hits, counts.union, 0)).sum(axis=-1)
    return Means(ratio(total, counts.truth.sum(axis=-1)), counts.iou, counts.truth > 0)


def once(average: Average) -> Measure:
    """Count all images as one."""
    return lambda counts, scored, weight: average(counts.pooled(weight), scored)


def by_image(average: Average) -> Measure:
    """Average over images what `average` makes of each."""

    def measure(counts: Counts, scored: Flags, weight: Doubles) -> Means:
        each = average(counts, scored)
        known = each.counted & ~np.isnan(each.per_class)
        per_class = ratio(weight @ np.where(known, each.per_class, 0), weight @ known.astype(np.float64))
        return Means(weight @ each.value / weight.sum(axis=1), per_class, ~np.isnan(per_class))

    return measure


def image_class_pairs(counts: Counts, scored: Flags, weight: Doubles) -> Means:
    """Average over all pairs of image and class that have a union."""
    known = (counts.union > 0).astype(np.float64)
    total, pairs = weight @ ratio(counts.hits, counts.union, 0), weight @ known
    return Means(ratio(total.sum(axis=1), pairs.sum(axis=1)), ratio(total, pairs), pairs > 0)


def pairs_by_class(counts: Counts, scored: Flags, weight: Doubles) -> Means:
    """Average each class over the images in which it has a union, -1 where there is none, then over classes."""
    per_class = np.nan_to_num(image_class_pairs(counts, scored, weight).per_class, nan=-1.0)
    return mean_of(per_class, np.ones(per_class.shape, bool))


def without_first(counts: Counts, scored: Flags, weight: Doubles) -> Means:
    """Average over pairs of image and class without the first class, if there are others."""
    if counts.hits.shape[1] == 1:
        return image_class_pairs(counts, scored, weight)
    rest = Counts(counts.hits[:, 1:], counts.truth[:, 1:], counts.called[:, 1:])
    means = image_class_pairs(rest, scored[1:], weight)
    padded = np.pad(means.per_class, ((0, 0), (1, 0)), constant_values=np.nan)
    return Means(means.value, padded, np.pad(means.counted, ((0, 0), (1, 0))))
