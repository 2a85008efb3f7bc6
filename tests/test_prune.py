"""Pruning: which members go, and what is told of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from conftest import Octavo
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.numbers.ensemble import Ensemble
from octavo.numbers.prune import pruned
from octavo.numbers.results import Report
from octavo.page.summary import page_of
from octavo.tasks.classification.evaluation import regrade
from octavo.tasks.classification.prune import prune
from octavo.tasks.known import subject_of, task_of

NAMES = ("good", "twin", "poor")


@pytest.fixture
def stack() -> tuple[np.ndarray, np.ndarray]:
    """Logits [3,500,4] of a good member, one that says the same, and a poor one; and labels."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 500)
    good = 2 * np.eye(4)[labels] + draw.normal(size=(500, 4))
    return np.stack([good, good.copy(), 0.2 * np.eye(4)[labels] + draw.normal(size=(500, 4))]), labels


def fit_on(stack: tuple[np.ndarray, np.ndarray]):
    logits, labels = stack

    def fit(places: tuple[int, ...]) -> Ensemble:
        names = tuple(NAMES[p] for p in places)
        return Ensemble.fit(names, "greedy" if len(names) > 1 else "mean_logit", logits[list(places)], labels)

    return fit


def test_members_that_are_not_missed_go_first(stack: tuple[np.ndarray, np.ndarray]) -> None:
    steps = pruned(fit_on(stack), *stack, budget=0.02)
    assert [step.places for step in steps][-1] == (0,) and len(steps) == 3
    for step in steps:
        answer = step.ensemble.logits(stack[0][list(step.places)]).argmax(1)
        assert step.accuracy == accuracy_score(stack[1], answer)
        assert step.accuracy >= steps[0].accuracy - 0.02
    with pytest.raises(ValueError, match="needs images"):
        pruned(fit_on(stack), stack[0][:, :0], stack[1][:0], 0.1)


def test_the_budget_is_kept(stack: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = stack
    halves = (
        np.where(np.arange(500)[:, None] < 250, logits[0], 0),
        np.where(np.arange(500)[:, None] < 250, 0, logits[0]),
    )
    both = np.stack(halves)  # each knows one half of the images: neither can go

    def fit(places: tuple[int, ...]) -> Ensemble:
        return Ensemble.fit(tuple("ab"[p] for p in places), "mean_logit", both[list(places)], labels)

    assert [step.places for step in pruned(fit, both, labels, 0.05)] == [(0, 1)]
    assert pruned(fit, both, labels, 0.9)[-1].places in ((0,), (1,))


def test_of_a_run(trained: RunFolder, tmp_path: Path, run_cli: Octavo) -> None:
    run = RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))
    run.ensemble = replace(run.ensemble, weights=(0.4, 0.3, 0.3))
    regrade(run)
    before = run.metrics
    report = prune(run, 99.0)
    assert run.metrics == before and [len(step.members) for step in report.steps] == [3, 2, 1]
    assert report.steps[0].loss.value == 0 and not report.flattered and report.scored == len(run.labels("val"))
    code, out, error = run_cli("ensemble", "prune", run.path, "--budget", 99, "--apply")
    assert code == 0 and "1 member left in the ensemble" in out, error
    (left,) = report.steps[-1].members
    weights = dict(zip(run.ensemble.names, run.ensemble.weights, strict=True))
    assert weights == {name: float(name == left) for name in weights}
    after = run.metrics
    assert isinstance(after, Report) and len(after.systems) == 4
    alone = next(s for s in after.systems if s.name == left)
    assert after.ensemble.metrics["accuracy"].value == alone.metrics["accuracy"].value
    assert after.ensemble.metrics["accuracy"].value == report.steps[-1].accuracy.value
    subject = subject_of(run)
    page = page_of(subject, task_of(run.recipe).summary(subject), ())
    facts = {fact.label: fact.text for fact in page.facts}
    idle = ", ".join(name for name in weights if name != left)
    assert page.lead.startswith("An ensemble of 3 networks, 1 of which has a weight, trained")
    assert facts["networks"].endswith(f"; pruned: {idle}")
    run.unprune()
    run.ensemble = replace(run.ensemble, weights=(0.5, 0.5, 0.0))
    run.prune(replace(run.ensemble, weights=(0.0, 1.0, 0.0)))
    facts = {fact.label: fact.text for fact in page_of(subject, task_of(run.recipe).summary(subject), ()).facts}
    first, _, last = run.ensemble.names
    assert facts["networks"].endswith(f"; without a weight: {last}; pruned: {first}")


def test_a_loss_that_is_surely_above_the_budget_is_told(trained: RunFolder) -> None:
    report = prune(trained, 99.0)
    lost = report.steps[-1].loss
    surely = lost.model_copy(update={"value": 0.02, "low": 0.01, "high": 0.03})
    for p, budget, told in (0.01, 0.005, True), (None, 0.005, True), (0.06, 0.005, False), (0.01, 0.015, False):
        last = report.steps[-1].model_copy(update={"loss": surely, "p": p})
        found = report.model_copy(update={"budget": budget, "steps": (*report.steps[:-1], last)})
        assert ("loses 2.00 points (1.00 to 3.00), surely more than the budget" in found.beware) == told


def test_a_pruned_run_stays_so(trained: RunFolder, digits_folder: Path, tmp_path: Path, run_cli: Octavo) -> None:
    run = RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))
    was = run.ensemble
    assert run.unpruned is None
    run.prune(replace(was, weights=(1.0, 0.0, 0.0)))
    run.prune(replace(was, weights=(0.0, 1.0, 0.0)))
    assert run.unpruned == was and run.ensemble.weights == (0.0, 1.0, 0.0)
    code, _, error = run_cli("train", "--resume", "--out", run.path, "--no-report")
    assert code == 0 and run.ensemble.weights == (0.0, 1.0, 0.0), error
    assert run_cli("ensemble", "prune", run.path, "--apply", "--undo")[0] == 2
    code, out, _ = run_cli("ensemble", "prune", run.path, "--undo")
    assert code == 0 and "as training left it" in out and run.ensemble == was and run.unpruned is None
    assert run.metrics == trained.metrics
    code, _, error = run_cli("ensemble", "prune", run.path, "--undo")
    assert code == 2 and "as training left it already" in error
    code, out, error = run_cli("ensemble", "prune", run.path, "--budget", 0.2)
    assert code == 0, error
    said = " ".join(out.split())
    assert "beware: 0.2 points are less than one of the 40 images that it is chosen by (2.50 points)" in said


def test_what_can_not_be_pruned(trained: RunFolder, segmented: RunFolder) -> None:
    with pytest.raises(UserError, match="from 0 to 100"):
        prune(trained, -0.1)
    with pytest.raises(UserError, match="segment"):
        prune(segmented, 0.2)
