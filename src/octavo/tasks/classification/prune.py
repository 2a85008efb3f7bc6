"""A run → the fewest of its members that keep its accuracy within a budget."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.ensemble import CHOSEN, Ensemble
from octavo.numbers.exact import sign_test
from octavo.numbers.metrics import METRICS, accuracy_of
from octavo.numbers.prune import pruned
from octavo.numbers.speed_results import PruneReport, PruneStep
from octavo.progress import Progress, silent
from octavo.recipe import ClassifyRecipe
from octavo.tasks.classification.combination import has_part
from octavo.tasks.classification.evaluation import regrade

_PLACES = {"holdout": "the held-out share of the training images", "val": "the validation images"}


def prune(run: RunFolder, budget: float, *, apply: bool = False, progress: Progress = silent) -> PruneReport:
    """Return the smallest subset of a run's members that keeps its accuracy within a budget, and what it loses.

    Members are dropped one by one, those that are missed least first, and the others' weights chosen anew, on the
    images on which the run's ensemble was chosen. What that costs is told on the validation images, which nothing was
    chosen on.

    Args:
        run: a finished run of two classifiers or more.
        budget: points of accuracy that may be lost on the images that members are chosen by, 0–100.
        apply: give the dropped members no weight from now on, and grade the run anew. Their files stay, and
            `octavo evaluate` still shows them; a cascade that was fitted before has to be fitted again.
        progress: told how far the new grading is.

    Raises:
        UserError: a budget out of range, one member, a segmenter, or no held-out images.
    """
    if not 0 <= budget < 100:
        raise UserError(f"--budget {budget:g}: expected points of accuracy from 0 to 100, such as 0.2")
    recipe = run.recipe_as(ClassifyRecipe)
    names, part = run.ensemble.names, recipe.ensemble.fit_on
    if len(names) < 2:
        raise UserError(f"{run.path}: one member; there is nothing to drop")
    if apply:
        run.require_writable()
    if not has_part(run, part):
        raise UserError(f"{run.path}: no held-out images to choose members by; train with data.holdout or data.folds")
    logits, labels = run.outputs(part), run.labels(part)

    def fit(places: tuple[int, ...]) -> Ensemble:
        own, spec = tuple(names[p] for p in places), recipe.ensemble
        combine = "mean_logit" if spec.combine in CHOSEN and len(own) == 1 else spec.combine
        given = {name: spec.weights.get(name, 0.0) for name in own} if spec.weights else None
        if given is not None and not any(given.values()):
            given = dict.fromkeys(own, 1.0)
        return Ensemble.fit(
            own, combine, logits[list(places)], labels, rounds=spec.rounds, given=given, calibration=spec.calibration
        )

    steps = pruned(fit, logits, labels, budget / 100)
    report = _tried(run, names, [(step.ensemble, step.accuracy) for step in steps], budget, part, len(labels))
    if apply:
        run.prune(_all(steps[-1].ensemble, names, run.ensemble))
        regrade(run, progress=progress)
    return report


def undo(run: RunFolder, *, progress: Progress = silent) -> None:
    """Give a pruned run the ensemble back that training left, and grade it anew.

    Raises:
        UserError: it wasn't pruned.
    """
    if run.unpruned is None:
        raise UserError(f"{run.path}: its ensemble is as training left it already")
    run.unprune()
    regrade(run, progress=progress)


def _all(subset: Ensemble, names: tuple[str, ...], before: Ensemble) -> Ensemble:
    """Return a subset as an ensemble of all members, the dropped ones without weight; each alone answers as before."""
    shares = dict(zip(subset.names, subset.weights, strict=True))
    weights = tuple(shares.get(name, 0.0) for name in names)
    combine = subset.combine if subset.combine in CHOSEN else before.combine
    return replace(subset, names=names, combine=combine, weights=weights, own=before.own)


def _above_budget(whole: np.ndarray, left: np.ndarray, budget: float) -> float:
    """Return the exact p of a loss above the budget, from bool [n]: as many images as it allows count as won back."""
    lost, won = int((whole & ~left).sum()), int((left & ~whole).sum())
    return sign_test(lost, won + math.ceil(budget / 100 * len(whole)))


def _tried(
    run: RunFolder,
    names: tuple[str, ...],
    steps: list[tuple[Ensemble, float]],
    budget: float,
    part: str,
    chosen_by: int,
) -> PruneReport:
    """Return what each subset scores on the validation images, and loses against all members, on the same resamples."""
    logits, labels = run.outputs("val"), run.labels("val")
    boot = Bootstrap(labels, groups=run.groups("val"))
    called = [one.logits(logits[[names.index(n) for n in one.names]]).argmax(1) for one, _ in steps]
    draws = boot.draw({k: accuracy_of(answer, labels) for k, answer in enumerate(called)})
    return PruneReport(
        budget=budget / 100,
        chosen_by=chosen_by,
        scored=len(labels),
        steps=tuple(
            PruneStep(
                members=one.names,
                chosen=accuracy,
                accuracy=boot.interval(draws[k], METRICS["accuracy"]),
                loss=boot.difference(draws[0], draws[k], same=bool((called[0] == called[k]).all())),
                p=_above_budget(called[0] == labels, called[k] == labels, budget),
            )
            for k, (one, accuracy) in enumerate(steps)
        ),
        flattered=part == "val",
        rule=f"Members are dropped one by one, the least missed first, and weights chosen anew, by accuracy on "
        f"{_PLACES[part]}; scored on the validation images. {boot.rule}",
    )
