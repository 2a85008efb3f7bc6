"""From a stored batch to what a network sees: view, augmentation, normalisation, mixing, on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from octavo.data.augment import Resize, Views, draw, normalize, plain, render
from octavo.data.batches import Batch
from octavo.data.mix import mix
from octavo.keyed import seed_of
from octavo.recipe import Augment


@dataclass(frozen=True)
class Inputs:
    """The way of a batch of stored pixels into one member: its input side, normalisation and augmentation.

    Attributes:
        size: input side in pixels.
        resize: `crop` or `stretch`, see the recipe's `data.resize`.
        mean: per channel, subtracted from values in 0–1.
        std: per channel, divided by.
        augment: random changes in training.
        seed: key of all random draws.
        classes: number of classes C, for soft targets.
        channels_last: memory format of the input.
    """

    size: int
    resize: Resize
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment
    seed: int
    classes: int
    channels_last: bool = False

    def plain(self, batch: Batch) -> Tensor:
        """Return the network's input float32 [B,3,S,S] without any random change."""
        return self._finish(batch, plain(batch.sizes, self.size, self.resize))

    def augmented(self, batch: Batch, epoch: int | None = None) -> Tensor:
        """Return the input float32 [B,3,S,S] with each image changed by its key (seed, epoch, index)."""
        epoch = batch.epoch if epoch is None else epoch
        views = draw(self.augment, self.seed, epoch, batch.indices, batch.sizes, self.size, self.resize)
        return self._finish(batch, views)

    def training(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return augmented inputs and targets: class ids int64 [B], or probabilities float [B,C] where images mix."""
        return mix(
            self.augmented(batch),
            batch.labels,
            self.classes,
            self.augment,
            seed_of("mix", self.seed, batch.epoch),
            batch.step,
        )

    def _finish(self, batch: Batch, views: Views) -> Tensor:
        x = normalize(render(batch.inputs, batch.sizes, views, self.size), self.mean, self.std)
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x
