"""The learning rate as a function of the optimiser step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from octavo.recipe import Train

SCHEDULES: Mapping[str, Callable[[Train, int, int], float]] = {
    "constant": lambda train, step, total: 1.0,
    "step": lambda train, step, total: train.gamma ** (step // train.step_size),
    "cosine": lambda train, step, total: 0.5 * (1 + math.cos(math.pi * min(step / max(total, 1), 1.0))),
}


def factor(train: Train, step: int, batches: int) -> float:
    """Return what the learning rate is multiplied by at optimiser step `step` (0-based).

    `batches` is the number of batches in an epoch. Warm-up rises linearly from 1 % to 100 %; the schedule proper runs
    over the steps that follow it.
    """
    per_epoch = -(-batches // train.accumulate)
    warmup = round(train.warmup_epochs * per_epoch)
    if step < warmup:
        return 0.01 + 0.99 * step / warmup
    return SCHEDULES[train.schedule](train, step - warmup, train.epochs * per_epoch - warmup)
