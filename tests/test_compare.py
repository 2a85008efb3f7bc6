"""The statistics of comparisons, against formulas written out here and SciPy."""

from __future__ import annotations

from itertools import permutations
from math import comb

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import bootstrap as scipy_bootstrap

from octavo.errors import UserError
from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.compare import (
    FEWEST,
    bootstrap_p,
    compare_answers,
    compare_masks,
    fourfold,
    holm,
    mcnemar,
    replicates_for,
)
from octavo.numbers.compare_results import Fourfold
from octavo.numbers.draws import Draws
from octavo.numbers.grade_masks import interval_of
from octavo.numbers.results import Interval
from octavo.numbers.rules import RULES
from octavo.pictures.compare import Gap, class_sides, runs_and_gaps


def table(first_only: int, second_only: int) -> Fourfold:
    return Fourfold(both=10, first_only=first_only, second_only=second_only, neither=3)


@pytest.mark.parametrize(("b", "c"), [(0, 1), (1, 8), (5, 5), (10, 2), (30, 55), (150, 86), (0, 12)])
def test_mcnemars_exact_p_is_twice_the_binomial_tail(b: int, c: int) -> None:
    # statsmodels.stats.contingency_tables.mcnemar(exact=True): twice the lower tail at the smaller count, at most 1.
    tail = sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert mcnemar(table(b, c)) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)
    assert mcnemar(table(c, b)) == pytest.approx(mcnemar(table(b, c)))


def test_mcnemar_without_discordant_images_and_with_very_many() -> None:
    assert mcnemar(table(0, 0)) == 1.0
    # Of many the chi-square with continuity correction is close: (|b-c|-1)²/(b+c), one degree of freedom.
    from scipy.stats import chi2

    assert mcnemar(table(5200, 5000)) == pytest.approx(chi2.sf(199**2 / 10200, 1), rel=0.01)
    assert 0 < mcnemar(table(600, 100)) < 1e-80  # not rounded to zero


def test_fourfold_counts_every_image_once() -> None:
    first, second = np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 1, 0, 0], bool)
    assert fourfold(first, second) == Fourfold(both=1, first_only=2, second_only=1, neither=1)


def test_holm_steps_down() -> None:
    values = [0.01, 0.04, 0.03, 0.005]
    # statsmodels.stats.multitest.multipletests(method="holm"): the running maximum of sorted p × (m, m-1, … 1), ≤ 1.
    order = np.argsort(values)
    expected = np.minimum(np.maximum.accumulate(np.sort(values) * np.arange(4, 0, -1)), 1)
    assert np.array(holm(values), float)[order] == pytest.approx(expected)
    assert holm(values) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.7, 0.8]) == (1.0, 1.0)
    assert holm([0.04]) == (0.04,)
    for turned in permutations(range(4)):
        assert holm([values[i] for i in turned]) == tuple(holm(values)[i] for i in turned)


def test_holm_counts_a_pair_that_cannot_be_tested() -> None:
    assert holm([None, 0.02]) == (None, 0.04)


def test_a_bootstrap_p_is_small_just_where_the_interval_leaves_out_zero() -> None:
    random = np.random.default_rng(3)
    for shift in np.linspace(-3, 3, 41):
        drawn = random.normal(shift, 1, 1999)
        low, high = np.quantile(drawn, [0.025, 0.975])
        p = bootstrap_p(drawn, 0.95)
        assert p is not None
        if abs(low) > 0.02 and abs(high) > 0.02:  # an end at zero may fall either way
            assert (p < 0.05) == (low > 0 or high < 0)
    assert bootstrap_p(np.full(999, 0.3), 0.95) is None  # nothing varies
    assert bootstrap_p(np.zeros(999), 0.95) == 1.0
    assert bootstrap_p(np.full(9, np.nan), 0.95) is None
    assert bootstrap_p(np.linspace(1, 2, 999), 0.95) == pytest.approx(2 / 1000)


def test_a_bootstrap_p_goes_with_the_interval_widened_for_few_images() -> None:
    drawn = np.random.default_rng(4).normal(2.2, 1, 19_999)
    for freedom in (5, 14, 200):
        p = bootstrap_p(drawn, 0.95, freedom)
        assert p is not None and p > bootstrap_p(drawn, 0.95)  # pyright: ignore[reportOperatorIssue]
        low, _ = Draws(2.2, drawn).percentiles(1 - p, freedom)
        assert low == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("without", [0, 40, 50, 60, 500])
def test_a_bootstrap_p_is_there_just_where_an_interval_is(without: int) -> None:
    drawn = np.linspace(1, 2, 1000)
    drawn[:without] = np.nan
    found = interval_of(1.5, drawn, 0.95, 59, difference=True)
    assert found is not None and (found.low is None) == (bootstrap_p(drawn, 0.95) is None) == (without > 50)


