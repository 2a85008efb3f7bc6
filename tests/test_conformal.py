"""Prediction sets against MAPIE, by their promise over many fits, and at the extremes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.base import BaseEstimator, ClassifierMixin

from octavo.errors import UserError
from octavo.numbers.conformal import (
    METHODS,
    PredictionSets,
    coverage_of,
    coverage_spread,
    fit_sets,
    least_images,
)


def draw(n: int, classes: int, seed: int, temperature: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [n,C] of an over-sure model, and labels."""
    random = np.random.default_rng((6, seed))
    right = random.normal(0, 2, (n, classes))
    labels = (right + random.gumbel(size=(n, classes))).argmax(axis=1)
    return softmax(right * temperature, axis=1), labels


class Passing(ClassifierMixin, BaseEstimator):
    """A classifier whose probabilities are what it is given."""

    def __init__(self, classes: int = 2) -> None:
        self.classes = classes
        self.classes_ = np.arange(classes)

    def fit(self, x: np.ndarray, y: np.ndarray) -> Passing:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x


class Undrawn(np.random.RandomState):
    """Gives ones for draws, so that MAPIE's adaptive sets lose their random part."""

    def uniform(self, low: float = 0.0, high: float = 1.0, size: object = None) -> np.ndarray:  # pyright: ignore
        return np.ones(size)  # pyright: ignore


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "classes", "coverage"), [(333, 6, 0.9), (1000, 20, 0.8), (99, 4, 0.85)])
def test_sets_equal_mapies(method: str, n: int, classes: int, coverage: float) -> None:
    from mapie.classification import SplitConformalClassifier

    probabilities, labels = draw(n, classes, n)
    new, _ = draw(500, classes, n + 1)
    theirs = SplitConformalClassifier(
        Passing(classes), confidence_level=coverage, conformity_score=method, prefit=True, random_state=Undrawn()
    ).conformalize(probabilities, labels)
    more = {"include_last_label": "randomized"} if method == "aps" else {}
    expected = theirs.predict_set(new, conformity_score_params=more)[1][:, :, 0]
    found = fit_sets(probabilities, labels, coverage, method).sets(new, empty=True)
    assert (found == expected).mean() > 0.9999


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_coverage_over_many_fits_is_what_was_asked(method: str, coverage: float) -> None:
    probabilities, labels = draw(400 * 150, 8, 0)
    shares = []
    for fit in range(400):
        part = slice(150 * fit, 150 * fit + 50)
        rest = slice(150 * fit + 50, 150 * fit + 150)
        sets = fit_sets(probabilities[part], labels[part], coverage, method).sets(probabilities[rest], empty=True)
        shares.append(sets[np.arange(100), labels[rest]].mean())
    # Exactly ⌈51·coverage⌉/51 for scores without ties; four standard errors.
    expected = np.ceil(51 * coverage) / 51
    assert np.mean(shares) == pytest.approx(expected, abs=4 * np.std(shares) / 20)
    low, high = coverage_spread(50, coverage)
    assert low < expected < high and np.mean((np.array(shares) > low - 0.06) & (np.array(shares) < high + 0.06)) > 0.93


def test_the_spread_of_true_coverage_is_betas() -> None:
    random = np.random.default_rng(0)
    # Scores are uniform here, so that a threshold is its own true coverage.
    thresholds = [np.sort(random.random(40))[int(np.ceil(41 * 0.9)) - 1] for _ in range(20_000)]
    assert coverage_spread(40, 0.9) == pytest.approx(tuple(np.quantile(thresholds, [0.025, 0.975])), abs=0.006)


