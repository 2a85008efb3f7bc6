"""The looks there are, in the order in which a report shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from octavo.looks.card import card
from octavo.looks.classes import classes
from octavo.looks.confusion import confused_pixels, confusion
from octavo.looks.cost import cost
from octavo.looks.embedding import embedding, network_seconds
from octavo.looks.gradcam import gradcam
from octavo.looks.history import history
from octavo.looks.iou import classes_of_masks, epochs
from octavo.looks.leaks import leaks
from octavo.looks.look import Drawing
from octavo.looks.members import members
from octavo.looks.mistakes import mistakes
from octavo.looks.networks import networks, segmenter
from octavo.looks.reliability import reliability
from octavo.looks.scenes import scenes
from octavo.looks.speed import speed
from octavo.looks.stability import stability
from octavo.looks.stages import stages
from octavo.looks.subject import ClassifySubject, SegmentSubject
from octavo.looks.suspects import suspects
from octavo.looks.trust import trust
from octavo.looks.worst import worst


@dataclass(frozen=True)
class Way:
    """A way to look at a run.

    Attributes:
        draw: from the subject to a drawing; None where there is nothing to see.
        thorough: whether it runs networks or takes long in any case, so that a report goes without.
        seconds: subject → about how long it would run networks, where that depends on what is at hand.
        of: what it shows that may change in a finished run, as `RunFolder.state` calls it.
    """

    draw: Callable[[Any], Drawing | None]
    thorough: bool = False
    seconds: Callable[[Any], float] = lambda _: 0.0
    of: tuple[str, ...] = ()


_ENSEMBLE = ("ensemble",)
CLASSIFY: dict[str, Way] = {
    "confusion": Way(confusion, of=_ENSEMBLE),
    "classes": Way(classes, of=_ENSEMBLE),
    "reliability": Way(reliability, of=_ENSEMBLE),
    "trust": Way(trust, of=_ENSEMBLE),
    "leaks": Way(leaks, of=_ENSEMBLE),
    "members": Way(members, of=_ENSEMBLE),
    "mistakes": Way(mistakes, of=_ENSEMBLE),
    "suspects": Way(suspects, of=_ENSEMBLE),
    "embedding": Way(embedding, seconds=network_seconds, of=_ENSEMBLE),
    "stability": Way(stability, thorough=True),
    "gradcam": Way(gradcam, thorough=True, of=_ENSEMBLE),
    "speed": Way(speed, of=(*_ENSEMBLE, "cascade", "precision", "distil")),
    "cost": Way(cost, thorough=True, of=(*_ENSEMBLE, "precision")),
    "history": Way(history),
    "networks": Way(networks),
}
SEGMENT: dict[str, Way] = {
    "stages": Way(stages),
    "classes": Way(classes_of_masks),
    "scenes": Way(scenes),
    "worst": Way(worst),
    "leaks": Way(leaks),
    "card": Way(card),
    "epochs": Way(epochs),
    "confusion": Way(confused_pixels),
    "history": Way(history),
    "networks": Way(segmenter),
}


def looks_at(subject: ClassifySubject | SegmentSubject) -> dict[str, Way]:
    """Return the ways to look at a run, by the name of the look."""
    return SEGMENT if isinstance(subject, SegmentSubject) else CLASSIFY
