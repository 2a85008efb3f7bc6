"""What the training of one member depends on, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from octavo.data.augment import RENDER
from octavo.data.batches import PixelRows, Source
from octavo.data.inputs import Inputs
from octavo.data.store import Pixels
from octavo.engine.features import VIEW_EPOCH, cached, key_of
from octavo.engine.hardware import Hardware
from octavo.engine.infer import ready
from octavo.engine.task import FeatureInputs, Ways
from octavo.keyed import seed_of
from octavo.networks import weights
from octavo.networks.member import MemberNet
from octavo.progress import Progress
from octavo.recipe import Member, Recipe, Train


@dataclass(frozen=True)
class Job:
    """All that the training of one member depends on.

    Attributes:
        recipe: the resolved recipe.
        member: which of its members.
        classes: number of classes C.
        labels: int64 [N], class ids of all images.
        parts: part of the data (`fit`, `holdout`, `val`, `test`) → int64 indices.
        pixels: the stored images.
        weights_dir: folder of weight files, searched first.
        cache: folder for features.
        hardware: what to compute on.
        tensorboard: folder for TensorBoard's event files, or None.
    """

    recipe: Recipe
    member: Member
    classes: int
    labels: np.ndarray
    parts: Mapping[str, np.ndarray]
    pixels: Pixels
    weights_dir: Path | None
    cache: Path
    hardware: Hardware
    tensorboard: Path | None = None

    @property
    def train(self) -> Train:
        """The member's own training settings."""
        return self.recipe.train_of(self.member)

    @property
    def seed(self) -> int:
        """The key of everything random in this member's training."""
        return seed_of(self.recipe.seed, self.member.name)

    @property
    def bf16(self) -> bool:
        """Whether networks compute in bfloat16."""
        return self.train.precision == "bf16"


def inputs_of(job: Job) -> Inputs:
    """Return how stored images become this member's input."""
    data = job.recipe.data
    mean, std = weights.normalization(job.member) if data.normalize == "weights" else ((0.0,) * 3, (1.0,) * 3)
    return Inputs(
        job.recipe.size_of(job.member),
        data.resize,
        mean,
        std,
        job.recipe.augment,
        job.seed,
        job.classes,
        job.train.channels_last,
    )


def prepare(
    job: Job, net: MemberNet, inputs: Inputs, sha256: str | None, progress: Progress
) -> tuple[Source, Ways, nn.Module]:
    """Return where batches come from, how they become inputs, and what is trained on them."""
    source = PixelRows(job.pixels)
    train, member = job.train, job.member
    if train.mode == "finetune" or not train.cache:
        return source, inputs, net
    # Not the member's own seed: members with one extractor share its features.
    fixed = replace(inputs, seed=seed_of("views", job.recipe.seed))
    views = {"views": train.views, "augment": job.recipe.augment.model_dump(), "seed": fixed.seed}
    key = key_of(
        backbone=member.backbone,
        pool=member.pool,
        weights=sha256 or f"init {job.recipe.seed} {member.name} {member.zero_init_residual}",
        size=inputs.size,
        resize=inputs.resize,
        mean=inputs.mean,
        std=inputs.std,
        pixels=job.pixels.digest,
        precision=train.precision,
        channels_last=train.channels_last,
        render=RENDER,
        torch=torch.__version__,
        torchvision=torchvision.__version__,
        device=job.hardware.kind,
        views=views if train.views > 1 else None,
    )
    ways = [inputs.plain, *(lambda b, v=v: fixed.augmented(b, VIEW_EPOCH + v) for v in range(1, train.views))]
    wanted = np.setdiff1d(np.arange(len(job.pixels)), np.array(sorted(job.pixels.broken), np.int64))
    backbone = ready(net.backbone, job.hardware.device, train.channels_last)

    def told(what: str, done: int, total: int, note: str = "") -> None:
        progress(f"{member.name}: {what}", done, total, note)

    features = cached(
        job.cache,
        key,
        backbone,
        net.backbone.features,
        source,
        wanted,
        len(job.pixels),
        ways,
        job.seed,
        device=job.hardware.device,
        bf16=job.bf16,
        progress=told,
    )
    net.backbone.cpu()
    return features, FeatureInputs(), net.head


def class_weights(job: Job) -> Tensor | None:
    """Return float32 [C], or None: given, or n / (C × count) over the training images."""
    given = job.train.class_weights
    if given == "none":
        return None
    if given != "balanced":
        return torch.tensor(given, dtype=torch.float32)
    counts = np.bincount(job.labels[job.parts["fit"]], minlength=job.classes)
    return torch.from_numpy(counts.sum() / (job.classes * np.maximum(counts, 1))).float()
