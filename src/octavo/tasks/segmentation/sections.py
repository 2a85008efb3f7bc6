"""Sections of a segmentation report, in the order in which it shows them."""

from __future__ import annotations

from octavo.looks.card import card
from octavo.looks.confusion import confused_pixels
from octavo.looks.history import history
from octavo.looks.iou import classes_of_masks, epochs
from octavo.looks.leaks import leaks
from octavo.looks.look import Way
from octavo.looks.networks import segmenter
from octavo.looks.scenes import scenes
from octavo.looks.stages import stages
from octavo.looks.worst import worst

SECTIONS: dict[str, Way] = {
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
