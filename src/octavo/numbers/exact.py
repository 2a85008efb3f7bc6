"""Exact tests on the images that one of two systems alone gets right: what "surely better" goes by."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

SURE = 0.05
"""A p below this is what messages call sure."""


def sign_test(wins: int, losses: int) -> float:
    """Return the exact two-sided p of so uneven a split of the images on which two systems differ.

    It is the binomial distribution's under a fair coin, as in McNemar's test (Psychometrika 12, 1947); 1 where they
    differ on none. Four wins and no loss are .125, six are .031: fewer than six images never make anything sure.
    """
    differing = wins + losses
    return float(binomtest(wins, differing, 0.5).pvalue) if differing else 1.0


def paired_p(first: ArrayLike, second: ArrayLike) -> float:
    """Return `sign_test` of numbers of two systems on the same images, [n] each: more is better."""
    gap = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    return sign_test(int((gap > 0).sum()), int((gap < 0).sum()))
