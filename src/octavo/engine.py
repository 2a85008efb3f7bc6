"""Where members are trained: one after another on this machine, each a function of its job and its folder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import TensorBoardLogger
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from octavo import weights
from octavo.batches import Batch, Batches, Source, Steps, in_order, loader
from octavo.build import start_member
from octavo.checkpoint import AtomicCheckpointIO, Bar, Saver, Stop, position, save_net
from octavo.features import VIEW_EPOCH, cached, key_of
from octavo.folder import MemberFolder
from octavo.hardware import Hardware
from octavo.infer import outputs, ready
from octavo.inputs import Inputs
from octavo.keyed import seed_of
from octavo.member import MemberNet
from octavo.progress import Progress
from octavo.recipe import Member, Recipe, Train
from octavo.store import Pixels
from octavo.task import FeatureInputs, Task, Ways


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


@dataclass(frozen=True)
class PixelRows:
    """The pixel store as a source of batches."""

    pixels: Pixels

    def rows(self, indices: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return uint8 [B,3,H,W] and sizes [B,2]."""
        return self.pixels.batch(indices)


def train_member(job: Job, folder: MemberFolder, progress: Progress, stop: Stop) -> None:
    """Train one member in its folder, or go on with it; a finished one is left as it is.

    Raises:
        Interrupted: the user asked to stop; the checkpoint is saved.
        UserError: weights that can't be had, a full disk.
    """
    if folder.finished:
        folder.tidy()
        return
    with torch.random.fork_rng(devices=[]):
        net, origin = start_member(job.member, job.recipe, job.classes, job.weights_dir)
        inputs = inputs_of(job)
        source, ways, trained = _prepare(job, net, inputs, origin.sha256 if origin else None, progress)
        task = _fit(job, folder, trained, source, ways, progress, stop)
        best = ready(_chosen(job, folder, task, source, ways, progress), job.hardware.device)
        logits = {part: outputs(best, ways.plain, in_order(source, indices, job.labels, job.train.batch_size),
                                job.hardware.device, bf16=job.bf16, progress=progress,
                                what=f"{job.member.name}: {part}")
                  for part, indices in job.parts.items() if part != "fit" and len(indices)}
    best = best.cpu()
    if trained is net.head:
        net.head = best  # pyright: ignore[reportAttributeAccessIssue]
        best = net
    save_net(best, folder.weights)
    facts = {"backbone": job.member.backbone, "features": net.backbone.features, "classes": job.classes,
             "size": inputs.size, "resize": inputs.resize, "mean": inputs.mean, "std": inputs.std,
             "weights": {"source": job.member.weights, "file": origin.file, "sha256": origin.sha256} if origin else None,
             "parameters": {"backbone": _count(net.backbone), "head": _count(net.head)}}
    folder.finish(facts, logits, task.history)


def inputs_of(job: Job) -> Inputs:
    """Return how stored images become this member's input."""
    data = job.recipe.data
    mean, std = (weights.normalization(job.member) if data.normalize == "weights" else ((0.0,) * 3, (1.0,) * 3))
    return Inputs(job.recipe.size_of(job.member), data.resize, mean, std, job.recipe.augment, job.seed, job.classes,
                  job.train.channels_last)


def _prepare(job: Job, net: MemberNet, inputs: Inputs, sha256: str | None,
             progress: Progress) -> tuple[Source, Ways, nn.Module]:
    """Return where batches come from, how they become inputs, and what is trained on them."""
    source = PixelRows(job.pixels)
    train, member = job.train, job.member
    if train.mode == "finetune" or not train.cache:
        return source, inputs, net
    views = {"views": train.views, "augment": job.recipe.augment.model_dump(), "seed": job.seed}
    key = key_of(backbone=member.backbone, pool=member.pool, weights=sha256 or f"init {job.recipe.seed} {member.name}",
                 size=inputs.size, resize=inputs.resize, mean=inputs.mean, std=inputs.std, pixels=job.pixels.digest,
                 precision=train.precision, torch=torch.__version__, device=job.hardware.kind,
                 views=views if train.views > 1 else None)
    ways = [inputs.plain, *(lambda b, v=v: inputs.augmented(b, VIEW_EPOCH + v) for v in range(1, train.views))]
    wanted = np.setdiff1d(np.arange(len(job.pixels)), np.array(sorted(job.pixels.broken), np.int64))
    backbone = ready(net.backbone, job.hardware.device, train.channels_last)

    def told(what: str, done: int, total: int, note: str = "") -> None:
        progress(f"{member.name}: {what}", done, total, note)

    features = cached(job.cache / "features" / key, backbone, net.backbone.features, source, wanted, len(job.pixels),
                      ways, job.seed, device=job.hardware.device, bf16=job.bf16, progress=told)
    net.backbone.cpu()
    return features, FeatureInputs(), net.head


