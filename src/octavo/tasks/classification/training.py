"""How a member of an ensemble of classifiers is trained: its input, its cached features, its logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from octavo.data.batches import PixelRows, Source
from octavo.engine.cross_entropy import balanced
from octavo.engine.extracted import extracted, inputs_of, own
from octavo.engine.folder import RunFolder
from octavo.engine.goals import ClassifyGoal, DistilGoal
from octavo.engine.graphs import Replayed
from octavo.engine.infer import outputs
from octavo.engine.job import Job, Prepared
from octavo.engine.material import Material
from octavo.engine.member_folder import MemberFolder
from octavo.engine.task import FeatureInputs, Ways
from octavo.engine.teacher import teacher_of
from octavo.errors import UserError
from octavo.networks.backbone import parameters
from octavo.networks.build import start_member
from octavo.networks.fold import halves
from octavo.networks.loading import LoadReport
from octavo.networks.member import MemberNet
from octavo.numbers.ensemble import CHOSEN
from octavo.numbers.grade_rule import FEW_TO_CALIBRATE
from octavo.progress import Progress
from octavo.recipe import ClassifyRecipe
from octavo.tasks.classification.teacher import Taught, answers_of
from octavo.words import counted

FEW_HELD_OUT = 200
"""Held-out images below which a user is told that they choose the ensemble's weights."""
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
        assert isinstance(recipe, ClassifyRecipe)
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


def few_held_out(recipe: ClassifyRecipe, material: Material) -> str:
    """Say so where the ensemble's weights or temperatures are fitted on few images, and what would give them more."""
    held, spec = material.counts.get("holdout", 0), recipe.ensemble
    if recipe.folds or spec.fit_on != "holdout" or not held:
        return ""
    if len(recipe.members) > 1 and spec.combine in CHOSEN and held < FEW_HELD_OUT:
        work = "choose the ensemble's weights" + (" and calibrate the probabilities" if held < FEW_TO_CALIBRATE else "")
    elif spec.calibration != "none" and held < FEW_TO_CALIBRATE:
        work = "calibrate the probabilities"
    else:
        return ""
    return (
        f"{counted(held, 'held-out image')} will {work}; with --set data.folds=5 all training images do, for five "
        "times the training of heads or networks"
    )


def result_of(run: RunFolder, job: Job, name: str) -> str:
    """Return in one line a member's accuracy on held-out images, or on validation images where none are held out."""
    assert isinstance(job.labels, np.ndarray)
    part = "holdout" if len(job.parts["holdout"]) else "val"
    held = "training images, out of fold" if job.recipe.folds else "held-out training images"
    words = {"holdout": held, "val": "validation images"}[part]
    truth = job.labels[job.parts[part]]
    right = float(np.mean(run.member(name).outputs()[part].argmax(1) == truth))
    constant = np.bincount(truth).max() / len(truth)
    worse = f"; worse than always naming the commonest class ({constant:.3f})" if right < constant else ""
    return f"{name}: accuracy {right:.3f} on {len(truth):,} {words}{worse}"
