"""Which of several systems are worth their cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pareto(cost: ArrayLike, gain: ArrayLike) -> NDArray[np.bool_]:
    """Return which systems no other one beats: as cheap and better, or as good and cheaper, bool [S].

    Args:
        cost: [S], the lower the better.
        gain: [S], the higher the better.
    """
    x, y = np.asarray(cost, np.float64), np.asarray(gain, np.float64)
    no_worse = (x <= x[:, None]) & (y >= y[:, None])
    better = (x < x[:, None]) | (y > y[:, None])
    return np.logical_not((no_worse & better).any(axis=1))
