"""Pruning: the fewest members that keep an ensemble's accuracy within a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from octavo.numbers.ensemble import Ensemble

Fit = Callable[[tuple[int, ...]], Ensemble]
"""Places of members, ascending → the ensemble of these alone, its weights chosen anew."""


@dataclass(frozen=True)
class Subset:
    """An ensemble of some members.

    Attributes:
        places: of its members among all, ascending.
        ensemble: of these members.
        accuracy: on the images that it was chosen by, 0–1.
    """

    places: tuple[int, ...]
    ensemble: Ensemble
    accuracy: float


def pruned(fit: Fit, logits: ArrayLike, labels: ArrayLike, budget: float) -> list[Subset]:
    """Return ever smaller subsets, from all members to the smallest whose accuracy is within a budget of the best.

    Backward elimination: of the subsets with one member less the one with the highest accuracy goes on; of equals the
    one that lost the later member. (Among all 2^M subsets there may be a smaller one.)

    Args:
        fit: makes the ensemble of some members.
        logits: [M,N,C] of all members.
        labels: int [N].
        budget: share of the images by which accuracy may fall below that of all members, 0–1.

    Raises:
        ValueError: no images.
    """
    stack, truth = np.asarray(logits), np.asarray(labels)
    if not len(truth):
        raise ValueError("pruning needs images")

    def judged(places: tuple[int, ...]) -> Subset:
        ensemble = fit(places)
        return Subset(places, ensemble, float((ensemble.logits(stack[list(places)]).argmax(1) == truth).mean()))

    steps = [judged(tuple(range(len(stack))))]
    while len(steps[-1].places) > 1:
        smaller = [tuple(p for p in steps[-1].places if p != gone) for gone in steps[-1].places]
        # Of equals the first, which is that without the last member.
        best = max((judged(places) for places in reversed(smaller)), key=lambda subset: subset.accuracy)
        if best.accuracy < steps[0].accuracy - budget - 1e-12:
            break
        steps.append(best)
    return steps