class _Data(pl.LightningDataModule):
    """The batches of a training, for each process its share."""

    def __init__(self, job: Job, source: Source, start: tuple[int, int]) -> None:
        super().__init__()
        self.job, self.source, self.start = job, source, start

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training images in keyed order, from where the checkpoint stands."""
        job, trainer = self.job, self.trainer
        assert trainer is not None
        batches = Batches(self.source, job.parts["fit"], job.labels, job.train.batch_size, seed=job.seed,
                          rank=trainer.global_rank, world=trainer.world_size)
        steps = Steps(len(batches), *self.start, epoch=self.start[0])
        return loader(batches, steps, workers=job.hardware.workers, pin=job.hardware.kind == "cuda")

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the held-out images in their order."""
        return in_order(self.source, self.job.parts["holdout"], self.job.labels, self.job.train.batch_size)


def _fit(job: Job, folder: MemberFolder, net: nn.Module, source: Source, ways: Ways, progress: Progress,
         stop: Stop) -> Task:
    """Run Lightning's Trainer to the end of the member's training and return the task."""
    train = job.train
    start = position(folder.checkpoint) if folder.checkpoint.is_file() else (0, 0)
    steps = len(Batches(source, job.parts["fit"], job.labels, train.batch_size))
    if train.channels_last and isinstance(net, MemberNet):
        net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    task = Task(net, ways, train, steps=steps, seed=job.seed, class_weights=_class_weights(job))
    callbacks: list[Callback] = [
        Saver(folder.checkpoint, train.checkpoint_minutes, stop, folder.best if train.keep == "best" else None),
        Bar(progress, f"{job.member.name}: train", train.epochs)]
    if train.patience:
        callbacks.append(EarlyStopping("holdout_loss", patience=train.patience, check_on_train_epoch_end=False))
    with _quiet():
        trainer = pl.Trainer(
            accelerator="gpu" if job.hardware.kind == "cuda" else job.hardware.kind, devices=job.hardware.count,
            strategy=_strategy(job), max_epochs=train.epochs, precision="bf16-mixed" if job.bf16 else "32-true",
            accumulate_grad_batches=train.accumulate, gradient_clip_val=train.clip_norm or None, callbacks=callbacks,
            plugins=[AtomicCheckpointIO()], limit_val_batches=1.0 if len(job.parts["holdout"]) else 0,
            logger=TensorBoardLogger(job.tensorboard, job.member.name, "") if job.tensorboard else False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0, use_distributed_sampler=False, default_root_dir=folder.folder)
        trainer.fit(task, datamodule=_Data(job, source, start),
                    ckpt_path=folder.checkpoint if folder.checkpoint.is_file() else None)
    return task


def _strategy(job: Job) -> str:
    if job.hardware.count == 1:
        return "auto"
    return "ddp_spawn_find_unused_parameters_true" if job.train.head_epochs else "ddp_spawn"


def _chosen(job: Job, folder: MemberFolder, task: Task, source: Source, ways: Ways, progress: Progress) -> nn.Module:
    """Return the network that the member becomes: last, averaged or best weights, its statistics computed anew."""
    net = task.best_net
    if job.train.keep == "best":
        net.load_state_dict(load_file(folder.best))
    if job.train.reestimate_norm:
        torch.manual_seed(seed_of(job.seed, "norm"))
        device, what = job.hardware.device, f"{job.member.name}: batch-norm statistics"
        batches = in_order(source, job.parts["fit"], job.labels, job.train.batch_size)

        def images() -> Any:
            for done, batch in enumerate(batches, 1):
                yield ways.plain(batch.to(device))
                progress(what, done, len(batches))

        with torch.autocast(device.type, torch.bfloat16, enabled=job.bf16):
            update_bn(images(), net.to(device))
    return net


def _class_weights(job: Job) -> Tensor | None:
    """Return float32 [C], or None: given, or n / (C × count) over the training images."""
    given = job.train.class_weights
    if given == "none":
        return None
    if given != "balanced":
        return torch.tensor(given, dtype=torch.float32)
    counts = np.bincount(job.labels[job.parts["fit"]], minlength=job.classes)
    return torch.from_numpy(counts.sum() / (job.classes * np.maximum(counts, 1))).float()


def _count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


class _quiet(warnings.catch_warnings):  # noqa: N801 (reads as a verb, like its parent)
    """Keep Lightning's advice out of the user's terminal; what matters is told by our own words."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
        return entered
