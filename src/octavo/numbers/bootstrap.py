"""Intervals by resampling images (Efron 1979): of one metric, and of the difference of two systems on the same images.

Of n images n-1 are drawn with replacement, as n would understate the variance by the factor (n-1)/n. They are drawn
within each class where the classes are more even than chance would have them, as then somebody made them so, and each
has `STRATUM` images (k-1 of k, weighted k/(k-1): Rao and Wu, JASA 83, 1988); otherwise from the whole set: within
classes whose sizes are chance, resampling leaves out what that chance adds. Images that come in groups (of one patient,
one scene) are alike: with `groups` whole groups are drawn.

Ends are value - bias ± t·s, with bias and deviation s those of the resampled values, t Student's quantile for as many
degrees of freedom as there are images (groups) less classes drawn within, and the sum taken on a scale without bounds:
logit for what lies in 0..1, logarithm for losses (Efron and Tibshirani 1993, sections 10.3 and 12.6; deviations by the
delta method). Losses have fewer degrees of freedom where they hang on few images (`Draws.freedom`). An end is never on
the wrong side of the value. Percentiles would be wrong for macro F1 and mIoU: of few images a class, noise lowers
these, resampling lowers them again, and the interval falls short by both (of 60 images of 10 classes percentiles held
the true macro F1 in 87.5 % of 1,000 simulations). Four cases differ:

- The difference of two systems has percentiles for ends, as what lowers both cancels; they are widened as Student's
  quantile is wider than the normal one, with degrees of freedom as for losses (expanded percentiles; Hesterberg,
  American Statistician 69, 2015).
- A share of images (accuracy, top-5) with fewer than ten hits or misses gets Wilson's interval, as resampling a perfect
  score gives the same perfect score each time; with groups that of as many images as there are groups.
- Another metric, or a difference, with the same value in every resample has no interval: its ends are `None`.
- The ECE is raised by noise alone, and resampling adds noise. Its lower end is the value less the `level` quantile of
  how far the resampled bins lie from the scored ones, or 0; its upper end is the percentile.

How often all these hold the true value is measured by `bench/interval_coverage.py`. What is resampled is the scored
images; the spread between trainings with another seed is not in any of these intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri

from octavo.numbers.draws import Draws, ends
from octavo.numbers.metrics import Doubles, GroupedGap, Labels, Metric, Statistic, log_probabilities
from octavo.numbers.results import Interval, wilson

Key = TypeVar("Key")

STRATUM = 5
"""Images that every class must have to be resampled within itself."""
CHANCE = 0.01
"""Classes count as even where random labels would be as even with no more than this probability."""
FEW = 10
"""With fewer hits or misses than this a share of images gets Wilson's interval."""
_PARTS = 200  # of the images, whose weight is changed to see how much hangs on them
_STEP = 1e-4
_CELLS = 2_000_000
_STREAM = 0x0C7A  # keeps these draws apart from others made with the same seed


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of a set of images, the same for every statistic: a function of labels, replicates and seed alone."""

    labels: Labels
    """int [N]: the class of each image."""
    replicates: int = 2000
    seed: int = 0
    level: float = 0.95
    stratify: bool | None = None
    """Whether images are drawn within their class; `None`: where classes are even, with `STRATUM` images at least."""
    groups: Labels | None = None
    """int [N]: images with the same number are drawn together; never within classes."""

    def __post_init__(self) -> None:
        """Refuse an empty set and numbers out of range."""
        if len(self.labels) == 0 or self.replicates < 1 or not 0 < self.level < 1:
            raise ValueError(f"needs images, replicates and a level in (0,1): {len(self.labels)}, {self.replicates}")
        if self.groups is not None and (self.stratify or len(self.groups) != len(self.labels)):
            raise ValueError("groups go with images, one each, and are not drawn within classes")

    @cached_property
    def stratified(self) -> bool:
        """Whether images are drawn within their class."""
        if self.stratify is not None or self.groups is not None:
            return bool(self.stratify)
        counts = np.unique(self.labels, return_counts=True)[1]
        return len(counts) > 1 and int(counts.min()) >= STRATUM and _even(counts)

    @cached_property
    def units(self) -> int:
        """How many images there are, or groups of them, that are drawn as a whole."""
        return len(self.labels) if self.groups is None else len(np.unique(self.groups))

    @property
    def freedom(self) -> int:
        """Degrees of freedom of a resampled deviation: units less the sets that they are drawn from, 1 at least."""
        return max(1, self.units - (len(np.unique(self.labels)) if self.stratified else 1))

    @property
    def rule(self) -> str:
        """How intervals are made, as a sentence."""
        drawn = "within each class" if self.stratified else "from the whole set"
        what = "scored images" if self.groups is None else f"{self.units} groups of the scored images"
        return (
            f"Intervals: {100 * self.level:g} %, bootstrap of the {what}, {self.replicates} resamples drawn "
            f"{drawn}, seed {self.seed}; resampled bias and deviation with Student's t on the logit scale (losses: "
            f"logarithm), percentiles for differences; Wilson's interval for a share with fewer than {FEW} hits or "
            "misses; ECE's lower end is lowered by what noise adds. They leave out the spread between trainings."
        )

    def weights(self) -> Iterator[Doubles]:
        """Give how much each image counts in each resample, as float64 [r,N], some replicates at a time.

        In whole numbers, but where it is drawn within classes of different sizes.
        """
        strata, sizes = self._strata
        order = np.argsort(strata, kind="stable")
        size, start = np.repeat(sizes, sizes), np.repeat(np.cumsum(sizes) - sizes, sizes)
        # One less is drawn than there are, unless there is one alone.
        taken = (np.arange(self.units) > start) | (size == 1)
        size, start = size[taken], start[taken]
        each = (sizes / np.maximum(sizes - 1, 1))[strata] if np.ptp(sizes) else None
        random = np.random.default_rng((self.seed, _STREAM))
        rows = max(1, _CELLS // len(self.labels))
        for done in range(0, self.replicates, rows):
            r = min(rows, self.replicates - done)
            drawn = order[start + random.integers(0, size, size=(r, len(size)))]
            flat = (drawn + self.units * np.arange(r)[:, None]).ravel()
            weight = np.bincount(flat, minlength=r * self.units).reshape(r, self.units).astype(np.float64)
            if each is not None:
                weight *= each
            yield self._of_images(weight)

    @cached_property
    def _strata(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """From which set each unit is drawn, and how many units each set has."""
        strata = np.unique(self.labels, return_inverse=True)[1] if self.stratified else np.zeros(self.units, np.int64)
        return strata, np.bincount(strata)

    def _of_images(self, weight: Doubles) -> Doubles:
        """Return the weight of images [r,N] from that of units [r,U]."""
        return weight if self.groups is None else weight[:, np.unique(self.groups, return_inverse=True)[1]]

    def _tilts(self) -> Iterator[Doubles]:
        """Give weights [r,N] in which one part of the units has gained, at the cost of the sets they are from."""
        parts, (strata, sizes) = min(self.units, _PARTS), self._strata
        part = np.random.default_rng((self.seed, _STREAM, 1)).permutation(self.units) * parts // self.units
        lost = np.zeros((parts, len(sizes)))
        np.add.at(lost, (part, strata), 1)
        rows = max(1, _CELLS // len(self.labels))
        for first in range(0, parts, rows):
            chosen = np.arange(first, min(parts, first + rows))[:, None]
            yield self._of_images(1 + _STEP * ((part == chosen) - (lost / sizes)[chosen[:, 0]][:, strata]))

    def draw(
        self, statistics: Mapping[Key, Statistic], progress: Callable[[int, int], None] | None = None
    ) -> dict[Key, Draws]:
        """Return each statistic on the images and on all resamples, which are made once for all of them.

        `progress` is told how many resamples are done, and of how many.
        """
        done = 0
        values: dict[Key, list[Doubles]] = {key: [] for key in statistics}
        noise: dict[Key, list[Doubles]] = {key: [] for key, s in statistics.items() if isinstance(s, GroupedGap)}
        for weight in self.weights():
            for key, statistic in statistics.items():
                values[key].append(statistic(weight))
                if isinstance(statistic, GroupedGap):
                    noise[key].append(statistic.noise(weight))
            done += len(weight)
            if progress is not None:
                progress(done, self.replicates)
        at_all = {key: float(statistic(np.ones((1, len(self.labels))))[0]) for key, statistic in statistics.items()}
        tilted: dict[Key, list[Doubles]] = {key: [] for key in statistics if key not in noise}
        for weight in self._tilts():
            for key, own in tilted.items():
                own.append((statistics[key](weight) - at_all[key]) / _STEP)
        return {
            key: Draws(
                value,
                np.concatenate(values[key]),
                np.concatenate(noise[key]) if key in noise else None,
                np.concatenate(tilted[key]) if key in tilted else None,
            )
            for key, value in at_all.items()
        }

    def interval(self, draws: Draws, metric: Metric) -> Interval:
        """Return the interval of one metric (see the module for its rule)."""
        if metric.proportion:
            n = len(self.labels)
            hits = round(draws.value * n)
            if min(hits, n - hits) < FEW:
                return wilson(hits, n, self.level) if self.groups is None else self._few(draws.value)
        if draws.constant:
            return Interval(value=draws.value, low=None, high=None)
        if draws.noise is not None:
            low = max(0.0, draws.value - float(np.quantile(draws.noise, self.level)))
            return Interval(value=draws.value, low=low, high=max(draws.percentiles(self.level)[1], draws.value))
        freedom = draws.freedom(self.freedom) if metric.scale == "log" else self.freedom
        low, high = ends(draws, self.level, freedom, metric.scale)
        return Interval(value=draws.value, low=low, high=high)

    def _few(self, share: float) -> Interval:
        """Return Wilson's interval as if each group were one image."""
        found = wilson(round(share * self.units), self.units, self.level)
        assert found.low is not None and found.high is not None
        return Interval(value=share, low=min(found.low, share), high=max(found.high, share))

    def difference(self, a: Draws, b: Draws, *, same: bool = False, best_of: int = 1) -> Interval:
        """Return the interval of `a` less `b`, resample by resample; `same` says that both are one and the same system.

        Where `b` is the best of several by these very images, `best_of` widens it for so many comparisons (Bonferroni).
        Two different systems that never differ on these images have no interval: zero is not thereby certain.
        """
        gap = a - b
        if same:
            return Interval(value=0.0, low=0.0, high=0.0)
        if gap.constant:
            return Interval(value=gap.value, low=None, high=None)
        low, high = gap.percentiles(1 - (1 - self.level) / best_of, gap.freedom(self.freedom))
        return Interval(value=gap.value, low=low, high=high)