def some_answers(n: int = 1200, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three runs: right [3,n] and labels [n]; the third hardly differs from the first."""
    random = np.random.default_rng(seed)
    labels, ease = random.integers(0, classes, n), random.uniform(0, 1, n)
    first, second = ease > 0.3, ease + random.normal(0, 0.1, n) > 0.38
    third = first.copy()
    third[np.flatnonzero(first)[:4]], third[np.flatnonzero(~first)[:3]] = False, True
    return np.stack([first, second, third]), labels


def test_differences_of_classifiers_against_formulas() -> None:
    right, labels = some_answers()
    n = len(labels)
    members = [{"poor": np.zeros(n, bool), "same": flags} for flags in right]
    found = compare_answers("abc", right, members, labels, "wxyz", Bootstrap(labels))
    assert [(p.first, p.second) for p in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    chances = [mcnemar(fourfold(right[i], right[j])) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert [p.p for p in found.pairs] == chances
    assert [p.p_holm for p in found.pairs] == list(holm(chances))
    assert [p.told_apart for p in found.pairs] == [True, False, True]
    for pair, (i, j) in zip(found.pairs, ((0, 1), (0, 2), (1, 2)), strict=True):
        b, c = np.count_nonzero(right[i] & ~right[j]), np.count_nonzero(right[j] & ~right[i])
        assert pair.difference.value == pytest.approx(right[i].mean() - right[j].mean())
        # The normal interval of a difference of paired shares (Fleiss).
        half = 1.96 * np.sqrt(b + c - (b - c) ** 2 / n) / n
        assert pair.difference.low is not None and pair.difference.high is not None
        assert pair.difference.low == pytest.approx(pair.difference.value - half, abs=0.15 * half + 1e-3)
        assert pair.difference.high == pytest.approx(pair.difference.value + half, abs=0.15 * half + 1e-3)
    for place, sides in enumerate(found.per_class):
        own = labels == place
        assert sides.images == own.sum()
        assert sides.values == pytest.approx([flags[own].mean() for flags in right], abs=1e-9)
    assert [b.name for b in found.best] == ["same"] * 3
    assert [h.value for h in found.headlines] == pytest.approx(right.mean(axis=1), abs=1e-9)


def test_holm_can_undo_a_verdict() -> None:
    # Alone, 16 against 5 images have p = 0.027; as one of three pairs it isn't small enough.
    right = np.ones((3, 200), bool)
    right[1, :16], right[0, 16:21], right[2, 16:20] = False, False, False
    labels = np.zeros(200, np.int64)
    pair = compare_answers("ab", right[:2], [{"m": r} for r in right[:2]], labels, "x", Bootstrap(labels)).pairs[0]
    assert pair.p is not None and 0.02 < pair.p < 0.03 and pair.told_apart
    three = compare_answers("abc", right, [{"m": r} for r in right], labels, "x", Bootstrap(labels)).pairs
    assert not three[0].told_apart and three[0].p == pair.p


def test_equal_classifiers_have_no_interval_and_p_one() -> None:
    right, labels = some_answers()
    both = np.stack([right[0], right[0]])
    pair = compare_answers("ab", both, [{"m": r} for r in both], labels, "wxyz", Bootstrap(labels)).pairs[0]
    assert pair.difference == Interval(value=0, low=None, high=None)
    assert pair.p == 1 and not pair.told_apart


def some_confusions(n: int, seed: int, hit: float) -> np.ndarray:
    """int64 [n,4,4] of three classes and none: truth equal for equal seeds, the share of hits as given."""
    random = np.random.default_rng(seed)
    truth = random.integers(50, 400, (n, 3))
    skill = np.clip(hit + np.random.default_rng((seed, int(1000 * hit))).normal(0, 0.05, (n, 3)), 0, 1)
    counts = np.zeros((n, 4, 4), np.int64)
    for i in range(3):
        counts[:, i, i] = (skill[:, i] * truth[:, i]).astype(int)
        counts[:, i, (i + 1) % 3] = truth[:, i] - counts[:, i, i]
    return counts


def plain_miou(counts: np.ndarray) -> float:
    total = counts.sum(axis=0)[:3, :3]
    return float(np.mean([total[i, i] / (total[i].sum() + total[:, i].sum() - total[i, i]) for i in range(3)]))


def test_differences_of_segmenters_against_scipys_paired_bootstrap() -> None:
    n = 60
    both = [some_confusions(n, 1, 0.8), some_confusions(n, 1, 0.78)]
    boot = Bootstrap(np.zeros(n, np.int64), stratify=False)
    found = compare_masks("ab", both, "xyz", np.ones(3, bool), RULES["voc"], boot)
    assert [h.value for h in found.headlines] == pytest.approx([plain_miou(c) for c in both], abs=1e-9)

    def difference(rows: np.ndarray) -> float:
        return plain_miou(both[0][rows.astype(int)]) - plain_miou(both[1][rows.astype(int)])

    drawn = scipy_bootstrap((np.arange(n),), difference, n_resamples=2000, method="percentile", vectorized=False,
                            rng=np.random.default_rng(9))  # fmt: skip
    ours, theirs = found.pairs[0].difference, drawn.confidence_interval
    assert ours.value == pytest.approx(difference(np.arange(n)), abs=1e-9)
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.12 * width)
    p = 2 * min(np.mean(drawn.bootstrap_distribution <= 0), np.mean(drawn.bootstrap_distribution >= 0))
    assert found.pairs[0].p == pytest.approx(p, abs=0.02)
    assert found.per_class[0].images == n and found.pairs[0].fourfold is None


def test_segmenters_are_not_tested_on_a_handful_of_images() -> None:
    def one(n: int):
        both = [some_confusions(n, 2, 0.9), some_confusions(n, 2, 0.3)]
        boot = Bootstrap(np.zeros(n, np.int64), stratify=False)
        return compare_masks("ab", both, "xyz", np.ones(3, bool), RULES["voc"], boot).pairs[0]

    assert one(FEWEST - 1).p is None and not one(FEWEST - 1).told_apart
    assert one(FEWEST).told_apart
    assert one(1).difference.low is None


def test_a_rule_without_a_number_is_told() -> None:
    counts = some_confusions(12, 3, 0.9)
    counts[:, 2], counts[:, :, 2] = 0, 0
    boot = Bootstrap(np.zeros(12, np.int64), stratify=False)
    with pytest.raises(UserError, match=r'rule "voc" has no number.*mmsegmentation'):
        compare_masks("ab", [counts, counts], "xyz", np.ones(3, bool), RULES["voc"], boot)
    found = compare_masks("ab", [counts, counts], "xyz", np.ones(3, bool), RULES["mmsegmentation"], boot)
    assert found.per_class[2].values == (None, None) and found.per_class[2].spread == 0


def test_many_pairs_need_many_resamples() -> None:
    assert [replicates_for(k) for k in (2, 3, 5)] == [2000, 6000, 20_000]
    for runs in range(2, 40):  # the smallest p can still be told apart, were all other pairs as clear
        assert 2 / (replicates_for(runs) + 1) * runs * (runs - 1) / 2 < 0.05 or runs > 32


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for axes in figure.axes for t in (axes.xaxis.label, *axes.get_yticklabels())]


def an_interval(value: float) -> Interval:
    return Interval(value=value, low=value - 0.02, high=value + 0.02)


def test_figure_of_runs() -> None:
    names = [f"run$_{i}" for i in range(12)]
    values = [an_interval(0.5 + i / 100) for i in range(12)]
    gaps = [Gap("a − b", an_interval(0.01), False), Gap("a − c", Interval(value=0.1, low=None, high=None), True)]
    figure = runs_and_gaps(names, values, gaps, "accuracy", values)
    below = figure.axes[1]
    assert "accuracy [%]" in texts(figure) and r"run\$_0" in texts(figure)
    assert "percentage points" in below.get_xlabel()
    hollow = [line.get_markerfacecolor() for line in below.lines if line.get_marker() == "o"]
    assert hollow[0] == "white" and hollow[1] != "white"
    legend = figure.legends[0].get_texts()
    assert [t.get_text() for t in legend] == ["ensemble", "best member"]
    figure.draw_without_rendering()
    with pytest.raises(ValueError, match="value for each run"):
        runs_and_gaps(names, values[:3], gaps, "accuracy")


def test_figure_of_classes() -> None:
    values = np.array([[0.2, np.nan, 0.9], [0.4, np.nan, 0.8]])
    figure = class_sides(["x", "y" * 90, "z"], ["one", "two"], values, "IoU", [5, 0, 1200])
    shown = texts(figure)
    assert "IoU [%]" in shown and "z (1,200)" in shown and max(map(len, shown)) < 45
    assert len(figure.legends[0].get_texts()) == 2
    figure.draw_without_rendering()
    with pytest.raises(ValueError, match="at most 10"):
        class_sides(["x"], [str(i) for i in range(11)], np.zeros((11, 1)), "IoU", [1])


def test_runs_whose_names_begin_with_an_underscore_are_in_the_legend() -> None:
    figure = class_sides(["a", "b"], ["_one", "two"], np.array([[0.1, 0.2], [0.3, 0.4]]), "share", [3, 4])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["_one", "two"]
