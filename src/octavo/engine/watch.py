"""Trainings that go nowhere, told while they run."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytorch_lightning as pl
from torch.nn.modules.batchnorm import _BatchNorm

from octavo.progress import Say, unsaid

NEAR = 0.02
"""A loss that differs from that of guessing by less than this share of it is still there."""
ENOUGH = 20
"""Steps after which a network should have left the loss of guessing."""
LEARNED, GUESSED = 0.6, 1.5
"""Right on this share of the training images, but held out at less than this many times as many as by guessing."""


class Watch(pl.Callback):
    """Tells a user, once each, what the numbers of an epoch say is wrong."""

    def __init__(self, name: str, say: Say) -> None:
        self.name, self.say = name, say
        self.near, self.told = 0, set[str]()

    def state_dict(self) -> dict[str, Any]:
        """Return how long the loss has been that of guessing, and what was told: it isn't told again after a resume."""
        return {"near": self.near, "told": sorted(self.told)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.near, self.told = state_dict["near"], set(state_dict["told"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Look at the epoch's numbers."""
        if not trainer.is_global_zero:
            return
        goal, epoch = pl_module.goal, int(pl_module.current_epoch) + 1
        row = goal.trained(pl_module.tally) | goal.held()  # the history's row is written after callbacks are called
        # With other losses than a plain cross-entropy, the held-out images tell, whose loss always is one.
        name = "train_loss" if goal.plain else "holdout_loss"
        if name in row:
            self.near = self.near + 1 if abs(row[name] - goal.chance) < NEAR * goal.chance else 0
        if self.near >= 2 and trainer.global_step >= ENOUGH:
            self._tell(
                "stuck",
                f"loss {row[name]:.3f} after epoch {epoch} is still that of guessing (ln C = {goal.chance:.3f}): "
                f"nothing is learned. Try {goal.cure}",
            )
        right, held, guessed = row.get("train_accuracy"), row.get("holdout_accuracy"), math.exp(-goal.chance)
        if right is None or held is None or pl_module.train_spec.reestimate_norm:
            return
        if not any(isinstance(m, _BatchNorm) and m.training for m in pl_module.net.modules()):
            return  # none, or none whose statistics move
        if right > max(LEARNED, 3 * guessed) and held < GUESSED * guessed:
            self._tell(
                "norm",
                f"accuracy {right:.2f} on training images, but {held:.2f} held out after epoch {epoch}: often the "
                "running statistics of batch norm lag behind in a short training; try train.reestimate_norm = true",
            )

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process, where a function that can't travel says nothing."""
        try:
            pickle.dumps(self.say)
        except (pickle.PicklingError, AttributeError, TypeError):
            return self.__dict__ | {"say": unsaid}
        return self.__dict__

    def _tell(self, what: str, text: str) -> None:
        if what not in self.told:
            self.told.add(what)
            self.say(f"{self.name}: {text}")
