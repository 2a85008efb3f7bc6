"""Batches by key: which images are in a batch is a function of (seed, epoch, step) and of nothing else."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from octavo.data.store import Pixels
from octavo.keyed import permutation

GRACE = 30
"""Seconds that a loader's process outlives SIGTERM."""


@dataclass(frozen=True)
class Batch:
    """One batch as it lies in the store.

    Attributes:
        inputs: stored pixels uint8 [B,3,H,W] (a canvas; image i fills its first sizes[i] rows and columns),
            or cached features float32 [B,F].
        sizes: NumPy int64 [B,2], height and width of each image in pixels; [0,2] for features.
        labels: int64 [B], class ids; or uint8 [B,H',W'], masks on a canvas with `IGNORE` around them.
        indices: NumPy int64 [B], place of each image in the data set: the key of its augmentation.
        epoch: 0-based, -1 outside training.
        step: 0-based batch within the epoch.
    """

    inputs: Tensor
    sizes: np.ndarray
    labels: Tensor
    indices: np.ndarray
    epoch: int
    step: int

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its inputs and labels on `device`; sizes and indices stay for the CPU's draws."""
        ahead = device.type == "cuda"  # elsewhere nothing would wait for the copy before it is read
        inputs, labels = (tensor.to(device, non_blocking=ahead) for tensor in (self.inputs, self.labels))
        return Batch(inputs, self.sizes, labels, self.indices, self.epoch, self.step)

    def some(self, rows: np.ndarray) -> Batch:
        """Return the batch of some images alone, `rows` int [b] places in it."""
        place, sizes = torch.from_numpy(rows), self.sizes[rows] if len(self.sizes) else self.sizes
        return Batch(self.inputs[place], sizes, self.labels[place], self.indices[rows], self.epoch, self.step)

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory (the DataLoader calls this when training on a GPU)."""
        return Batch(
            self.inputs.pin_memory(), self.sizes, self.labels.pin_memory(), self.indices, self.epoch, self.step
        )


class Source(Protocol):
    """Where a batch's inputs come from: the pixel store, or cached features."""

    def rows(self, indices: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs [B,…] and sizes int [B,2] (or [0,2]) of the images at `indices`."""
        ...


@dataclass(frozen=True)
class PixelRows:
    """The pixel store as a source of batches."""

    pixels: Pixels

    def rows(self, indices: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return uint8 [B,3,H,W] and sizes [B,2]."""
        return self.pixels.batch(indices)


@dataclass(frozen=True)
class MaskRows:
    """The store of masks, addressed as an array of labels is."""

    pixels: Pixels

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Return the masks at `indices`, uint8 [B,H',W']."""
        return self.pixels.batch(indices)[0][:, 0]

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of each mask in pixels, int [N,2]."""
        return self.pixels.sizes


Labels = np.ndarray | MaskRows
"""What the images are labelled with, by their place in the data set: class ids int64 [N], or masks."""


def bounds(count: int, batch_size: int, world: int = 1) -> list[tuple[int, int]]:
    """Return start and stop of each batch over `count` images; a last batch of one joins the one before.

    Batch norm can't normalise a batch of one at 1×1 pixels. With `world` processes each needs two images. Batches of
    one that are asked for stay: images of several sizes don't fit in another's batch.
    """
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and batch_size >= 2 * world and count - starts[-1] < 2 * world:
        starts.pop()
    return list(zip(starts, [*starts[1:], count][: len(starts)], strict=True))


class Batches(Dataset[Batch]):
    """The batches of an epoch, addressed by (epoch, step)."""

    def __init__(
        self,
        source: Source,
        indices: np.ndarray,
        labels: Labels,
        batch_size: int,
        *,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """`labels` of the whole data set, `indices` int64 [n] into it; `seed` None keeps their order.

        With `world` processes each takes every `world`-th image of each batch.
        """
        self.source, self.indices, self.labels, self.seed = source, indices, labels, seed
        self.rank, self.world = rank, world
        self.bounds = bounds(len(indices), batch_size, world)

    def __len__(self) -> int:
        return len(self.bounds)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, step = key
        start, stop = self.bounds[step]
        order = slice(start, stop) if self.seed is None else _order(len(self.indices), self.seed, epoch)[start:stop]
        chosen = self.indices[order][self.rank :: self.world]
        inputs, sizes = self.source.rows(chosen, epoch)
        return Batch(
            torch.from_numpy(inputs), sizes.astype(np.int64), torch.from_numpy(self.labels[chosen]), chosen, epoch, step
        )


@functools.lru_cache(maxsize=1)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return `permutation`, kept for the other batches of the epoch."""
    order = permutation(count, seed, epoch)
    order.flags.writeable = False
    return order


class Steps(Sampler[tuple[int, int]]):
    """The keys (epoch, step) of one epoch after another; the first epoch may start in its middle.

    Iterating changes nothing, since loaders with workers iterate twice; the Trainer calls `set_epoch`.
    """

    def __init__(self, steps: int, start_epoch: int = 0, start_step: int = 0, *, epoch: int = 0) -> None:
        self.steps, self.start_epoch, self.start_step, self.epoch = steps, start_epoch, start_step, epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is of."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first = self.start_step if self.epoch == self.start_epoch else 0
        return iter([(self.epoch, step) for step in range(first, self.steps)])


def loader(batches: Batches, steps: Steps, *, workers: int = 0, pin: bool = False) -> DataLoader[Batch]:
    """Return a DataLoader that yields whole batches; `workers` processes read ahead, two batches each."""
    return DataLoader(
        batches,
        sampler=steps,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=False,
        prefetch_factor=2 if workers else None,
        worker_init_fn=own_signals,
    )


def own_signals(worker: int) -> None:
    """Free a loader's process from its parent's signal handlers, which a forked process has too.

    The parent alone answers Ctrl-C. SIGTERM often comes to both at once (`timeout`, schedulers): the worker then goes
    on for `GRACE` seconds, in which the parent can reach and save its checkpoint; a second SIGTERM ends it at once.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, _end_soon)


def _end_soon(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.alarm(GRACE)


def in_order(source: Source, indices: np.ndarray, labels: Labels, batch_size: int) -> DataLoader[Batch]:
    """Return a loader over `indices` once, in their order, for evaluation (epoch −1)."""
    batches = Batches(source, indices, labels, batch_size)
    return loader(batches, Steps(len(batches), epoch=-1))
