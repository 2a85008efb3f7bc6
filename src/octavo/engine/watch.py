"""Trainings that go nowhere, told while they run."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl

from octavo.progress import Say

NEAR = 0.02
"""A loss that differs from that of guessing by less than this share of it is still there."""
LEARNED, GUESSED = 0.6, 1.5
"""Right on this share of the training images, but held out at less than this many times as many as by guessing."""


class Watch(pl.Callback):
    """Tells a user, once each, what the numbers of an epoch say is wrong."""

    def __init__(self, name: str, say: Say) -> None:
        self.name, self.say = name, say
        self.near, self.told = 0, set[str]()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Look at the epoch's numbers."""
        if not trainer.is_global_zero:
            return
        goal, epoch = pl_module.goal, int(pl_module.current_epoch) + 1
        row = goal.trained(pl_module.tally) | goal.held()  # the history's row is written after callbacks are called
        if goal.chance is not None:
            self.near = self.near + 1 if abs(row["train_loss"] - goal.chance) < NEAR * goal.chance else 0
            if self.near >= 2:
                self._tell(
                    "stuck",
                    f"loss {row['train_loss']:.3f} after epoch {epoch} is still that of guessing (ln C = "
                    f"{goal.chance:.3f}): nothing is learned. Try a lower train.lr, train.clip_norm = 1, "
                    "train.warmup_epochs = 1, or segmenter.zero_scores = true",
                )
        right, held = row.get("train_accuracy"), row.get("holdout_accuracy")
        if right is None or held is None or goal.chance is None or pl_module.train_spec.reestimate_norm:
            return
        guessed = math.exp(-goal.chance)
        if right > max(LEARNED, 3 * guessed) and held < GUESSED * guessed:
            self._tell(
                "norm",
                f"accuracy {right:.2f} on training images, but {held:.2f} held out after epoch {epoch}: often the "
                "running statistics of batch norm lag behind in a short training; try train.reestimate_norm = true",
            )

    def _tell(self, what: str, text: str) -> None:
        if what not in self.told:
            self.told.add(what)
            self.say(f"{self.name}: {text}")
