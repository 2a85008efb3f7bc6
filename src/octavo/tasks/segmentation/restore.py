"""A trained segmenter from its run folder, ready to be used."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octavo.data.classes import ClassTable
from octavo.data.pixels import bounded, decode, probe
from octavo.data.render import normalize
from octavo.engine.folder import RunFolder
from octavo.engine.goals import enlarged
from octavo.engine.infer import ready
from octavo.engine.windows import WHOLE, Told, rows_of, silent, windowed
from octavo.errors import UserError
from octavo.networks.build import build_segmenter
from octavo.networks.loading import load_member
from octavo.networks.segmenter import SegmenterNet
from octavo.recipe import SegmentRecipe

MAX_PIXELS = 1_000_000_000
"""Largest image that is decoded; a GeoTIFF is read in parts and may be larger."""
APPROXIMATE = (
    "this network has means over the whole of what it sees, which is another whole in every window: its masks differ "
    "from those of whole images everywhere, not along borders alone"
)
"""What is to be said of masks in windows by a network that `sees_whole`."""
_FLIPS = ((), (3,), (2,), (2, 3))


@dataclass(frozen=True)
class Averaging:
    """Views of an image whose probabilities are averaged at test time; off as it stands.

    Attributes:
        flips: as it is, and mirrored left to right, top to bottom, and both.
        scales: factors of the network's input, such as (0.75, 1.0, 1.25).
    """

    flips: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Refuse factors that make no view.

        Raises:
            UserError: a factor outside of 0.25 … 4.
        """
        for factor in self.scales:
            if not 0.25 <= factor <= 4:
                raise UserError(f"--scale {factor:g}: expected factors from 0.25 to 4, such as 0.75, 1 and 1.25")

    @property
    def off(self) -> bool:
        """Whether there is one view alone, the image as it is."""
        return not self.flips and self.scales == (1.0,)

    @property
    def largest(self) -> float:
        """Factor of the largest view's sides, 1 or more."""
        return max(1.0, *self.scales)


@dataclass(frozen=True)
class TrainedSegmenter:
    """A trained network, and how images become its input and its output masks.

    Attributes:
        name: of the segmenter.
        net: the network, in eval mode, on `device`.
        mean: per channel, subtracted from values in 0–1.
        std: per channel, divided by.
        scale: factor by which images are reduced before the network sees them.
        table: its classes; channel c is `table.trained[c]`.
        device: where it computes.
        bf16: whether it computes in bfloat16, as it was trained.
        channels_last: memory format of its input.
        averaging: views whose probabilities are averaged.
        turn: held while the network computes, so that threads don't need the memory of several images at once.
    """

    name: str
    net: SegmenterNet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    table: ClassTable
    device: torch.device
    bf16: bool = False
    channels_last: bool = False
    averaging: Averaging = Averaging()
    turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @torch.inference_mode()
    def scores(self, images: Tensor) -> Tensor:
        """Return float32 [B,C,h,w] on `device` for images uint8 [B,3,h,w] that are already at the network's scale.

        Logits; with averaged views, logarithms of mean probabilities.
        """
        with self.turn:
            x = normalize(images.to(self.device).float() / 255, self.mean, self.std)
            return self._run(x) if self.averaging.off else self._averaged(x)

    def ids(self, path: Path, told: Told = silent) -> np.ndarray:
        """Return the predicted channel of each pixel of an image file, uint8 [H,W], as training computes it.

        Images that aren't small enough to go whole go in windows; `told` is called after each of these.

        Raises:
            BrokenImage: it can't be decoded.
        """
        header = probe(path, MAX_PIXELS)
        return self.ids_of(decode(path, MAX_PIXELS, scale=self.scale), (header.height, header.width), told)

    def ids_of(self, small: np.ndarray, size: tuple[int, int], told: Told = silent) -> np.ndarray:
        """Return the predicted channel of each pixel, uint8 [H,W], of an image of height and width `size`.

        Args:
            small: the image at the network's scale, uint8 [h,w,3].
            size: of the image itself, and of the mask.
            told: called after each window of an image that goes in windows.
        """
        if not self.goes_whole(*size):
            narrow = (small.shape[0], small.shape[1])
            strips = windowed(self.scores, rows_of(small), narrow, to=size, batch=self.batch, told=told)
            return np.concatenate([*strips])
        found = self.scores(torch.from_numpy(small.transpose(2, 0, 1)[None].copy()))
        return enlarged(found, size)[0].argmax(0).to(torch.uint8).cpu().numpy()

    def small_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) in which the network sees an image of this size."""
        narrow, small = bounded(width, height, None, self.scale)
        return small, narrow

    def goes_whole(self, height: int, width: int) -> bool:
        """Tell whether an image of this size goes through the network whole, where nothing else is asked for."""
        small, narrow = self.small_size(height, width)
        return small * narrow * self.averaging.largest**2 <= WHOLE

    @property
    def batch(self) -> int:
        """Windows that go through the network at a time."""
        return 4 if self.device.type == "cuda" else 1

    @property
    def sees_whole(self) -> bool:
        """Whether every output depends on all of the input, by a mean over it, however far away it lies.

        Such a network sees another whole in every window, so that its masks in windows are approximate.
        """
        return any(isinstance(layer, nn.AdaptiveAvgPool2d) for layer in self.net.modules())

    def _averaged(self, x: Tensor) -> Tensor:
        views = self._views(x)
        total, count = next(views), 1
        for found in views:
            total += found
            count += 1
        return (total / count).clamp_min(torch.finfo(torch.float32).tiny).log()

    def _views(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the probabilities [B,C,h,w] of one view of the input after another."""
        size = (x.shape[2], x.shape[3])
        for factor in self.averaging.scales:
            to = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
            seen = x if to == size else F.interpolate(x, to, mode="bilinear", antialias=True, align_corners=False)
            for flip in _FLIPS if self.averaging.flips else _FLIPS[:1]:
                found = self._run(seen.flip(flip)).flip(flip)
                if to != size:
                    found = F.interpolate(found, size, mode="bilinear", align_corners=False)
                yield found.softmax(1)

    def _run(self, x: Tensor) -> Tensor:
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.net(x).float()


def restore_segmenter(run: RunFolder, device: torch.device, averaging: Averaging = Averaging()) -> TrainedSegmenter:
    """Return the trained segmenter of a run.

    Raises:
        UserError: a run of another task, or one that isn't trained yet.
    """
    recipe = run.recipe_as(SegmentRecipe)
    spec = recipe.segmenter
    files = run.member(spec.name)
    if not files.finished:
        raise UserError(f"{run.path}: not trained yet; go on with `{run.resume}`")
    facts, train = files.facts(), recipe.train_of(spec)
    net: Any = build_segmenter(spec, recipe, facts["classes"], "meta")
    if dict(net.named_buffers()).keys() <= net.state_dict().keys():
        net = net.to_empty(device="cpu")
    else:  # buffers that no file holds have their values from the building
        net = build_segmenter(spec, recipe, facts["classes"])
    load_member(net, files.weights, files.sha256(files.weights), files.remedy)
    ready(net, device, train.channels_last)
    return TrainedSegmenter(
        spec.name,
        net,
        tuple(facts["mean"]),
        tuple(facts["std"]),
        facts["scale"],
        run.table,
        device,
        train.precision == "bf16",
        train.channels_last,
        averaging,
    )
