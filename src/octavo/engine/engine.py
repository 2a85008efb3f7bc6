"""Where members are trained: one after another on this machine, each a function of its job and its folder."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from octavo.data.batches import in_order
from octavo.engine.checkpoint import Stop, save_net
from octavo.engine.fit import chosen, fit
from octavo.engine.folder import MemberFolder
from octavo.engine.infer import outputs, ready
from octavo.engine.job import Job, inputs_of, prepare
from octavo.errors import UserError
from octavo.networks.build import start_member
from octavo.progress import Progress


def train_member(job: Job, folder: MemberFolder, progress: Progress, stop: Stop) -> None:
    """Train one member in its folder, or go on with it; a finished one is left as it is.

    Raises:
        Interrupted: the user asked to stop; the checkpoint is saved.
        UserError: weights that can't be had, a full disk.
    """
    if folder.finished:
        folder.tidy()
        return
    try:
        _train(job, folder, progress, stop)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"member {job.member.name}: out of {job.hardware.kind} memory with batches of {job.train.batch_size}; "
            "halve train.batch_size, and double train.accumulate to keep the same steps"
        ) from error


def _train(job: Job, folder: MemberFolder, progress: Progress, stop: Stop) -> None:
    with torch.random.fork_rng(devices=[]):
        net, origin = start_member(job.member, job.recipe, job.classes, job.weights_dir)
        inputs = inputs_of(job)
        source, ways, trained = prepare(job, net, inputs, origin.sha256 if origin else None, progress)
        task = fit(job, folder, trained, source, ways, progress, stop)
        best = ready(chosen(job, folder, task, source, ways, progress), job.hardware.device)
        logits = {
            part: outputs(
                best,
                ways.plain,
                in_order(source, indices, job.labels, job.train.batch_size),
                job.hardware.device,
                bf16=job.bf16,
                progress=progress,
                what=f"{job.member.name}: {part}",
            )
            for part, indices in job.parts.items()
            if part != "fit" and len(indices)
        }
    if not all(np.isfinite(values).all() for values in logits.values()):
        raise UserError(f"member {job.member.name}: its outputs are not finite, its training diverged; lower train.lr")
    best = best.cpu()
    if trained is net.head:
        net.head = best  # pyright: ignore[reportAttributeAccessIssue]
        best = net
    save_net(best, folder.weights)
    facts = {
        "backbone": job.member.backbone,
        "features": net.backbone.features,
        "classes": job.classes,
        "size": inputs.size,
        "resize": inputs.resize,
        "mean": inputs.mean,
        "std": inputs.std,
        "weights": {"source": job.member.weights, "file": origin.path.name, "sha256": origin.sha256}
        if origin
        else None,
        "parameters": {"backbone": _count(net.backbone), "head": _count(net.head)},
    }
    folder.finish(facts, logits, task.history)


def _count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())
