"""What the training of one network depends on, and what it is prepared to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn
from torch.utils.data import DataLoader

from octavo.data.batches import Batch, Labels, Source, in_order
from octavo.data.classes import ClassTable
from octavo.data.store import Pixels
from octavo.engine.goals import Goal
from octavo.engine.hardware import Hardware
from octavo.engine.task import Ways
from octavo.keyed import seed_of
from octavo.networks.fold import is_folded, unfolded
from octavo.networks.loading import LoadReport
from octavo.recipe import Network, Recipe, Train


def parts_of_fold(
    parts: Mapping[str, np.ndarray], folds: np.ndarray | None, fold: int | None
) -> Mapping[str, np.ndarray]:
    """Return the parts of the training that one fold is held out of; as they are without folds."""
    if folds is None or fold is None:
        return parts
    train = parts["holdout"]
    return {**parts, "fit": train[folds[train] != fold], "holdout": train[folds[train] == fold]}


@dataclass(frozen=True)
class Job:
    """All that the training of one network depends on.

    Attributes:
        recipe: the resolved recipe.
        member: which of its networks.
        classes: number of classes C.
        labels: class ids of all images int64 [N], or their masks.
        parts: part of the data (`fit`, `holdout`, `val`, `test`) → int64 indices.
        pixels: the stored images.
        weights_dir: folder of weight files, searched first.
        cache: folder for features.
        hardware: what to compute on.
        tensorboard: folder for TensorBoard's event files, or None.
        files: all images, as their paths are in the data.
        names: of their predicted masks.
        table: names and colours of the classes of masks.
        folds: fold of each training image int64 [N], -1 for the others; None without folds.
        fold: which of them this training holds out; None: the job isn't of one fold.
    """

    recipe: Recipe
    member: Network
    classes: int
    labels: Labels
    parts: Mapping[str, np.ndarray]
    pixels: Pixels
    weights_dir: Path | None
    cache: Path
    hardware: Hardware
    tensorboard: Path | None = None
    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    table: ClassTable | None = None
    folds: np.ndarray | None = None
    fold: int | None = None

    def of_fold(self, fold: int) -> Job:
        """Return the job of training the same network with one fold held out."""
        return replace(self, fold=fold, parts=parts_of_fold(self.parts, self.folds, fold))

    @property
    def title(self) -> str:
        """What is trained, as a user is told."""
        return self.member.name if self.fold is None else f"{self.member.name} fold {self.fold + 1}"

    @property
    def train(self) -> Train:
        """The network's own training settings."""
        return self.recipe.train_of(self.member)

    @property
    def seed(self) -> int:
        """The key of everything random in this training."""
        own = () if self.fold is None else (self.fold,)
        return seed_of(self.recipe.seed, self.member.name, *own)

    @property
    def head_alone(self) -> bool:
        """Whether its file of weights holds the head alone: the extractor is in the first fold's file."""
        return bool(self.fold) and self.train.mode == "frozen"

    @property
    def bf16(self) -> bool:
        """Whether networks compute in bfloat16."""
        return self.train.precision == "bf16"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A job made ready for the Trainer.

    Attributes:
        net: the whole network.
        trained: what is trained of it: all of it, or its head on cached features.
        source: where batches come from.
        ways: how they become the input of `trained`.
        goal: what is minimised and counted.
        labels: class ids or masks of all images.
        batch_size: images in a batch that isn't trained on.
        origin: the weights file it started from, or None.
    """

    net: nn.Module
    trained: nn.Module
    source: Source
    ways: Ways
    goal: Goal
    labels: Labels
    batch_size: int
    origin: LoadReport | None

    def in_order(self, indices: np.ndarray) -> DataLoader[Batch]:
        """Return a loader over images once, in their order, without random change."""
        return in_order(self.source, indices, self.labels, self.batch_size)

    def joined(self, best: nn.Module) -> nn.Module:
        """Return the whole network with what was trained of it as `best`."""
        if self.trained is self.net:
            return best
        start, head = self.net.get_submodule("head"), getattr(best, "head", best)
        self.net.head = unfolded(head, start) if is_folded(head) else head  # pyright: ignore
        return self.net
