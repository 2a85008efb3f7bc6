"""The limit of near-duplicates follows how alike the unrelated images of the data are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import truncexpon

from octavo.leaks.limit import SMALLEST, _rate, residual_limit

LARGEST, WIDTH = 0.35, 0.22
COPIES = np.linspace(0, 0.1, 20)


def unrelated(scale: float, seed: int = 0) -> np.ndarray:
    """Residuals whose density falls by e for each `scale` towards 0."""
    return np.clip(1 - np.random.default_rng(seed).exponential(scale, 20_000), 0, 1)


def test_data_whose_images_differ_widely_have_the_largest_limit() -> None:
    assert residual_limit(COPIES, LARGEST) == LARGEST
    assert residual_limit(np.concatenate([COPIES, unrelated(0.04)]), LARGEST) == LARGEST
    assert residual_limit(np.empty(0), LARGEST) == LARGEST


@pytest.mark.parametrize("scale", [0.06, 0.07, 0.08])
def test_of_images_that_look_alike_few_are_taken_for_copies(scale: float) -> None:
    limits, wrong = [], []
    for seed in range(20):
        others = unrelated(scale, seed)
        limits.append(residual_limit(np.concatenate([COPIES, others]), LARGEST))
        wrong.append(int((others <= limits[-1]).sum()))
    assert SMALLEST <= np.mean(limits) < LARGEST and np.mean(wrong) <= 0.05 * len(COPIES) + 0.5


@pytest.mark.parametrize("scale", [0.02, 0.06, 0.2])
def test_the_rate_is_that_of_a_maximum_likelihood_fit(scale: float) -> None:
    drawn = truncexpon.rvs(WIDTH / scale, scale=scale, size=20_000, random_state=1)
    grid = np.geomspace(0.01, 1, 300)
    likeliest = grid[np.argmax([truncexpon.logpdf(drawn, WIDTH / s, scale=s).sum() for s in grid])]
    assert 1 / _rate(float(drawn.mean()), WIDTH) == pytest.approx(likeliest, rel=0.03)


def test_tails_that_no_exponential_fits_are_cut() -> None:
    assert residual_limit(np.full(50, 0.41), LARGEST) == SMALLEST
    assert residual_limit(np.full(50, 0.6), LARGEST) == LARGEST