def test_by_class_each_class_is_covered() -> None:
    probabilities, labels = draw(40_000, 4, 1)
    # A model that never trusts class 0.
    probabilities = probabilities * np.array([0.1, 1, 1, 1])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    fit, rest = slice(0, 20_000), slice(20_000, None)
    one = fit_sets(probabilities[fit], labels[fit], 0.9).sets(probabilities[rest])
    each = fit_sets(probabilities[fit], labels[fit], 0.9, by_class=True)
    assert len(each.thresholds) == 4
    shares = [c.value for c in coverage_of(one, labels[rest]).by_class if c]
    assert shares[0] < 0.8
    shares = [c.value for c in coverage_of(each.sets(probabilities[rest]), labels[rest]).by_class if c]
    assert shares == pytest.approx([0.9] * 4, abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_sets_are_not_empty_unless_asked_and_grow_with_coverage(method: str) -> None:
    probabilities, labels = draw(600, 6, 2, 0.3)
    labels = np.where(np.arange(600) % 8 > 0, probabilities.argmax(axis=1), labels)
    sizes = []
    for coverage in (0.3, 0.7, 0.95):
        made = fit_sets(probabilities, labels, coverage, method)
        open_, closed = made.sets(probabilities, empty=True), made.sets(probabilities)
        assert closed.any(axis=1).all() and (closed >= open_).all()
        assert (closed != open_).sum() == (~open_.any(axis=1)).sum()
        sizes.append(open_.sum())
    few = fit_sets(probabilities, labels, 0.3, method).sets(probabilities, empty=True)
    assert few.any(axis=1).all() == (method == "aps")
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]


def test_aps_adds_up_from_the_most_probable() -> None:
    made = PredictionSets("aps", 0.9, (0.5,), 50)
    assert made.sets([[0.2, 0.5, 0.3], [0.1, 0.05, 0.85], [0.4, 0.4, 0.2]]).tolist() == [
        [False, True, True],
        [False, False, True],
        [True, True, False],
    ]


@pytest.mark.parametrize(("coverage", "needed"), [(0.9, 9), (0.8, 4), (0.95, 19), (0.99, 99), (0.5, 1)])
def test_too_few_images_are_refused_with_how_many_it_takes(coverage: float, needed: int) -> None:
    assert least_images(coverage) == needed
    probabilities, labels = draw(needed, 3, 3)
    fit_sets(probabilities, labels, coverage)
    with pytest.raises(UserError, match=f"takes at least {needed} images to fit on, there are {needed - 1}"):
        fit_sets(probabilities[1:], labels[1:], coverage)
    with pytest.raises(UserError, match="of class 2"):
        fit_sets(np.tile(probabilities, (9, 1)), np.tile([0, 1], 9 * needed)[: 9 * needed], coverage, by_class=True)


def test_bad_asking() -> None:
    probabilities, labels = draw(30, 3, 4)
    with pytest.raises(UserError, match='unknown "apps"; did you mean "aps"'):
        fit_sets(probabilities, labels, 0.9, "apps")
    for coverage in (0.0, 1.0, 90.0):
        with pytest.raises(UserError, match=r"--coverage: expected a number between 0 and 1"):
            fit_sets(probabilities, labels, coverage)
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_sets(probabilities * 3, labels, 0.9)
    with pytest.raises(ValueError, match="fitted for 2 classes"):
        PredictionSets("lac", 0.9, (0.5, 0.5), 9).sets(probabilities)


def test_coverage_counts() -> None:
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0]], bool)
    found = coverage_of(sets, [0, 1, 0, 1, 0])
    expected = binomtest(3, 5).proportion_ci(0.95, method="wilson")
    assert (found.coverage.low, found.coverage.high) == pytest.approx((expected.low, expected.high), abs=1e-8)
    assert found.mean_size == pytest.approx(7 / 5) and found.empty == 1
    assert [c and round(c.value, 6) for c in found.by_class] == [round(2 / 3, 6), 0.5, None]
    assert [(s.size, s.images, round(s.coverage.value, 4)) for s in found.by_size] == [
        (0, 1, 0),
        (1, 1, 1),
        (2, 3, 0.6667),
    ]


def test_json_gives_the_same_sets() -> None:
    probabilities, labels = draw(200, 5, 5)
    made = fit_sets(probabilities, labels, 0.9, "aps")
    again = PredictionSets.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made and (again.sets(probabilities) == made.sets(probabilities)).all()


@pytest.mark.parametrize(
    "change",
    [{"method": "raps"}, {"coverage": "0.9"}, {"coverage": 2.0}, {"thresholds": []}, {"thresholds": ["a"]}, {"n": 0},
     {"thresholds": 3}, {"more": 1}],
)  # fmt: skip
def test_bad_forms_are_told_with_their_place(change: dict[str, object]) -> None:
    good = {"method": "lac", "coverage": 0.9, "thresholds": [0.5], "n": 20}
    with pytest.raises(UserError, match=r"^ensemble\.json: "):
        PredictionSets.from_dict(good | change, "ensemble.json")
