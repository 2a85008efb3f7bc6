"""The exact test of paired images, against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from octavo.numbers.exact import SURE, paired_p, sign_test


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (4, 0), (0, 4), (6, 0), (9, 2), (30, 30), (61, 39)])
def test_p_is_twice_the_smaller_tail(wins: int, losses: int) -> None:
    tail = binom.cdf(min(wins, losses), wins + losses, 0.5)
    assert sign_test(wins, losses) == pytest.approx(min(1.0, 2 * tail))


def test_fewer_than_six_images_are_never_sure() -> None:
    assert sign_test(4, 0) == 0.125
    assert [n for n in range(20) if sign_test(n, 0) < SURE] == list(range(6, 20))


def test_ties_do_not_count() -> None:
    first = np.array([1, 1, 1, 1, 0, 1, 0], bool)
    second = np.array([0, 0, 0, 1, 0, 1, 1], bool)
    assert paired_p(first, second) == sign_test(3, 1)
    assert paired_p([3.0, 2.0, 5.0], [1.0, 1.0, 1.0]) == sign_test(3, 0)