def group_ids(names: Sequence[str]) -> Labels | None:
    """Return a number for each image that is equal within a group, int64 [N]; an image without a name is alone.

    None where no image has a name.
    """
    if not any(names):
        return None
    own = [name or (i,) for i, name in enumerate(names)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(own))}
    return np.array([numbers[key] for key in own], np.int64)


def _even(counts: NDArray[np.int64]) -> bool:
    """Whether classes of these sizes [C] are more even than random labels would make them (chi-square, left tail)."""
    mean = counts.mean()
    return bool(((counts - mean) ** 2).sum() / mean <= chdtri(len(counts) - 1, 1 - CHANCE))


def interval(
    metric: Metric,
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    stratify: bool | None = None,
    groups: ArrayLike | None = None,
) -> Interval:
    """Return a metric of logits [N,C] against labels int [N], with its bootstrap interval."""
    boot = Bootstrap(_ids(labels), replicates, seed, level, stratify, None if groups is None else _ids(groups))
    statistic = metric.prepare(log_probabilities(logits), boot.labels)
    return boot.interval(boot.draw({0: statistic})[0], metric)


def paired(
    metric: Metric,
    a: ArrayLike,
    b: ArrayLike,
    labels: ArrayLike,
    *,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    stratify: bool | None = None,
    groups: ArrayLike | None = None,
) -> Interval:
    """Return the metric of logits `a` [N,C] less that of `b` [N,C], with the interval of the difference."""
    boot = Bootstrap(_ids(labels), replicates, seed, level, stratify, None if groups is None else _ids(groups))
    first, second = log_probabilities(a), log_probabilities(b)
    draws = boot.draw({0: metric.prepare(first, boot.labels), 1: metric.prepare(second, boot.labels)})
    return boot.difference(draws[0], draws[1], same=same_system(first, second))


def same_system(a: Doubles, b: Doubles) -> bool:
    """Whether two sets of log-probabilities [N,C] are one system's, up to rounding."""
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-9, atol=1e-9))


def _ids(labels: ArrayLike) -> NDArray[np.int64]:
    return np.asarray(labels, np.int64)
