"""Intervals: against SciPy's bootstrap, by simulated coverage, and at the extremes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest, bootstrap, t, ttest_1samp

from octavo.numbers.bootstrap import FEW, STRATUM, Bootstrap, interval, paired, same_system
from octavo.numbers.draws import Draws, ends
from octavo.numbers.metrics import METRICS, log_probabilities, mean_of
from octavo.numbers.results import Interval


def model(labels: np.ndarray, classes: int, seed: int, temperature: float = 1.0) -> np.ndarray:
    """Logits [N,C] of a classifier that knows exactly how sure it may be, made over-sure by `temperature` > 1."""
    random = np.random.default_rng((9, seed))
    scores = random.normal(size=(len(labels), classes))
    scores[np.arange(len(labels)), labels] += 1.5
    return scores * 1.5 * temperature


BALANCED = np.repeat(np.arange(12), 20)


def both(found: Interval) -> tuple[float, float]:
    """The ends of an interval that has some."""
    assert found.low is not None and found.high is not None
    return found.low, found.high


@pytest.mark.parametrize("name", METRICS)
def test_contract_of_every_metric(name: str) -> None:
    logits = model(BALANCED, 12, 0)
    found = interval(METRICS[name], logits, BALANCED, replicates=300, seed=3)
    low, high = both(found)
    assert found.value == pytest.approx(METRICS[name](logits, BALANCED)[0], abs=1e-9)
    assert low <= found.value <= high and high - low > 0.005
    assert found == interval(METRICS[name], logits, BALANCED, replicates=300, seed=3)
    assert found != interval(METRICS[name], logits, BALANCED, replicates=300, seed=4)
    wider = interval(METRICS[name], logits, BALANCED, replicates=300, seed=3, level=0.99)
    assert both(wider)[1] > high and both(wider)[0] <= low
    difference = paired(METRICS[name], logits, model(BALANCED, 12, 1), BALANCED, replicates=300)
    assert both(difference)[0] < both(difference)[1]


@pytest.mark.parametrize("name", ["accuracy", "nll", "brier", "top5"])
def test_means_of_images_agree_with_students_interval(name: str) -> None:
    logits = model(BALANCED, 12, 2)
    metric = METRICS[name]
    scores = np.concatenate([metric(logits[i : i + 1], BALANCED[i : i + 1]) for i in range(len(BALANCED))])
    low, high = ttest_1samp(scores, 0).confidence_interval()
    found = both(interval(metric, logits, BALANCED, replicates=8000, stratify=False))
    # On the scale of the interval Student's is the same by the delta method.
    value, half = scores.mean(), (high - low) / 2
    if metric.scale == "log":
        expected = (value * np.exp(-half / value), value * np.exp(half / value))
    else:
        expected = expit(logit(value) + np.array([-1, 1]) * half / (value * (1 - value)))
    assert found == pytest.approx(tuple(expected), abs=0.03 * (high - low))


def test_replicates_agree_with_scipys() -> None:
    scores = np.random.default_rng(0).gamma(1.0, size=40)
    boot = Bootstrap(np.zeros(40, int), 8000)
    ours = boot.draw({0: mean_of(scores)})[0].replicates
    theirs = bootstrap((scores,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(0))
    # Of n images n-1 are drawn, so that the deviation is that of the usual estimate, with n-1 below.
    assert ours.std() == pytest.approx(theirs.standard_error * np.sqrt(40 / 39), rel=0.03)
    assert ours.std() == pytest.approx(scores.std(ddof=1) / np.sqrt(40), rel=0.03)


def test_paired_difference_agrees_with_scipy() -> None:
    a, b = model(BALANCED, 12, 3), model(BALANCED, 12, 4)
    gaps = (a.argmax(1) == BALANCED).astype(float) - (b.argmax(1) == BALANCED)
    theirs = bootstrap((gaps,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0))
    found = paired(METRICS["accuracy"], a, b, BALANCED, replicates=4000, stratify=False)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert found.value == pytest.approx(gaps.mean())
    assert both(found) == pytest.approx(tuple(theirs.confidence_interval), abs=0.08 * width)


def test_ends_by_hand() -> None:
    replicates = np.random.default_rng(0).normal(0.58, 0.1, 200_000)  # 0.02 below the value
    width = t.ppf(0.975, 7) * 0.1
    expected = expit(logit(0.62) + np.array([-1, 1]) * width / (0.62 * 0.38))
    assert ends(Draws(0.6, replicates), 0.95, 7, "logit") == pytest.approx(tuple(expected), abs=2e-3)
    expected = 0.62 * np.exp(np.array([-1, 1]) * width / 0.62)
    assert ends(Draws(0.6, replicates), 0.95, 7, "log") == pytest.approx(tuple(expected), abs=2e-3)
    # What is on no such scale stays as it is.
    expected = -0.2 + 0.02 + np.array([-1, 1]) * width
    assert ends(Draws(-0.2, replicates - 0.8), 0.95, 7, "logit") == pytest.approx(tuple(expected), abs=2e-3)


@pytest.mark.parametrize("scale", ["logit", "log"])
@pytest.mark.parametrize("value", [0.001, 0.5, 0.999])
def test_ends_hold_the_value_and_keep_to_the_bounds(scale: str, value: float) -> None:
    for centre in (0.0, 0.3, 0.7, 1.0):
        found = ends(Draws(value, np.array([centre, centre + 1e-3])), 0.95, 1, scale)
        assert 0 <= found[0] <= value <= found[1] <= (1 if scale == "logit" else np.inf)


def test_strata_give_the_width_of_their_variance() -> None:
    # Half of the classes always right, half right every other time: all variance is within the latter.
    labels = np.repeat(np.arange(4), 100)
    logits = np.zeros((400, 4))
    logits[np.arange(400), labels] = 1
    wrong = (labels >= 2) & (np.arange(400) % 2 == 0)
    logits[wrong, 0] = 2
    spread = {}
    for stratify in (True, False):
        boot = Bootstrap(labels, 4000, stratify=stratify)
        draws = boot.draw({0: METRICS["accuracy"].prepare(log_probabilities(logits), labels)})[0]
        spread[stratify] = float(draws.replicates.std())
    assert spread[True] == pytest.approx(np.sqrt(0.5 * 0.25 / 400), rel=0.05)
    assert spread[False] == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.05)


def test_resamples_hold_as_many_images_as_the_set_and_the_strata() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 4], [25, 30, 45]))
    whole = np.concatenate(list(Bootstrap(labels, 50, stratify=True).weights()))
    assert whole.shape == (50, 100)
    for class_, n in ((0, 25), (1, 30), (4, 45)):
        # n-1 are drawn, and weighted so that the class keeps its weight (Rao and Wu 1988).
        assert whole[:, labels == class_].sum(axis=1) == pytest.approx(n)
        drawn = whole[:, labels == class_] * (n - 1) / n
        assert drawn == pytest.approx(np.round(drawn)) and drawn.sum(axis=1) == pytest.approx(n - 1)
    plain = np.concatenate(list(Bootstrap(labels, 50, stratify=False).weights()))
    assert (plain.sum(axis=1) == 99).all()
    assert np.ptp(plain[:, labels == 0].sum(axis=1)) > 0
    assert plain.mean(axis=0) == pytest.approx(1, abs=0.7)
    even = np.concatenate(list(Bootstrap(BALANCED, 50).weights()))
    assert all((even[:, i == BALANCED].sum(axis=1) == 19).all() for i in range(12))


def test_groups_are_drawn_whole() -> None:
    random = np.random.default_rng(0)
    groups = random.permutation(np.repeat(np.arange(30) * 7, random.integers(1, 9, 30)))
    boot = Bootstrap(np.zeros(len(groups), int), 400, groups=groups)
    weight = np.concatenate(list(boot.weights()))
    assert boot.units == 30 and boot.freedom == 29 and not boot.stratified
    drawn = np.zeros((400, 30))
    for i, group in enumerate(np.unique(groups)):
        members = weight[:, groups == group]
        assert (members == members[:, :1]).all()
        drawn[:, i] = members[:, 0]
    assert (drawn.sum(axis=1) == 29).all()
    assert "30 groups of the scored images" in boot.rule
    with pytest.raises(ValueError, match="groups go with images"):
        Bootstrap(np.zeros(3, int), groups=np.zeros(2, int))
    with pytest.raises(ValueError, match="groups go with images"):
        Bootstrap(np.zeros(2, int), groups=np.zeros(2, int), stratify=True)


def test_groups_of_equal_images_give_the_interval_of_one_each() -> None:
    logits = model(BALANCED, 12, 5)
    many, groups = np.repeat(logits, 7, axis=0), np.repeat(np.arange(240), 7)
    one = both(interval(METRICS["nll"], logits, BALANCED, replicates=4000, stratify=False))
    seven = both(interval(METRICS["nll"], many, np.repeat(BALANCED, 7), replicates=4000, groups=groups))
    assert seven == pytest.approx(one, abs=0.02 * (one[1] - one[0]))
    alone = both(interval(METRICS["nll"], many, np.repeat(BALANCED, 7), replicates=4000, stratify=False))
    assert alone[1] - alone[0] < 0.5 * (one[1] - one[0])
    perfect = np.repeat(np.eye(12)[BALANCED], 7, axis=0)
    found = interval(METRICS["accuracy"], perfect, np.repeat(BALANCED, 7), groups=groups)
    expected = binomtest(240, 240).proportion_ci(0.95, method="wilson")
    assert both(found) == pytest.approx((expected.low, 1.0), abs=1e-8)


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(Bootstrap(BALANCED, 40, 1).weights()))
    monkeypatch.setattr("octavo.numbers.bootstrap._CELLS", 7 * len(BALANCED))
    parts = list(Bootstrap(BALANCED, 40, 1).weights())
    assert [len(p) for p in parts] == [7, 7, 7, 7, 7, 5]
    assert (np.concatenate(parts) == whole).all()


def test_strata_need_even_classes_and_enough_images() -> None:
    assert Bootstrap(np.repeat([0, 1], STRATUM)).stratified
    assert not Bootstrap(np.repeat([0, 1], STRATUM - 1)).stratified
    assert not Bootstrap(np.repeat([0, 1], [50, 60])).stratified
    assert not Bootstrap(np.zeros(50, int)).stratified
    assert Bootstrap(np.array([0, 1]), stratify=True).stratified
    assert Bootstrap(np.repeat(np.arange(50), 50)[:-20]).freedom == 2480 - 50  # a few are missing
    assert "within each class" in Bootstrap(np.repeat([0, 1], STRATUM)).rule
    assert "from the whole set" in Bootstrap(np.array([0, 1])).rule


def test_random_labels_seldom_count_as_even() -> None:
    random = np.random.default_rng(0)
    sets = [random.integers(0, 10, 400) for _ in range(400)]
    assert sum(Bootstrap(labels).stratified for labels in sets) <= 14


@pytest.mark.parametrize("right", [0, 1, FEW - 1, 240 - FEW + 1, 240])
def test_few_hits_or_misses_get_wilsons_interval(right: int) -> None:
    logits = np.zeros((240, 12))
    logits[np.arange(240), np.where(np.arange(240) < right, BALANCED, (BALANCED + 1) % 12)] = 1
    found = interval(METRICS["accuracy"], logits, BALANCED, replicates=50)
    expected = binomtest(right, 240).proportion_ci(0.95, method="wilson")
    assert both(found) == pytest.approx((expected.low, expected.high), abs=1e-8)
    assert both(found)[1] - both(found)[0] > 0.01


def test_a_perfect_score_has_no_interval_where_wilsons_does_not_apply() -> None:
    perfect = np.eye(12)[BALANCED] * 9
    for name in ("macro_f1", "balanced_accuracy"):
        assert interval(METRICS[name], perfect, BALANCED, replicates=50) == Interval(value=1, low=None, high=None)


def test_two_different_systems_that_never_differ_have_no_interval() -> None:
    perfect = np.eye(12)[BALANCED] * 9
    accuracy = METRICS["accuracy"]
    assert paired(accuracy, perfect, perfect * 2, BALANCED, replicates=50) == Interval(value=0, low=None, high=None)
    assert paired(accuracy, perfect, perfect + 5, BALANCED, replicates=50) == Interval(value=0, low=0, high=0)
    assert same_system(log_probabilities(perfect), log_probabilities(perfect + 5))
    assert not same_system(log_probabilities(perfect), log_probabilities(perfect * 2))


def test_one_image() -> None:
    found = interval(METRICS["accuracy"], np.array([[1.0, 0]]), np.array([0]), replicates=20)
    low, high = both(found)
    assert high == 1 and low == pytest.approx(0.2065, abs=1e-3)


@pytest.mark.parametrize("bad", [{"replicates": 0}, {"level": 1.0}, {"labels": np.zeros(0, int)}])
def test_impossible_settings(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="needs images"):
        Bootstrap(**({"labels": BALANCED} | bad))  # pyright: ignore[reportArgumentType]


def test_difference_is_taken_resample_by_resample() -> None:
    gap = Draws(0.5, np.array([0.5, 0.6])) - Draws(0.25, np.array([0.2, 0.3]))
    assert gap.value == 0.25 and gap.replicates == pytest.approx(np.array([0.3, 0.3])) and gap.constant


@pytest.mark.parametrize(
    ("name", "temperature"), [("accuracy", 1.0), ("macro_f1", 1.0), ("nll", 1.0), ("ece", 1.0), ("ece", 2.0)]
)
def test_intervals_cover_the_truth(name: str, temperature: float) -> None:
    metric = METRICS[name]
    many = np.tile(np.arange(12), 10_000)
    truth = metric(model(many, 12, 10_000, temperature), many)[0]
    covered = 0
    for seed in range(200):
        low, high = both(interval(metric, model(BALANCED, 12, seed, temperature), BALANCED, replicates=200))
        # The true ECE of a calibrated model is 0; the large set's own noise stands in for it.
        covered += low <= truth <= high
    assert covered >= 180
    assert covered < 200 or name == "ece"  # so wide that it says nothing


def covering(
    drawn: Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray | None]], truth: float, name: str
) -> float:
    """How many of 300 intervals hold the truth; `drawn` gives a data set's logits, labels and groups."""
    held = 0
    for seed in range(300):
        logits, labels, groups = drawn(seed)
        low, high = both(interval(METRICS[name], logits, labels, replicates=300, groups=groups))
        held += low <= truth <= high
    return held / 300


