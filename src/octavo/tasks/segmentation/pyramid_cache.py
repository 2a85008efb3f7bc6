"""The pyramid of a frozen segmenter: its maps computed once per image and view, kept, and decoded from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from octavo.data.augment import Views, whole
from octavo.data.batches import Batch
from octavo.data.inputs import SceneInputs
from octavo.engine.features import BATCH, VIEW_EPOCH, Features
from octavo.engine.infer import ready
from octavo.engine.job import Job
from octavo.engine.kept import kept_features
from octavo.networks.loading import digest
from octavo.networks.segmenter import SegmenterNet
from octavo.progress import Progress

Shape = tuple[int, ...]


class PyramidHead(nn.Module):
    """The decoder of a segmenter on maps that lie flat in the cache: float [B,F] to logits [B,C,H,W]."""

    def __init__(self, net: SegmenterNet, shapes: Sequence[Shape], size: tuple[int, int]) -> None:
        """`shapes` are those of the maps [F_i,h_i,w_i] in their order; `size` is the images' height and width."""
        super().__init__()
        self.head = net.head
        self.shapes, self.size = tuple(shapes), size
        self._decode = [net.decode]  # in a list: the whole network is no part of this one

    def forward(self, flat: Tensor) -> Tensor:
        """Return logits [B,C,H,W]."""
        lengths = [int(np.prod(shape)) for shape in self.shapes]
        pieces = flat.split(lengths, dim=1)
        maps = tuple(piece.view(len(flat), *shape) for piece, shape in zip(pieces, self.shapes, strict=True))
        return self._decode[0](maps, self.size)


@dataclass(frozen=True, eq=False)
class PyramidInputs:
    """The way of cached maps and their masks into the decoder.

    Attributes:
        scenes: how images and masks would be shown.
        features: the cached maps, which know which view an image shows in which epoch.
        size: height and width of all images.
        sizes: int [N,2], height and width of each image.
    """

    scenes: SceneInputs
    features: Features
    size: tuple[int, int]
    sizes: np.ndarray

    def plain(self, batch: Batch) -> Tensor:
        """Return the maps of the plain view, flat, float32 [B,F]."""
        return batch.inputs

    def training(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the maps of each image's view of this epoch, float32 [B,F], and its mask under it, int64 [B,H,W]."""
        sized = Batch(batch.inputs, self.sizes[batch.indices].astype(np.int64), batch.labels, batch.indices, -1, 0)
        views = _views(self.scenes, sized, self.features.view_of(batch.indices, batch.epoch), self.size)
        return batch.inputs, self.scenes.targets(sized, views, self.size)


def _views(scenes: SceneInputs, batch: Batch, view: np.ndarray, size: tuple[int, int]) -> Views:
    """Return fixed views by number, int64 [B]: 0 is the plain one, the others are drawn."""
    plain = whole(batch.sizes, size)
    drawn = scenes.views(batch, VIEW_EPOCH + view, size)
    first = torch.from_numpy(view == 0)
    return Views(
        torch.where(first[:, None, None], plain.matrix, drawn.matrix),
        torch.where(first[:, None], plain.factors, drawn.factors),
        drawn.order,
        drawn.colour,
    )


def pyramid_features(
    job: Job, net: SegmenterNet, inputs: SceneInputs, size: tuple[int, int], progress: Progress
) -> tuple[Features, list[Shape]]:
    """Return the maps of all images, flat, computed now or found in the cache, and the maps' shapes [F,h,w]."""
    device, train = job.hardware.device, job.train
    body = _Flat(ready(net, device, train.channels_last))
    with torch.inference_mode():
        shapes = [tuple(m.shape[1:]) for m in body.net.features(torch.zeros(1, 3, *size, device=device))]
    facts = {
        "extractor": job.member.extractor,
        "shapes": shapes,
        "network": getattr(job.member, "network", None),
        "border": getattr(job.member, "border", None),
        "stride": getattr(job.member, "stride", None),
        "weights": digest(net.backbone),
    }

    def shown(batch: Batch, view: int) -> Tensor:
        return inputs.shown(batch, _views(inputs, batch, np.full(len(batch.indices), view), size), size)

    features = kept_features(
        job,
        body,
        sum(int(np.prod(shape)) for shape in shapes),
        [lambda batch, view=view: shown(batch, view) for view in range(train.views)],
        inputs,
        facts,
        inputs.seed,
        progress,
        what=f"{job.member.extractor} pyramid, {size[0]}×{size[1]} px",
        batch=max(1, min(BATCH, BATCH * 224**2 // (size[0] * size[1]))),
    )
    net.cpu()
    return features, shapes


class _Flat(nn.Module):
    """The pyramid of a segmenter, its maps flat behind one another: images [B,3,H,W] to float [B,F]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        assert isinstance(net, SegmenterNet)
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return the flat maps."""
        return torch.cat([m.flatten(1) for m in self.net.features(x)], dim=1)
