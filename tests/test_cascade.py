"""Cascades: where images stop, what that costs, and that the budget is kept."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

import octavo
from conftest import Octavo, reseal
from octavo.engine.cascaded import cascade_of
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.numbers.calibration import NONE, Calibration
from octavo.numbers.cascade import (
    FOLDS,
    NEVER,
    Cascade,
    _bounds,
    answers_of,
    confidences,
    expected,
    fit_cautiously,
    fit_thresholds,
    folds_of,
    prefixes_of,
    raised,
    stopped,
)
from octavo.numbers.ensemble import Ensemble
from octavo.numbers.speed_results import CascadeReport
from octavo.tasks.classification.predictor import ClassPredictor

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


def test_every_way_to_judge_keeps_the_budget() -> None:
    """Labels and the whole ensemble's probabilities, here far too modest ones, which alone would allow any loss."""
    logits, labels = members(600)
    answers = answers_of(prefixes_of(Ensemble(NAMES, "mean_logit", (1 / 3,) * 3), NAMES), NAMES, logits)
    sure, costs = confidences(answers), np.array([1.0, 3.0, 9.0])
    modest, right = expected(answers * 1e-3), answers.argmax(2) == labels
    alone = stopped(sure, fit_thresholds(sure, modest, costs, 0.01))
    assert right[-1].mean() - right[alone, np.arange(600)].mean() > 0.02
    both = stopped(sure, fit_thresholds(sure, [modest, right], costs, 0.01))
    assert right[-1].mean() - right[both, np.arange(600)].mean() <= 0.01 + 1e-9
    assert costs[alone].mean() < costs[both].mean() < costs[-1]


def test_folds_are_even_and_keep_groups_whole() -> None:
    assert np.bincount(folds_of(101, 0)).tolist() == [21, 20, 20, 20, 20]
    assert folds_of(101, 0).tolist() == folds_of(101, 0).tolist() != folds_of(101, 1).tolist()
    groups = np.repeat(np.arange(40) * 7, 3)
    found = folds_of(120, 0, groups)
    assert np.bincount(found).tolist() == [24] * FOLDS
    assert all(len(set(found[groups == group].tolist())) == 1 for group in groups)


def test_raised_thresholds_are_nearer_to_one() -> None:
    assert raised((0.6, NEVER, 0.9), 0.5) == pytest.approx((0.8, NEVER, 0.95))
    assert raised((0.6, NEVER), 1.0) == pytest.approx((0.6, NEVER))


def test_the_budget_holds_on_other_images_on_average() -> None:
    """Thresholds that are fitted to 200 images lose more on others than they were allowed; cautious ones don't."""
    costs, budget, lost = np.array([1.0, 3.0, 9.0]), 0.005, {"plain": [0.0], "cautious": [0.0]}
    whole = Ensemble(NAMES, "mean_logit", (1 / 3,) * 3)
    logits, labels = members(10_000, seed=99)
    others = answers_of(prefixes_of(whole, NAMES), NAMES, logits)
    hits = others.argmax(2) == labels
    saved = []
    for seed in range(20):
        logits, truth = members(200, seed=seed)
        answers = answers_of(prefixes_of(whole, NAMES), NAMES, logits)
        sure, right = confidences(answers), answers.argmax(2) == truth
        judged = np.stack([expected(answers), right])
        cautious, factor = fit_cautiously(sure, judged, right, costs, budget, folds_of(200, seed))
        assert 0 <= factor <= 1
        for name, thresholds in (("plain", fit_thresholds(sure, judged, costs, budget)), ("cautious", cautious)):
            stops = stopped(confidences(others), thresholds)
            lost[name].append(hits[-1].mean() - hits[stops, np.arange(len(stops))].mean())
            saved += [costs[stops].mean() / 9] * (name == "cautious")
    assert np.mean(lost["plain"][1:]) > 2 * budget and np.mean(lost["cautious"][1:]) < budget
    assert np.mean(saved) < 0.95


@pytest.mark.parametrize("images", [20, 50])
def test_few_images_bear_no_small_budget(images: int) -> None:
    """None lost among them is no proof that none will be."""
    logits, _ = members(images)
    answers = answers_of(prefixes_of(Ensemble(NAMES, "mean_logit", (1 / 3,) * 3), NAMES), NAMES, logits)
    hits, costs, folds = np.ones((3, images), bool), np.array([1.0, 3.0, 9.0]), folds_of(images, 0)
    sure, judged = confidences(answers), np.ones((1, 3, images))
    assert fit_cautiously(sure, judged, hits, costs, 0.49 / images, folds) == ((NEVER, NEVER), 0.0)
    thresholds, factor = fit_cautiously(sure, judged, hits, costs, 0.51 / images, folds)
    assert factor == 1 and min(thresholds) < NEVER


def test_the_standard_error_is_of_groups() -> None:
    lost = np.zeros((1, 120))
    lost[0, :8] = 1
    groups = np.repeat(np.arange(30), 4)
    own, alike = _bounds(lost, None), _bounds(lost, groups)
    mean = 8 / 120
    assert own[0] == pytest.approx(mean + np.sqrt(lost.var() * 120 + 0.25) / 120)
    sums = np.where(np.arange(30) < 2, 4, 0) - 4 * mean
    assert alike[0] == pytest.approx(mean + np.sqrt((sums**2).sum() + 0.25) / 120) and alike[0] > own[0]


def test_where_nothing_keeps_the_budget_no_image_stops_early() -> None:
    logits, _ = members(50)
    answers = answers_of(prefixes_of(Ensemble(NAMES, "mean_logit", (1 / 3,) * 3), NAMES), NAMES, logits)
    hits = np.stack([np.zeros(50, bool), np.zeros(50, bool), np.ones(50, bool)])
    judged, costs = np.ones((1, 3, 50)), np.array([1.0, 3.0, 9.0])
    found = fit_cautiously(confidences(answers), judged, hits, costs, 0.0, folds_of(50, 0))
    assert found == ((NEVER, NEVER), 0.0)


