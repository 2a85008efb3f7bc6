"""Sections of a classification report, in the order in which it shows them."""

from __future__ import annotations

from octavo.looks.classes import classes
from octavo.looks.confusion import confusion
from octavo.looks.cost import cost
from octavo.looks.embedding import embedding, network_seconds
from octavo.looks.gradcam import gradcam
from octavo.looks.history import history
from octavo.looks.leaks import leaks
from octavo.looks.look import Way
from octavo.looks.members import members
from octavo.looks.mistakes import mistakes
from octavo.looks.networks import networks
from octavo.looks.reliability import reliability
from octavo.looks.speed import speed
from octavo.looks.stability import stability
from octavo.looks.suspects import suspects
from octavo.looks.trust import trust

_ENSEMBLE = ("ensemble",)
SECTIONS: dict[str, Way] = {
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
