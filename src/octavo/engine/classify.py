"""How a member of an ensemble of classifiers is trained: its input, its cached features, its logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from octavo.data.batches import PixelRows, Source
from octavo.engine.extracted import extracted, inputs_of, own
from octavo.engine.goals import ClassifyGoal, DistilGoal
from octavo.engine.graphs import Replayed
from octavo.engine.infer import outputs
from octavo.engine.job import Job, Prepared
from octavo.engine.member_folder import MemberFolder
from octavo.engine.task import FeatureInputs, Ways
from octavo.engine.teacher import Taught, answers_of, teacher_of
from octavo.errors import UserError
from octavo.networks.backbone import parameters
from octavo.networks.build import start_member
from octavo.networks.fold import halves
from octavo.networks.loading import LoadReport
from octavo.networks.member import MemberNet
from octavo.progress import Progress

Outputs = Mapping[str, np.ndarray]


def prepare(job: Job, progress: Progress) -> Prepared:
    """Return the member as its training starts, and its batches: stored pixels, or cached features of its extractor."""
    recipe, member = own(job)
    return prepared_for(job, *start_member(member, recipe, job.classes, job.weights_dir, fold=job.fold), progress)


def prepared_for(job: Job, net: MemberNet, origin: LoadReport | None, progress: Progress) -> Prepared:
    """Return what trains `net`, which starts from the file `origin`."""
    inputs, train, (recipe, member) = inputs_of(job), job.train, own(job)
    goal = ClassifyGoal(job.classes, class_weights(job), train.label_smoothing)
    source: Source = PixelRows(job.pixels)
    ways: Ways = inputs
    trained: nn.Module = net
    if train.mode == "frozen" and train.cache:
        parts = halves(net.backbone, net.head, member.pool, train)
        source = extracted(job, net, parts, inputs, origin.sha256 if origin else None, progress)
        ways, trained = FeatureInputs(parts.pooling), parts.head
    if teacher := teacher_of(recipe):
        ways = Taught(ways, answers_of(job, teacher, progress))
        goal = DistilGoal(goal, recipe.distil.temperature, recipe.distil.weight)
    return Prepared(net, trained, source, ways, goal, job.labels, train.batch_size, origin)


def outputs_of(job: Job, prepared: Prepared, best: nn.Module, folder: MemberFolder, progress: Progress) -> Outputs:
    """Return the logits float32 [n,C] of every part but the one that was trained on.

    Raises:
        UserError: they aren't finite.
    """
    replayed = Replayed(best)
    logits = {
        part: outputs(
            replayed,
            prepared.ways.plain,
            prepared.in_order(indices),
            job.hardware.device,
            bf16=job.bf16,
            progress=progress,
            what=f"{job.title}: {part}",
        )
        for part, indices in job.parts.items()
        if part != "fit" and len(indices)
    }
    if not all(np.isfinite(values).all() for values in logits.values()):
        raise UserError(f"member {job.title}: its outputs are not finite, its training diverged; lower train.lr")
    return logits


def facts_of(job: Job, prepared: Prepared) -> dict[str, Any]:
    """Return what must be known of a trained member to use it."""
    inputs, net = inputs_of(job), prepared.net
    assert isinstance(net, MemberNet)
    return {
        "backbone": job.member.backbone,
        "features": net.backbone.features,
        "classes": job.classes,
        "size": inputs.size,
        "resize": inputs.resize,
        "mean": inputs.mean,
        "std": inputs.std,
        "parameters": {"backbone": parameters(net.backbone), "head": parameters(net.head)},
    }


def class_weights(job: Job) -> Tensor | None:
    """Return float32 [C], or None: given, or n / (C × count) over the training images."""
    given = job.train.class_weights
    if given == "none":
        return None
    if given != "balanced":
        return torch.tensor(given, dtype=torch.float32)
    return balanced(np.bincount(job.labels[job.parts["fit"]], minlength=job.classes))


def balanced(counts: np.ndarray) -> Tensor:
    """Return float32 [C]: n / (C × count), as scikit-learn's class_weight="balanced"; absent classes as if once."""
    return torch.from_numpy(counts.sum() / (len(counts) * np.maximum(counts, 1))).float()