def test_expected_is_what_the_last_prefix_thinks_of_the_others() -> None:
    answers = np.log([[[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]], [[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]]])
    np.testing.assert_allclose(expected(answers), [[0.6, 0.3], [0.6, 0.6]])
    logits, _ = members(300)
    answers = logits / 1.0
    assert (expected(answers)[-1] >= expected(answers)).all()  # nothing is better than its own answer


def test_written_and_read() -> None:
    logits, labels = members(100)
    whole = Ensemble(NAMES, "greedy", (0.5, 0.2, 0.3)).calibrated("vector", logits, labels)
    cascade = Cascade(prefixes_of(whole, NAMES, logits, labels), (0.5, NEVER))
    assert Cascade.from_dict(cascade.to_dict()).to_dict() == cascade.to_dict() and cascade.names == NAMES
    assert set(cascade.stops(answers_of(cascade.prefixes, NAMES, logits)).tolist()) <= {0, 2}
    for broken in ({}, {"prefixes": [], "thresholds": []}, {"prefixes": [1], "thresholds": []}):
        with pytest.raises(UserError, match=r"cascade\.json"):
            Cascade.from_dict(broken)


def test_a_run_answers_in_stages(trained: RunFolder, digits_folder: Path, tmp_path: Path, run_cli: Octavo) -> None:
    run = RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))
    ensemble = run.ensemble
    run.ensemble = replace(ensemble, combine="weighted", weights=(0.4, 0.3, 0.3))
    images, out = digits_folder / "val_10", tmp_path / "out.csv"
    assert run_cli("predict", run.path, images, "--out", out, "--cascade", "--device", "cpu")[0] == 2
    code, shown, error = run_cli("ensemble", "cascade", run.path, "--budget", 5, "--device", "cpu")
    assert code == 0 and "times faster" in shown and "Thresholds are fitted on one half" in " ".join(shown.split()), (
        error
    )
    report = CascadeReport.model_validate((run.cascade or {})["report"])
    times = [step.milliseconds for step in report.steps]
    assert times == sorted(times) and report.fitted + report.scored == len(run.labels("val"))
    assert sum(step.stopped for step in report.steps) == pytest.approx(1) and report.milliseconds <= times[-1]
    stages = cascade_of(run)
    found = octavo.load(run.path, "cpu").predict(images, cascade=True)
    members = np.stack([predict_alone(run, name, images) for name in stages.names])
    answers = answers_of(stages.prefixes, stages.names, members)
    stops = stages.stops(answers)
    expected_ids = answers.argmax(2)[stops, np.arange(len(stops))]
    assert (found.ids == expected_ids).mean() > 0.97  # batches of another size round otherwise
    assert found.stopped and list(found.stopped) == list(stages.names)
    counted = np.bincount(stops, minlength=len(stages.names))
    assert np.abs(np.array(list(found.stopped.values())) - counted).sum() <= 4 and sum(found.stopped.values()) == len(
        stops
    )
    code, shown, _ = run_cli("predict", run.path, images, "--out", out, "--cascade", "--device", "cpu")
    told = ", ".join(f"{name} {count}" for name, count in found.stopped.items())
    assert code == 0 and f"images that stopped at: {told}" in shown
    whole = (run.cascade or {}) | {"cascade": replace(stages, thresholds=(NEVER, NEVER)).to_dict()}
    run.cascade = whole
    np.testing.assert_allclose(
        ClassPredictor(run, "cpu", cascaded=True).predict([images]).probabilities,
        ClassPredictor(run, "cpu").predict([images]).probabilities,
        atol=1e-5,
    )
    run.ensemble = replace(run.ensemble, weights=(0.5, 0.3, 0.2))
    code, _, error = run_cli("predict", run.path, images, "--out", out, "--cascade")
    assert code == 2 and "its ensemble has changed" in error
    recipe = run.path / "recipe.toml"
    kept = recipe.read_text()
    recipe.write_text(kept.replace('fit_on = "holdout"', 'fit_on = "val"'))
    reseal(run)
    code, _, error = run_cli("ensemble", "cascade", run.path)
    assert code == 2 and "was chosen on its validation images, so that a cascade that is tried on them" in error
    recipe.write_text(kept)
    reseal(run)
    for words in (("--budget", -1), ("--budget", 100)):
        assert run_cli("ensemble", "cascade", run.path, *words)[0] == 2
    run.ensemble = replace(run.ensemble, weights=(1.0, 0.0, 0.0))
    error = run_cli("ensemble", "cascade", run.path)[2]
    assert "needs two members" in error and "--set ensemble.combine=mean_logit gives one to all" in error
    assert "needs two members" in run_cli("predict", run.path, images, "--out", out, "--cascade")[2]
    run.prune(run.ensemble)
    assert f"octavo ensemble prune {run.path} --undo" in run_cli("ensemble", "cascade", run.path)[2]
    assert run_cli("predict", run.path, images, "--out", out, "--cascade", "--member", "vgg")[0] == 2


def predict_alone(run: RunFolder, name: str, images: Path) -> np.ndarray:
    """Return a member's logits before calibration on images, up to a constant a row."""
    bare = RunFolder(run.path)
    kept = bare.ensemble
    bare.ensemble = replace(kept, calibration=NONE, own=())
    try:
        return np.log(ClassPredictor(bare, "cpu", member=name).predict([images]).probabilities.astype(np.float64))
    finally:
        bare.ensemble = kept
