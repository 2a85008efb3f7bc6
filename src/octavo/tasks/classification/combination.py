"""Combination of a run's members, fitted on their stored outputs."""

from __future__ import annotations

import numpy as np

from octavo.engine.folder import RunFolder
from octavo.numbers.ensemble import CHOSEN, Ensemble
from octavo.recipe import ClassifyRecipe


def combine(run: RunFolder, fit_on: str | None = None) -> Ensemble:
    """Return the ensemble of a run's members, its weights and calibration fitted where the recipe says, or on a part.

    Where the members have no outputs of that part, nothing is fitted.
    """
    spec, names = run.recipe_as(ClassifyRecipe).ensemble, [m.name for m in run.recipe_as(ClassifyRecipe).members]
    part = fit_on or spec.fit_on
    logits = np.stack([run.member(name).outputs()[part] for name in names]) if has_part(run, part, names[0]) else None
    return Ensemble.fit(
        names,
        "mean_logit" if spec.combine in CHOSEN and len(names) == 1 else spec.combine,
        logits,
        run.labels(part) if logits is not None else None,
        rounds=spec.rounds,
        given=spec.weights or None,
        calibration=spec.calibration,
    )


def has_part(run: RunFolder, part: str, member: str | None = None) -> bool:
    """Whether a run's members have outputs of a part of its data."""
    return part in run.member(member or run.ensemble.names[0]).outputs()


def as_the_reference(recipe: ClassifyRecipe, honest: Ensemble, logits: np.ndarray, labels: np.ndarray) -> Ensemble:
    """Return the ensemble with weights and calibration chosen on the scored images, logits [M,n,C] and labels [n].

    The weights are those of plain greedy selection, which is what flatters elsewhere, the reference included.
    """
    combination = "caruana" if len(honest.names) > 1 else honest.combine
    return Ensemble.fit(
        honest.names,
        combination,
        logits,
        labels,
        rounds=recipe.ensemble.rounds,
        calibration=recipe.ensemble.calibration,
    )
