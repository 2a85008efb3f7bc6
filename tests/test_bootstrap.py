"""Intervals: against SciPy's bootstrap, by simulated coverage, and at the extremes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from octavo.numbers.bootstrap import FEW, STRATUM, Bootstrap, Draws, interval, paired, same_system
from octavo.numbers.metrics import METRICS, log_probabilities
from octavo.numbers.results import Interval


def model(labels: np.ndarray, classes: int, seed: int, temperature: float = 1.0) -> np.ndarray:
    """Logits [N,C] of a classifier that knows exactly how sure it may be, made over-sure by `temperature` > 1."""
    random = np.random.default_rng((9, seed))
    scores = random.normal(size=(len(labels), classes))
    scores[np.arange(len(labels)), labels] += 1.5
    return scores * 1.5 * temperature


BALANCED = np.repeat(np.arange(12), 20)


def ends(found: Interval) -> tuple[float, float]:
    """The ends of an interval that has some."""
    assert found.low is not None and found.high is not None
    return found.low, found.high


@pytest.mark.parametrize("name", METRICS)
def test_contract_of_every_metric(name: str) -> None:
    logits = model(BALANCED, 12, 0)
    found = interval(METRICS[name], logits, BALANCED, replicates=300, seed=3)
    low, high = ends(found)
    assert found.value == pytest.approx(METRICS[name](logits, BALANCED)[0], abs=1e-9)
    assert low <= found.value <= high and high - low > 0.005
    assert found == interval(METRICS[name], logits, BALANCED, replicates=300, seed=3)
    assert found != interval(METRICS[name], logits, BALANCED, replicates=300, seed=4)
    wider = interval(METRICS[name], logits, BALANCED, replicates=300, seed=3, level=0.99)
    assert ends(wider)[1] > high and ends(wider)[0] <= low
    difference = paired(METRICS[name], logits, model(BALANCED, 12, 1), BALANCED, replicates=300)
    assert ends(difference)[0] < ends(difference)[1]


@pytest.mark.parametrize("name", ["accuracy", "nll", "brier", "top5"])
def test_means_of_images_agree_with_scipys_percentile_bootstrap(name: str) -> None:
    logits = model(BALANCED, 12, 2)
    metric = METRICS[name]
    scores = np.concatenate([metric(logits[i : i + 1], BALANCED[i : i + 1]) for i in range(len(BALANCED))])
    theirs = bootstrap((scores,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0))
    ours = ends(interval(metric, logits, BALANCED, replicates=4000, stratify=False))
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.08 * width)


def test_paired_difference_agrees_with_scipy() -> None:
    a, b = model(BALANCED, 12, 3), model(BALANCED, 12, 4)
    gaps = (a.argmax(1) == BALANCED).astype(float) - (b.argmax(1) == BALANCED)
    theirs = bootstrap((gaps,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0))
    found = paired(METRICS["accuracy"], a, b, BALANCED, replicates=4000, stratify=False)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert found.value == pytest.approx(gaps.mean())
    assert ends(found) == pytest.approx(tuple(theirs.confidence_interval), abs=0.08 * width)


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
        assert (whole[:, labels == class_].sum(axis=1) == n).all()
    plain = np.concatenate(list(Bootstrap(labels, 50, stratify=False).weights()))
    assert (plain.sum(axis=1) == 100).all()
    assert np.ptp(plain[:, labels == 0].sum(axis=1)) > 0
    assert plain.mean(axis=0) == pytest.approx(1, abs=0.7)


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(Bootstrap(BALANCED, 40, 1).weights()))
    monkeypatch.setattr("octavo.numbers.bootstrap._CELLS", 7 * len(BALANCED))
    parts = list(Bootstrap(BALANCED, 40, 1).weights())
    assert [len(p) for p in parts] == [7, 7, 7, 7, 7, 5]
    assert (np.concatenate(parts) == whole).all()


def test_strata_need_enough_images() -> None:
    assert Bootstrap(np.repeat([0, 1], STRATUM)).stratified
    assert not Bootstrap(np.repeat([0, 1], [STRATUM - 1, 500])).stratified
    assert Bootstrap(np.array([0, 1]), stratify=True).stratified
    assert "within each class" in Bootstrap(np.repeat([0, 1], STRATUM)).rule
    assert "from the whole set" in Bootstrap(np.array([0, 1])).rule


@pytest.mark.parametrize("right", [0, 1, FEW - 1, 240 - FEW + 1, 240])
def test_few_hits_or_misses_get_wilsons_interval(right: int) -> None:
    logits = np.zeros((240, 12))
    logits[np.arange(240), np.where(np.arange(240) < right, BALANCED, (BALANCED + 1) % 12)] = 1
    found = interval(METRICS["accuracy"], logits, BALANCED, replicates=50)
    expected = binomtest(right, 240).proportion_ci(0.95, method="wilson")
    assert ends(found) == pytest.approx((expected.low, expected.high), abs=1e-8)
    assert ends(found)[1] - ends(found)[0] > 0.01


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
    low, high = ends(found)
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
        low, high = ends(interval(metric, model(BALANCED, 12, seed, temperature), BALANCED, replicates=200))
        # The true ECE of a calibrated model is 0; the large set's own noise stands in for it.
        covered += low <= truth <= high
    assert covered >= 180
    assert covered < 200 or name == "ece"  # so wide that it says nothing


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
