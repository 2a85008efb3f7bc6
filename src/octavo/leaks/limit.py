"""Decision limit of near-duplicates: how much two may differ, set by how alike unrelated images of the data are."""

from __future__ import annotations

import numpy as np
from scipy.optimize import root_scalar

SMALLEST = 0.15
"""Residual up to which any pair counts as a near-duplicate."""
_TAIL = (0.03, 0.25)  # above the largest limit: where unrelated images are counted
_FEWEST = 10
_FALSE = 0.03


def residual_limit(residuals: np.ndarray, largest: float) -> float:
    """Return the largest residual of a near-duplicate, given those of all pairs that were laid over each other.

    Pairs with residuals in the tail of the unrelated ones are counted, and an exponential distribution fitted to them
    says how many unrelated pairs to expect below a limit. It is lowered until these are 3 % of what is found.

    Args:
        residuals: float [n], 0–1, those of unrelated images included.
        largest: where no unrelated images look alike.
    """
    low, high = (largest + part for part in _TAIL)
    depth = high - residuals[(residuals > low) & (residuals <= high)]
    if len(depth) < _FEWEST:
        return largest
    rate = _rate(float(depth.mean()), high - low)
    inside = -np.expm1(-rate * (high - low))
    for limit in np.arange(largest, SMALLEST, -0.01):
        expected = len(depth) / inside * (np.exp(-rate * (high - limit)) - np.exp(-rate * high))
        if expected <= _FALSE * max(1, int((residuals <= limit).sum())):
            return float(limit)
    return SMALLEST


def _rate(mean: float, width: float) -> float:
    """Return the rate of an exponential distribution cut at `width` from its mean (maximum likelihood)."""

    def excess(rate: float) -> float:
        return 1 / rate - width / np.expm1(rate * width) - mean

    ends = 1e-3 / width, 500 / width
    if excess(ends[0]) <= 0:
        return ends[0]
    return float(root_scalar(excess, bracket=ends).root) if excess(ends[1]) < 0 else ends[1]
