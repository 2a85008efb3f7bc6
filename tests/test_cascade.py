"""Cascades: where images stop, what that costs, and that the budget is kept."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.special import softmax

from octavo.errors import UserError
from octavo.numbers.calibration import Calibration
from octavo.numbers.cascade import (
    NEVER,
    Cascade,
    answers_of,
    confidences,
    fit_thresholds,
    prefixes_of,
    stopped,
)
from octavo.numbers.ensemble import Ensemble

NAMES = ("a", "b", "c")


def members(n: int, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits [3,n,C] of members of which each is better than the one before, and labels."""
    draw = np.random.default_rng(seed)
    labels, ease = draw.integers(0, classes, n), draw.exponential(2.0, n)
    truth = np.eye(classes)[labels] * ease[:, None]
    return np.stack([truth * gain + draw.normal(size=(n, classes)) for gain in (1.0, 1.3, 1.6)]), labels


def test_stops_at_the_first_that_is_sure() -> None:
    sure = np.array([[0.9, 0.5, 0.2], [0.1, 0.8, 0.3], [0.0, 0.0, 0.0]])
    assert stopped(sure, (0.9, 0.8)).tolist() == [0, 1, 2]
    assert stopped(sure, (NEVER, NEVER)).tolist() == [2, 2, 2]
    assert stopped(sure, (0.0, NEVER)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("combine", ["greedy", "mean_probability"])
def test_prefixes_are_ensembles_of_the_first_members(combine: str) -> None:
    logits, labels = members(400)
    whole = Ensemble(NAMES, combine, (0.5, 0.2, 0.3)).calibrated("temperature", logits, labels)
    found = prefixes_of(whole, ("c", "a", "b"), logits, labels)
    assert [p.names for p in found] == [("c",), ("c", "a"), ("c", "a", "b")]
    np.testing.assert_allclose(found[1].weights, (0.375, 0.625))
    answers = answers_of(found, NAMES, logits)
    np.testing.assert_allclose(answers[2], whole.logits(logits), atol=1e-9)
    alone = Calibration.fit("temperature", found[0].combined(logits[2:]), labels)
    np.testing.assert_allclose(answers[0], alone.apply(found[0].combined(logits[2:])))
    np.testing.assert_allclose(confidences(answers)[0], softmax(answers[0], axis=1).max(1))
    with pytest.raises(ValueError, match="expected an order of"):
        prefixes_of(whole, ("a", "b"))


def test_thresholds_keep_the_budget_and_are_no_dearer_than_single_steps() -> None:
    logits, labels = members(600)
    prefixes = prefixes_of(Ensemble(NAMES, "mean_logit", (1 / 3,) * 3), NAMES, logits, labels)
    answers = answers_of(prefixes, NAMES, logits)
    sure, right, costs = confidences(answers), answers.argmax(2) == labels, np.array([1.0, 3.0, 9.0])
    for budget in (0.0, 0.01, 0.05):
        thresholds = fit_thresholds(sure, right, costs, budget)
        stops = stopped(sure, thresholds)
        accuracy, spent = right[stops, np.arange(600)].mean(), costs[stops].mean()
        assert accuracy >= right[-1].mean() - budget - 1e-9 and spent < 9.0
        grid = [np.append(np.quantile(row, np.linspace(0, 1, 13)), NEVER) for row in sure[:-1]]
        best = min(
            costs[s].mean()
            for pair in product(*grid)
            if right[s := stopped(sure, pair), np.arange(600)].mean() >= right[-1].mean() - budget
        )
        assert spent <= 1.1 * best
    assert fit_thresholds(sure, np.stack([~right[2], ~right[2], right[2]]), costs, 0.0) == (NEVER, NEVER)
    with pytest.raises(ValueError, match="expected"):
        fit_thresholds(sure, right, costs[:2], 0.0)


def test_written_and_read() -> None:
    logits, labels = members(100)
    whole = Ensemble(NAMES, "greedy", (0.5, 0.2, 0.3)).calibrated("vector", logits, labels)
    cascade = Cascade(prefixes_of(whole, NAMES, logits, labels), (0.5, NEVER))
    assert Cascade.from_dict(cascade.to_dict()).to_dict() == cascade.to_dict() and cascade.names == NAMES
    assert set(cascade.stops(answers_of(cascade.prefixes, NAMES, logits)).tolist()) <= {0, 2}
    for broken in ({}, {"prefixes": [], "thresholds": []}, {"prefixes": [1], "thresholds": []}):
        with pytest.raises(UserError, match=r"cascade\.json"):
            Cascade.from_dict(broken)