@pytest.mark.parametrize("designed", [True, False])
@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "nll"])
def test_intervals_of_sixty_images_of_ten_classes_cover(name: str, designed: bool) -> None:
    many = np.tile(np.arange(10), 20_000)
    truth = METRICS[name](model(many, 10, 99_999), many)[0]

    def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, None]:
        labels = np.repeat(np.arange(10), 6) if designed else np.random.default_rng((1, seed)).integers(0, 10, 60)
        return model(labels, 10, seed), labels, None

    assert 0.915 <= covering(drawn, truth, name) <= 0.985


@pytest.mark.parametrize("told", [True, False])
def test_intervals_cover_where_images_come_in_groups_just_if_they_are_told(told: bool) -> None:
    def drawn(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        random = np.random.default_rng((2, seed))
        groups = np.repeat(np.arange(count), random.integers(2, 9, count))
        labels = random.integers(0, 4, len(groups))
        logits = random.normal(size=(len(groups), 4))
        logits[np.arange(len(groups)), labels] += 1.5 + random.normal(0, 1.5, count)[groups]
        return logits, labels, groups if told else None

    logits, labels, _ = drawn(-1 % 2**32, 40_000)
    share = covering(drawn, METRICS["macro_f1"](logits, labels)[0], "macro_f1")
    assert 0.915 <= share <= 0.985 if told else share < 0.87


def test_time_and_memory_of_a_whole_evaluation() -> None:
    labels = np.repeat(np.arange(50), 50)
    start = time.perf_counter()
    boot = Bootstrap(labels)
    statistics = {
        (system, name): metric.prepare(log_probabilities(model(labels, 50, system)), labels)
        for system in range(9)
        for name, metric in METRICS.items()
    }
    draws = boot.draw(statistics)
    assert time.perf_counter() - start < 20
    assert len(draws) == 9 * len(METRICS) and all(len(d.replicates) == 2000 for d in draws.values())
    assert max(w.nbytes for w in boot.weights()) <= 2**24


def test_deviations_that_hang_on_few_images_count_for_few_degrees_of_freedom() -> None:
    random = np.random.default_rng(0)
    many = np.zeros(4000, int)
    for scores, expected in (
        (random.random(4000), 3999),  # lighter tails than the normal: no more than all
        (random.exponential(size=4000), 2 / (2 / 3999 + 6 / 4000)),  # excess kurtosis 6
    ):
        draws = Bootstrap(many, 10).draw({0: mean_of(scores)})[0]
        assert draws.freedom(3999) == pytest.approx(expected, rel=0.35)
    # All that differs is one image of 50: as if there were little more than one.
    draws = Bootstrap(many[:50], 10).draw({0: mean_of(np.eye(50)[0]), 1: mean_of(np.zeros(50))})
    assert (draws[0] - draws[1]).freedom(49) == pytest.approx(2, abs=0.15)
    influence = Bootstrap(many[:50], 10).draw({0: mean_of(np.arange(50.0))})[0].influence
    assert influence is not None and influence.sum() == pytest.approx(0, abs=1e-6)
    assert np.sort(influence) == pytest.approx((np.arange(50) - 24.5) / 50, abs=1e-6)
    assert Draws(0.5, np.array([0.4, 0.6])).freedom(7) == 7
