"""The looks there are, in the order in which a report shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from octavo.looks.classes import classes
from octavo.looks.confusion import confused_pixels, confusion
from octavo.looks.cost import cost
from octavo.looks.history import history
from octavo.looks.look import Drawing
from octavo.looks.members import members
from octavo.looks.networks import networks, segmenter
from octavo.looks.reliability import reliability
from octavo.looks.stages import stages
from octavo.looks.subject import ClassifySubject, SegmentSubject


@dataclass(frozen=True)
class Way:
    """A way to look at a run.

    Attributes:
        draw: from the subject to a drawing; None where there is nothing to see.
        thorough: whether it runs networks or takes long, so that a report at the end of training goes without.
    """

    draw: Callable[[Any], Drawing | None]
    thorough: bool = False


CLASSIFY: dict[str, Way] = {
    "confusion": Way(confusion),
    "classes": Way(classes),
    "reliability": Way(reliability),
    "members": Way(members),
    "cost": Way(cost, thorough=True),
    "history": Way(history),
    "networks": Way(networks),
}
SEGMENT: dict[str, Way] = {
    "stages": Way(stages),
    "confusion": Way(confused_pixels),
    "history": Way(history),
    "networks": Way(segmenter),
}


def looks_at(subject: ClassifySubject | SegmentSubject) -> dict[str, Way]:
    """Return the ways to look at a run, by the name of the look."""
    return SEGMENT if isinstance(subject, SegmentSubject) else CLASSIFY
