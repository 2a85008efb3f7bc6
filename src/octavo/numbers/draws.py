"""A statistic's values on resamples, and the ends of intervals that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, stdtrit

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """A statistic on the images as they are, and on each resample [R]."""

    value: float
    replicates: Doubles
    noise: Doubles | None = None
    """[R]: bounds on the distance from the true value, for a statistic that noise raises (`GroupedGap`)."""
    influence: Doubles | None = None
    """[K]: how the value moves as each of K even parts of the images gains weight, summing to zero."""

    def __sub__(self, other: Draws) -> Draws:
        """Return the paired difference: resample by resample."""
        ours, theirs = self.influence, other.influence
        influence = None if ours is None or theirs is None else ours - theirs
        return Draws(self.value - other.value, self.replicates - other.replicates, influence=influence)

    def percentiles(self, level: float, freedom: float | None = None) -> tuple[float, float]:
        """Return the ends between which the middle `level` of the resampled values lies.

        With `freedom` the middle is widened as Student's quantile is wider than the normal one.
        """
        if freedom is not None:
            level = 2 * float(ndtr(stdtrit(freedom, (1 + level) / 2))) - 1
        low, high = np.quantile(self.replicates, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    @property
    def constant(self) -> bool:
        """Whether every resample gave the same value, up to rounding."""
        return float(np.ptp(self.replicates)) < 1e-12

    def freedom(self, most: int) -> float:
        """Return for how many degrees of freedom the deviation of resampled values counts (Satterthwaite 1946).

        2 / (2/`most` + k/K), with k the excess kurtosis of the influence of K parts: where all hangs on a few images,
        as on those that two systems tell apart, there are few degrees. `most` are those of evenly noisy images.
        """
        influence = self.influence
        if influence is None or not influence.any():
            return most
        parts = len(influence)
        excess = max(0.0, parts * float((influence**4).sum()) / float((influence**2).sum()) ** 2 - 3)
        return max(1.0, 2 / (2 / most + excess / parts))


def ends(draws: Draws, level: float, freedom: float, scale: str) -> tuple[float, float]:
    """Return the ends of an interval of this level: value less resampled bias, ± t times the resampled deviation.

    Args:
        draws: of a statistic whose resamples are not all equal.
        level: in (0,1).
        freedom: of Student's t.
        scale: where the ends are taken: `logit`, or `log` of what is above zero. A value outside of it stays as it is.
    """
    value, t = draws.value, float(stdtrit(freedom, (1 + level) / 2))
    half = t * float(draws.replicates.std(ddof=1))
    centre = 2 * value - float(draws.replicates.mean())
    if scale == "logit" and 0 < value < 1:
        # However large the bias, no further than half of the way to the bound.
        centre = min(max(centre, value / 2), (1 + value) / 2)
        middle, half = float(logit(centre)), half / (centre * (1 - centre))
        low, high = float(expit(middle - half)), float(expit(middle + half))
    elif scale == "log" and value > 0:
        centre = max(centre, value / 2)
        low, high = centre * np.exp(-half / centre), centre * np.exp(min(half / centre, 700.0))
    else:
        low, high = centre - half, centre + half
    return min(float(low), value), max(float(high), value)
