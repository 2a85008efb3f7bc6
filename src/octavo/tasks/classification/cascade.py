"""A run → a cascade of its members: most images are answered by the first few, within a budget of accuracy."""

from __future__ import annotations

import numpy as np

from octavo.engine.cascaded import several
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import find
from octavo.engine.sets import first_half, require_clean
from octavo.errors import UserError
from octavo.looks.cost import costs_of
from octavo.looks.subject import ClassifySubject
from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.cascade import (
    NEVER,
    Cascade,
    answers_of,
    confidences,
    expected,
    fit_cautiously,
    folds_of,
    prefixes_of,
    stopped,
)
from octavo.numbers.metrics import METRICS, accuracy_of
from octavo.numbers.speed_results import CascadeReport, CascadeStep
from octavo.progress import Progress, silent
from octavo.tasks.known import subject_of

_RULE = (
    "Members are timed here and ordered by the time that each adds; what several share runs once. An image stops at "
    "the first prefix of the ensemble whose calibrated confidence reaches a threshold. Thresholds are fitted on one "
    "half of the validation images, drawn within each class, or by whole groups where there are some, so that neither "
    "the accuracy counted there nor the one which the whole ensemble's probabilities expect falls by more than the "
    "budget."
)

_KEPT = "Images that they were not fitted to keep it too, by one standard error in cross-validation on that half."
_RAISED = (
    "Then they are raised, their distance to 1 times {:g}, as far as images that they were not fitted to need it to "
    "keep the budget by one standard error, in cross-validation on that half."
)
_NONE = (
    "None do that on images that they were not fitted to, by one standard error in cross-validation on that half, so "
    "that no image stops early."
)
_COUNTED = "Everything is counted on the other half."


def cascade(
    run: RunFolder, budget: float, *, data: str | None = None, device: str = "auto", progress: Progress = silent
) -> CascadeReport:
    """Fit a cascade to a run, write it into the run's `cascade.json`, and return how it does.

    Where none keeps the budget (`found` is false) nothing is written.

    Args:
        run: a finished run of two classifiers with weight or more.
        budget: points of accuracy that may be lost, 0–100, on the images that thresholds are fitted on.
        data: where the run's data are now; None: where they were.
        device: where members are timed.
        progress: told how far it is.

    Raises:
        UserError: a budget out of range, one member, a segmenter, data that are gone, or an ensemble that was chosen
            on its validation images.
    """
    run.require_writable()
    if not 0 <= budget < 100:
        raise UserError(f"--budget {budget:g}: expected points of accuracy from 0 to 100, such as 0.2")
    subject = subject_of(run, device, data=data, progress=progress)
    if not isinstance(subject, ClassifySubject):
        raise UserError(f"{run.path}: a segmenter; a cascade is of several classifiers")
    require_clean(run, "a cascade that is tried on them loses more than is told")
    ensemble, used = run.ensemble, several(run)
    timed = costs_of(subject, used)
    order, added = timed.in_order(used)
    held = run.outputs("holdout") if "holdout" in run.member(used[0]).outputs() else None
    prefixes = prefixes_of(ensemble, order, held, run.labels("holdout") if held is not None else None)
    answers, first = answers_of(prefixes, ensemble.names, subject.logits), first_half(run)
    if first.all() or first.sum() < 2:
        raise UserError(f"{run.path}: too few validation images to fit a cascade on one half and try it on the other")
    costs = np.cumsum(added)
    seen = answers[:, first]
    correct, groups = seen.argmax(2) == run.labels("val")[first], run.groups("val")
    alike = None if groups is None else groups[first]
    folds = folds_of(len(correct.T), run.recipe.seed, alike)
    if len(np.unique(folds)) < 2:
        raise UserError(f"{run.path}: too few validation images, or groups of them, to fit a cascade on one half")
    judged = np.stack([expected(seen), correct])
    thresholds, factor = fit_cautiously(confidences(seen), judged, correct, costs, budget / 100, folds, alike, progress)
    tried = _tried(run, order, answers[:, ~first], ~first, thresholds, costs, budget / 100, device, timed.beware)
    report = tried.model_copy(update={"rule": f"{_RULE} {_caution(factor)} {_COUNTED} {tried.rule}"})
    if report.found:
        kept = Cascade(prefixes, thresholds).to_dict()
        run.cascade = {
            "cascade": kept,
            "report": report.model_dump(mode="json"),
            "bf16": run.bf16_members(report.device),
        }
    return report


def _caution(factor: float) -> str:
    return _KEPT if factor == 1 else _RAISED.format(factor) if factor else _NONE


def _tried(
    run: RunFolder,
    order: list[str],
    answers: np.ndarray,
    scored: np.ndarray,
    thresholds: tuple[float, ...],
    costs: np.ndarray,
    budget: float,
    device: str,
    beware: str,
) -> CascadeReport:
    """Return how a cascade does on the images `scored`, bool [n], of which prefixes say `answers`, [K,N,C]."""
    labels, groups = run.labels("val")[scored], run.groups("val")
    boot = Bootstrap(labels, groups=None if groups is None else groups[scored])
    called, stops = answers.argmax(2), stopped(confidences(answers), thresholds)
    chosen = called[stops, np.arange(len(stops))]
    systems = {str(k): accuracy_of(one, labels) for k, one in enumerate(called)} | {
        "cascade": accuracy_of(chosen, labels)
    }
    draws, metric, last = boot.draw(systems), METRICS["accuracy"], str(len(order) - 1)
    steps = tuple(
        CascadeStep(
            member=name,
            milliseconds=float(costs[k]),
            accuracy=boot.interval(draws[str(k)], metric),
            threshold=None if k >= len(thresholds) or thresholds[k] >= NEVER else thresholds[k],
            stopped=float((stops == k).mean()),
        )
        for k, name in enumerate(order)
    )
    same = bool((chosen == called[-1]).all())
    return CascadeReport(
        budget=budget,
        fitted=int((~scored).sum()),
        scored=len(labels),
        steps=steps,
        whole=steps[-1].accuracy,
        accuracy=boot.interval(draws["cascade"], metric),
        loss=boot.difference(draws[last], draws["cascade"], same=same),
        milliseconds=float(costs[stops].mean()),
        whole_milliseconds=float(costs[-1]),
        device=find(device).kind,
        beware=beware,
        rule=boot.rule,
    )
