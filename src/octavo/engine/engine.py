"""Where networks are trained: one after another on this machine, each a function of its job and its folder."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from octavo.engine.bag import bag
from octavo.engine.checkpoint import Stop, save_net
from octavo.engine.fit import chosen, fit
from octavo.engine.infer import ready
from octavo.engine.job import Job, Prepared
from octavo.engine.member_folder import MemberFolder
from octavo.engine.watch import Watch
from octavo.errors import UserError
from octavo.progress import Progress, Say, unsaid


class TrainingHooks(Protocol):
    """What a task does in its own way when a network is trained; see `octavo.tasks.base.Task`."""

    def prepare(self, job: Job, progress: Progress) -> Prepared:
        """Return the network as its training starts, its batches and what is minimised."""
        ...

    def callbacks(self, job: Job, prepared: Prepared, folder: MemberFolder) -> Sequence[Callback]:
        """Return what looks on while it is trained."""
        ...

    def outputs(
        self, job: Job, prepared: Prepared, best: nn.Module, folder: MemberFolder, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """Return what the trained network says of the parts that weren't trained on: arrays to keep."""
        ...

    def facts(self, job: Job, prepared: Prepared) -> dict[str, Any]:
        """Return what must be known of the trained network to use it."""
        ...


def train_member(
    hooks: TrainingHooks, job: Job, folder: MemberFolder, progress: Progress, stop: Stop, say: Say = unsaid
) -> None:
    """Train one network in its folder, or one a fold, or go on with it; a finished one is left as it is.

    Raises:
        Damaged: a file of a finished one isn't what was written.
        Interrupted: the user asked to stop; the checkpoint is saved.
        UserError: weights that can't be had, a full disk.
    """
    if folder.finished:
        folder.check_all()
        folder.tidy()
        return
    if job.folds is not None and job.fold is None:
        for fold in range(job.recipe.folds):
            train_member(hooks, job.of_fold(fold), folder.fold(fold), progress, stop, say)
        bag(job, folder)
        return
    try:
        _train(hooks, job, folder, progress, stop, say)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"member {job.title}: out of {job.hardware.kind} memory with batches of {job.train.batch_size}; "
            "halve train.batch_size, and double train.accumulate to keep the same steps"
        ) from error
    gc.collect()  # trainer and network hold one another: gigabytes that would lie beside the next network's


def _train(hooks: TrainingHooks, job: Job, folder: MemberFolder, progress: Progress, stop: Stop, say: Say) -> None:
    with torch.random.fork_rng(devices=[]), job.hardware.steady():
        prepared = hooks.prepare(job, progress)
        watch = Watch(job.title, say)
        task = fit(job, folder, prepared, (*hooks.callbacks(job, prepared, folder), watch), progress, stop)
        best = ready(chosen(job, folder, task, prepared, progress), job.hardware.device)
        outputs = hooks.outputs(job, prepared, best, folder, progress)
    net = prepared.joined(best.cpu())
    weights = save_net(net.get_submodule("head") if job.head_alone else net, folder.weights)
    origin = prepared.origin
    facts = hooks.facts(job, prepared) | {
        "weights": origin and {"source": job.member.weights, "file": origin.path.name, "sha256": origin.sha256}
    }
    folder.finish(facts, outputs, task.history, weights)
