"""Intervals by resampling images (Efron 1979): of one metric, and of the difference of two systems on the same images.

Images are drawn with replacement within each class where every class has at least `STRATUM` of them, otherwise from the
whole set: within a class of k images resampling understates the variance by the factor (k-1)/k. Ends are percentiles of
the resampled values, but for three cases in which percentiles claim too much:

- A share of images (accuracy, top-5) with fewer than ten hits or misses gets Wilson's interval, as resampling a perfect
  score gives the same perfect score each time.
- Another metric, or a difference, with the same value in every resample has no interval: its ends are `None`.
- The ECE is raised by noise alone, and resampling adds noise. Its lower end is the value less the `level` quantile of
  how far the resampled bins lie from the scored ones, or 0; its upper end is the percentile. In 300 simulations each
  of well-calibrated models on 2,500, 360 and 60 images, this held the true value in 96 %, 93 % and 87 %; plain
  percentiles did in none of those on 2,500 and 360.

What is resampled is the scored images; the spread between trainings with another seed is not in any of these intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from octavo.numbers.metrics import Doubles, GroupedGap, Labels, Metric, Statistic, log_probabilities
from octavo.numbers.results import Interval, wilson

Key = TypeVar("Key")

STRATUM = 20
"""Images that every class must have to be resampled within itself."""
FEW = 10
"""With fewer hits or misses than this a share of images gets Wilson's interval."""
_CELLS = 2_000_000
_STREAM = 0x0C7A  # keeps these draws apart from others made with the same seed


@dataclass(frozen=True)
class Draws:
    """A statistic on the images as they are, and on each resample [R]."""

    value: float
    replicates: Doubles
    noise: Doubles | None = None
    """[R]: bounds on the distance from the true value, for a statistic that noise raises (`GroupedGap`)."""

    def __sub__(self, other: Draws) -> Draws:
        """Return the paired difference: resample by resample."""
        return Draws(self.value - other.value, self.replicates - other.replicates)

    def percentiles(self, level: float) -> tuple[float, float]:
        """Return the ends between which the middle `level` of the resampled values lies."""
        low, high = np.quantile(self.replicates, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    @property
    def constant(self) -> bool:
        """Whether every resample gave the same value, up to rounding."""
        return float(np.ptp(self.replicates)) < 1e-12


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of a set of images, the same for every statistic: a function of labels, replicates and seed alone."""

    labels: Labels
    """int [N]: the class of each image."""
    replicates: int = 2000
    seed: int = 0
    level: float = 0.95
    stratify: bool | None = None
    """Whether images are drawn within their class; `None`: where every class has `STRATUM` images."""

    def __post_init__(self) -> None:
        """Refuse an empty set and numbers out of range."""
        if len(self.labels) == 0 or self.replicates < 1 or not 0 < self.level < 1:
            raise ValueError(f"needs images, replicates and a level in (0,1): {len(self.labels)}, {self.replicates}")

    @cached_property
    def stratified(self) -> bool:
        """Whether images are drawn within their class."""
        if self.stratify is not None:
            return self.stratify
        return int(np.unique(self.labels, return_counts=True)[1].min()) >= STRATUM

    @property
    def rule(self) -> str:
        """How intervals are made, as a sentence."""
        drawn = "within each class" if self.stratified else "from the whole set"
        return (
            f"Intervals: {100 * self.level:g} %, bootstrap of the scored images, {self.replicates} resamples drawn "
            f"{drawn}, seed {self.seed}, percentiles; Wilson's interval for a share with fewer than {FEW} hits or "
            "misses; ECE's lower end is lowered by what noise adds. They leave out the spread between trainings."
        )

    def weights(self) -> Iterator[Doubles]:
        """Give how often each image is in each resample, as float64 [r,N], some replicates at a time."""
        n = len(self.labels)
        order, start, size = np.arange(n), np.zeros(n, np.int64), np.full(n, n)
        if self.stratified:
            order = np.argsort(self.labels, kind="stable")
            _, first, counts = np.unique(self.labels[order], return_index=True, return_counts=True)
            start, size = np.repeat(first, counts), np.repeat(counts, counts)
        random = np.random.default_rng((self.seed, _STREAM))
        rows = max(1, _CELLS // n)
        for done in range(0, self.replicates, rows):
            r = min(rows, self.replicates - done)
            images = order[start + random.integers(0, size, size=(r, n))]
            flat = (images + n * np.arange(r)[:, None]).ravel()
            yield np.bincount(flat, minlength=r * n).reshape(r, n).astype(np.float64)

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
        ones = np.ones((1, len(self.labels)))
        return {
            key: Draws(
                float(statistic(ones)[0]),
                np.concatenate(values[key]),
                np.concatenate(noise[key]) if key in noise else None,
            )
            for key, statistic in statistics.items()
        }

    def interval(self, draws: Draws, metric: Metric) -> Interval:
        """Return the interval of one metric (see the module for its rule)."""
        n = len(self.labels)
        if metric.proportion:
            hits = round(draws.value * n)
            if min(hits, n - hits) < FEW:
                return wilson(hits, n, self.level)
        if draws.constant:
            return Interval(value=draws.value, low=None, high=None)
        low, high = draws.percentiles(self.level)
        if draws.noise is not None:
            low = max(0.0, draws.value - float(np.quantile(draws.noise, self.level)))
            high = max(high, draws.value)
        return Interval(value=draws.value, low=low, high=high)

    def difference(self, a: Draws, b: Draws, *, same: bool = False) -> Interval:
        """Return the interval of `a` less `b`, resample by resample; `same` says that both are one and the same system.

        Two different systems that never differ on these images have no interval: zero is not thereby certain.
        """
        gap = a - b
        if same:
            return Interval(value=0.0, low=0.0, high=0.0)
        if gap.constant:
            return Interval(value=gap.value, low=None, high=None)
        low, high = gap.percentiles(self.level)
        return Interval(value=gap.value, low=low, high=high)


def interval(
    metric: Metric,
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    stratify: bool | None = None,
) -> Interval:
    """Return a metric of logits [N,C] against labels int [N], with its bootstrap interval."""
    boot = Bootstrap(_ids(labels), replicates, seed, level, stratify)
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
) -> Interval:
    """Return the metric of logits `a` [N,C] less that of `b` [N,C], with the interval of the difference."""
    boot = Bootstrap(_ids(labels), replicates, seed, level, stratify)
    first, second = log_probabilities(a), log_probabilities(b)
    draws = boot.draw({0: metric.prepare(first, boot.labels), 1: metric.prepare(second, boot.labels)})
    return boot.difference(draws[0], draws[1], same=same_system(first, second))


def same_system(a: Doubles, b: Doubles) -> bool:
    """Whether two sets of log-probabilities [N,C] are one system's, up to rounding."""
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-9, atol=1e-9))


def _ids(labels: ArrayLike) -> NDArray[np.int64]:
    return np.asarray(labels, np.int64)
