"""Where networks are trained: one after another on this machine, each a function of its job and its folder."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from octavo.engine import classify, material, scenes, segment
from octavo.engine.bag import bag
from octavo.engine.checkpoint import Stop, save_net
from octavo.engine.fit import chosen, fit
from octavo.engine.infer import ready
from octavo.engine.job import Job, Prepared
from octavo.engine.material import Material
from octavo.engine.member_folder import MemberFolder
from octavo.engine.watch import Watch
from octavo.errors import UserError
from octavo.progress import Progress, Say, unsaid


@dataclass(frozen=True)
class Craft:
    """What a task does in its own way.

    Attributes:
        material: recipe, data, layout, cache, whether to skip broken files → images, labels, parts.
        prepare: a job → the network, its batches and its goal.
        callbacks: what looks on while it is trained.
        outputs: what the trained network says of the parts that weren't trained on → arrays to keep.
        facts: what must be known of it to use it.
    """

    material: Callable[..., Material]
    prepare: Callable[[Job, Progress], Prepared]
    callbacks: Callable[[Job, Prepared, MemberFolder], Sequence[Callback]]
    outputs: Callable[[Job, Prepared, nn.Module, MemberFolder, Progress], Mapping[str, np.ndarray]]
    facts: Callable[[Job, Prepared], dict[str, Any]]


CRAFTS: Mapping[str, Craft] = {
    "classify": Craft(
        material.prepare, classify.prepare, lambda job, prepared, folder: (), classify.outputs_of, classify.facts_of
    ),
    "segment": Craft(scenes.prepare, segment.prepare, segment.callbacks, segment.outputs_of, segment.facts_of),
}
"""How each task trains a network, by the name that recipes give it."""


def train_member(job: Job, folder: MemberFolder, progress: Progress, stop: Stop, say: Say = unsaid) -> None:
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
            train_member(job.of_fold(fold), folder.fold(fold), progress, stop, say)
        bag(job, folder)
        return
    try:
        _train(job, folder, progress, stop, say)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"member {job.title}: out of {job.hardware.kind} memory with batches of {job.train.batch_size}; "
            "halve train.batch_size, and double train.accumulate to keep the same steps"
        ) from error
    gc.collect()  # trainer and network hold one another: gigabytes that would lie beside the next network's


def _train(job: Job, folder: MemberFolder, progress: Progress, stop: Stop, say: Say) -> None:
    craft = CRAFTS[job.recipe.task]
    with torch.random.fork_rng(devices=[]), job.hardware.steady():
        prepared = craft.prepare(job, progress)
        watch = Watch(job.title, say)
        task = fit(job, folder, prepared, (*craft.callbacks(job, prepared, folder), watch), progress, stop)
        best = ready(chosen(job, folder, task, prepared, progress), job.hardware.device)
        outputs = craft.outputs(job, prepared, best, folder, progress)
    net = prepared.joined(best.cpu())
    weights = save_net(net.get_submodule("head") if job.head_alone else net, folder.weights)
    origin = prepared.origin
    facts = craft.facts(job, prepared) | {
        "weights": origin and {"source": job.member.weights, "file": origin.path.name, "sha256": origin.sha256}
    }
    folder.finish(facts, outputs, task.history, weights)
