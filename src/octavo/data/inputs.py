"""From a stored batch to what a network sees: view, augmentation, normalisation, mixing, on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from octavo.data.augment import Resize, Views, draw, draw_crop, plain, whole
from octavo.data.batches import Batch
from octavo.data.mix import mix
from octavo.data.render import normalize, render, render_masks
from octavo.keyed import seed_of
from octavo.recipe import Augment, SegmentAugment


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


@dataclass(frozen=True, eq=False)
class SceneInputs:
    """The way of a batch of images and masks into a segmenter.

    Attributes:
        size: height and width in pixels of the crops of training.
        mean: per channel, subtracted from values in 0–1.
        std: per channel, divided by.
        augment: random changes in training.
        seed: key of all random draws.
        mask_sizes: int [N,2], height and width of every mask of the data set.
        channels_last: memory format of the input.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: SegmentAugment
    seed: int
    mask_sizes: np.ndarray
    channels_last: bool = False

    def plain(self, batch: Batch) -> Tensor:
        """Return whole images float32 [B,3,H,W] without any random change; all of the batch must be of one size.

        Raises:
            ValueError: images of several sizes.
        """
        if (batch.sizes != batch.sizes[0]).any():
            raise ValueError("whole images of several sizes don't make one batch")
        size = (int(batch.sizes[0, 0]), int(batch.sizes[0, 1]))
        return self.shown(batch, whole(batch.sizes, size), size)

    def views(self, batch: Batch, epoch: int | np.ndarray, size: tuple[int, int]) -> Views:
        """Return what training shows of each image, by its key (seed, epoch, index); `epoch` may be one an image."""
        return draw_crop(self.augment, self.seed, epoch, batch.indices, batch.sizes, size)

    def training(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return augmented crops float32 [B,3,S,S] and their masks int64 [B,S,S], `IGNORE` where there is no class."""
        views = self.views(batch, batch.epoch, self.size)
        return self.shown(batch, views, self.size), self.targets(batch, views, self.size)

    def targets(self, batch: Batch, views: Views, size: tuple[int, int]) -> Tensor:
        """Return the masks of a batch under views, int64 [B,H,W]."""
        return render_masks(batch.labels, self.mask_sizes[batch.indices], batch.sizes, views, size)

    def shown(self, batch: Batch, views: Views, size: tuple[int, int]) -> Tensor:
        """Return the images of a batch under views, normalised, float32 [B,3,H,W]."""
        x = normalize(render(batch.inputs, batch.sizes, views, size), self.mean, self.std)
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x
