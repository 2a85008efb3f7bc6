"""A run's cascade at work: which one it is, and images that stop at the first members that are sure enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from octavo.data.batches import Batch
from octavo.engine.folder import RunFolder
from octavo.engine.infer import AT_ONCE
from octavo.engine.restore import Shared, Trained
from octavo.errors import UserError
from octavo.numbers.cascade import Cascade, confidences

_TOGETHER, _SIDE = 512, 256


def cascade_of(run: RunFolder) -> Cascade:
    """Return the cascade that was fitted to a run.

    Raises:
        UserError: none was, or can be, or the ensemble is another one by now.
    """
    kept = run.cascade
    budget = 0.2 if kept is None else 100 * kept["report"]["budget"]
    again = f"octavo ensemble cascade {run.path} --budget {budget:g}"
    several(run)
    if kept is None:
        raise UserError(f"{run.path}: no cascade yet; fit one by {again}")
    found, now = Cascade.from_dict(kept["cascade"], f"{run.path}/cascade.json"), run.ensemble.used
    last = found.prefixes[-1]
    then = dict(zip(last.names, last.weights, strict=True))
    if now.keys() != then.keys() or any(abs(now[name] - then[name]) > 1e-9 for name in now):
        raise UserError(f"{run.path}: its ensemble has changed since the cascade was fitted; fit it again by {again}")
    if "bf16" in kept and kept["bf16"] != run.bf16_members(kept["report"]["device"]):
        raise UserError(f"{run.path}: its members answer in another precision since; fit the cascade again by {again}")
    return found


def several(run: RunFolder) -> list[str]:
    """Return the members with a weight.

    Raises:
        UserError: there is one alone, of which no cascade can be.
    """
    used = list(run.ensemble.used)
    if len(used) < 2:
        raise UserError(f"{run.path}: a cascade needs two members with a weight; {_one_left(run, used[0])}")
    return used


def _one_left(run: RunFolder, name: str) -> str:
    """Return why an ensemble has one member with a weight, and what would give it more."""
    if len(run.ensemble.names) == 1:
        return f"the run has one member, {name}"
    if run.unpruned is not None:
        return f"only {name} has one since it was pruned: octavo ensemble prune {run.path} --undo"
    return f"only {name} has one: its recipe chose the weights, --set ensemble.combine=mean_logit gives one to all"


def together_of(side: int, device: torch.device) -> int:
    """Return how many images, stored with that shorter side, should go through the stages together.

    On a GPU the few that a stage leaves unsure cost as much as a full batch. Large images are fewer, for memory's sake.
    """
    if device.type != "cuda":
        return AT_ONCE
    return max(AT_ONCE, _TOGETHER * _SIDE**2 // max(side, _SIDE) ** 2)


def in_stages(stages: Cascade, trained: Sequence[Trained], batch: Batch) -> np.ndarray:
    """Return what a cascade says of a batch, float [B,C+1]: logits, and the number of the member an image stopped at.

    Each image is answered by the first prefix of the members that is sure enough.
    """
    shared = Shared(batch)
    known = shared.logits(trained[0])[None]  # [members so far, images that go on, C]
    answer = stages.prefixes[0].logits(known)
    going, last = np.arange(len(answer)), np.zeros(len(answer), answer.dtype)
    later = zip(trained[1:], stages.prefixes[1:], stages.thresholds, strict=True)
    for place, (net, prefix, threshold) in enumerate(later, 1):
        unsure = confidences(answer[going][None])[0] < threshold
        going, known = going[unsure], known[:, unsure]
        if not len(going):
            break
        if not unsure.all():
            shared = shared.some(np.flatnonzero(unsure))
        known = np.concatenate([known, shared.logits(net)[None]])
        answer[going], last[going] = prefix.logits(known), place
    return np.column_stack([answer, last])
