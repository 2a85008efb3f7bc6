"""Power against simulated tests and by hand, and the baseline of uneven classes."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.stats import binomtest

from octavo.numbers.compare import fourfold, mcnemar
from octavo.numbers.grade import class_results
from octavo.numbers.power import (
    approximate_difference,
    beats_commonest,
    detection,
    images_needed,
    majority_warning,
    members_below_majority,
    power_sentence,
    smallest_difference,
    uneven,
)
from octavo.numbers.results import ClassResult, Interval, wilson


@pytest.mark.parametrize(("n", "disagreement", "difference"), [(50, 0.3, 0.2), (200, 0.1, 0.06), (400, 0.2, 0.05)])
def test_detection_is_what_simulated_tests_find(n: int, disagreement: float, difference: float) -> None:
    random = np.random.default_rng(n)
    found, sets = 0, 2000
    p: dict[tuple[int, int], float] = {}
    for _ in range(sets):
        draw = random.random(n)
        first = draw < (disagreement + difference) / 2
        second = (draw >= (disagreement + difference) / 2) & (draw < disagreement)
        table = fourfold(first, second)
        key = (table.first_only, table.second_only)
        if key not in p:
            p[key] = mcnemar(table)
        found += p[key] < 0.05 and key[0] > key[1]
    expected = detection(n, disagreement, difference)
    assert found / sets == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / sets))


def test_detection_by_hand() -> None:
    # Five discordant images, all one way, give p = .0625; six give p = .03125.
    assert binomtest(0, 5).pvalue > 0.05 > binomtest(0, 6).pvalue
    assert detection(5, 1.0, 1.0) == 0 and detection(6, 1.0, 1.0) == pytest.approx(1)
    assert detection(6, 0.5, 0.5) == pytest.approx(0.5**6)
    # Without a difference either verdict comes as often as the test errs, by half.
    assert detection(1000, 0.3, 0.0) == pytest.approx(0.025, abs=0.005)
    assert detection(1000, 0.3, 0.0) < 0.025


def test_smallest_difference_is_found_just_so_often() -> None:
    for n, disagreement in ((100, 0.3), (2500, 0.1), (50, 0.5), (1_000_000, 0.05)):
        found = smallest_difference(n, disagreement)
        assert 0 < found <= disagreement
        assert detection(n, disagreement, found) == pytest.approx(0.8, abs=1e-4)
        assert smallest_difference(n, disagreement, power=0.9) > found
    start = time.perf_counter()
    smallest_difference(1_000_000, 0.2)
    assert time.perf_counter() - start < 5


def test_the_normal_approximation_joins_the_exact_test_with_many_images() -> None:
    for n, disagreement in ((10_000, 0.1), (50_000, 0.3)):
        exact, normal = smallest_difference(n, disagreement), approximate_difference(n, disagreement)
        assert normal < exact < 1.06 * normal
    # Miettinen's formula solved for n gives n back.
    x = approximate_difference(300, 0.2)
    assert (1.959964 * math.sqrt(0.2) + 0.841621 * math.sqrt(0.2 - x * x)) ** 2 / x**2 == pytest.approx(300, rel=1e-5)


def test_fifty_images_and_ten_percent() -> None:
    assert approximate_difference(50, 0.1) == pytest.approx(0.12, abs=0.005)
    assert math.isinf(smallest_difference(50, 0.1))
    assert images_needed(0.1) == 78
    assert detection(78, 0.1, 0.1) >= 0.8 > detection(77, 0.1, 0.1)
    said = power_sentence(50, 0.1)
    for part in ("50 images", "10 % of them", "cannot be told apart at 80 % power", "10 points at most", "38 % of",
                 "78 images", "about 12 points"):  # fmt: skip
        assert part in said
    said = power_sentence(2500, 0.1)
    assert said.startswith(
        "With 2,500 images, two models of which one alone is right on 10 % of them must differ by about"
    )
    assert f"about {100 * smallest_difference(2500, 0.1):.2g} points" in said and "independent images" in said


@pytest.mark.parametrize("bad", [(0, 0.1, 0.1), (10, 0.0, 0.0), (10, 0.1, 0.2), (10, 1.2, 0.1), (10, 0.1, -0.1)])
def test_impossible_settings(bad: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="needs n"):
        detection(*bad)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([50, 50], False), ([30, 20], False), ([31, 20], True), ([10, 0, 10], False), ([5], False), ([0, 0], False)],
)
def test_uneven(counts: list[int], expected: bool) -> None:
    assert uneven(counts) is expected


def classes(*hits: tuple[int, int]) -> tuple[ClassResult, ...]:
    """Return results of classes from (recognised, images) each."""
    truth = np.repeat(np.arange(len(hits)), [n for _, n in hits])
    said = np.concatenate([np.repeat([i, (i + 1) % len(hits)], [k, n - k]) for i, (k, n) in enumerate(hits)])
    return class_results(said, truth, [f"c{i}" for i in range(len(hits))])


def test_majority_warning() -> None:
    assert majority_warning(classes((48, 50), (47, 50)), wilson(95, 100)) is None
    said = majority_warning(classes((78, 80), (17, 20)), wilson(95, 100))
    assert said and "uneven (20 to 80 images)" in said and "scores 0.8000" in said and "balanced accuracy" in said
    said = majority_warning(classes((75, 80), (7, 20)), wilson(82, 100))
    assert said and "0.8200 is not clearly above it" in said
    said = majority_warning(classes((26, 50), (26, 50)), wilson(52, 100))
    assert said and said.startswith("always naming the commonest class scores 0.5000")
    none = Interval(value=0.9, low=None, high=None)
    assert majority_warning(classes((45, 50), (45, 50)), none) is not None
    assert majority_warning(classes((95, 100), (0, 0)), wilson(95, 100)) is None
    said = majority_warning(classes((0, 98), (2, 2)), wilson(2, 100))
    assert said and "accuracy 0.0200 is worse than always naming the commonest class (0.9800)" in said
    assert "worse" not in (majority_warning(classes((98, 98), (0, 2)), wilson(98, 100)) or "")


def test_members_below_the_commonest_class_are_named() -> None:
    said = members_below_majority([98, 2], {"a": 0.02, "b": 0.98, "c": 0.97, "d": 1.0})
    assert said == "worse than always naming the commonest class (0.9800): accuracy of a 0.0200, c 0.9700"
    assert members_below_majority([98, 2], {"a": 0.98}) is None
    assert members_below_majority([0, 0], {"a": 0.0}) is None


def test_four_of_four_images_are_not_surely_better_than_one_class() -> None:
    """Failed before: Wilson's interval of 4 of 4 begins at .51, above the .5 of the commonest class."""
    four = classes((2, 2), (2, 2))
    assert wilson(4, 4).low > 0.5  # type: ignore[operator]
    assert not beats_commonest(four, wilson(4, 4))
    said = majority_warning(four, wilson(4, 4))
    assert said and "is not clearly above it" in said
    assert not beats_commonest(classes((5, 5), (5, 5)), wilson(10, 10))  # 5 of 5 on which they differ: p = .0625
    assert beats_commonest(classes((6, 6), (6, 6)), wilson(12, 12))  # 6 of 6: .031
