"""How training went: loss, scores and learning rate by epoch."""

from __future__ import annotations

from octavo.looks.look import Drawing
from octavo.looks.subject import Subject
from octavo.pictures.curves import training_curves


def history(subject: Subject) -> Drawing:
    """Draw the curves of every network of a run, from `history.csv`."""
    names = [network.name for network in subject.run.recipe.networks]
    rows = [(name, row) for name in names for row in subject.run.member(name).history()]
    named = [{"member": name, **row} if len(names) > 1 else row for name, row in rows]
    held = any(key.startswith("holdout_") and value for row in named for key, value in row.items())
    caption = "A training loss that still falls at the end asks for more epochs" + (
        "; a held-out score (dashed) that falls while the training score rises is overfitting." if held else "."
    )
    return Drawing.single(
        training_curves(named),
        name="history",
        title="How training went",
        sees="Loss, scores and learning rate after every epoch."
        + (" Held-out images were taken from the training part." if held else ""),
        source="history.csv",
        caption=caption,
        alt="Training curves by epoch",
    )
