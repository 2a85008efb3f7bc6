"""Mixup and cutmix: batches whose images, and labels with them, are blended in pairs."""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from octavo.data.resample import on
from octavo.keyed import permutation, seed_of, uniform
from octavo.recipe import Augment

_MIX = 0x6D6978  # keeps these draws apart from every other use of a seed
_WHICH, _PLACE = range(2)


def _share(alpha: float, seed: int, step: int) -> float:
    """Return λ ~ Beta(α, α), a function of (seed, step)."""
    key = [seed_of("mix", seed, step), 0]
    return float(np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64))).beta(alpha, alpha))


def _cut(images: Tensor, partners: Tensor, share: float, place: np.ndarray) -> tuple[Tensor, float]:
    """Return images with a box of their partners in them, and the share that is left of their own.

    The box has 1 - `share` of the area, its centre at `place` [2] (shares of width and height); what lies beyond the
    border is cut off, and the share is counted in the pixels that remain.
    """
    height, width = images.shape[2:]
    half = math.sqrt(1 - share) / 2
    left, right = (min(max(round((place[0] + d) * width), 0), width) for d in (-half, half))
    top, bottom = (min(max(round((place[1] + d) * height), 0), height) for d in (-half, half))
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
    return mixed, 1 - (right - left) * (bottom - top) / (width * height)


def mix(images: Tensor, labels: Tensor, classes: int, augment: Augment, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Return a blended batch [B, 3, S, S] and its targets float32 [B, classes], a function of (seed, step).

    With `augment.mixup`, each image is blended with another one of the batch (Zhang et al., ICLR 2018, section 2); with
    `augment.cutmix`, a box of the other is pasted in (Yun et al., ICCV 2019, section 3.1); with both, each batch takes
    one of them by the toss of a coin. With neither, images and labels come back as they are, labels still int64 [B]:
    both forms are targets of `torch.nn.functional.cross_entropy`. One λ and one box serve the whole batch.
    """
    if not (augment.mixup or augment.cutmix):
        return images, labels
    cut = augment.cutmix > 0 and (augment.mixup == 0 or uniform(seed, _MIX, step, _WHICH, n=1)[0] < 0.5)
    share = _share(augment.cutmix if cut else augment.mixup, seed, step)
    partner = on(images.device, permutation(len(images), seed_of("mix", seed), step))
    if cut:
        images, share = _cut(images, images[partner], share, uniform(seed, _MIX, step, _PLACE, n=2))
    else:
        images = images * share + images[partner] * (1 - share)
    targets = F.one_hot(labels, classes).float()
    return images, targets * share + targets[partner] * (1 - share)
