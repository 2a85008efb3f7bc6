"""Cross-entropy with class weights and label smoothing together, where the weights act on the true class."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NONE = -100
"""torch's own value for targets to ignore; no class has it."""


class CrossEntropy(nn.Module):
    """Cross-entropy of labels or soft targets, with class weights, label smoothing and a label to ignore.

    With weights w and smoothing ε, a place of class y costs w[y] · ((1 - ε) · -ln p[y] + ε · mean over c of -ln p[c]),
    and the sum is divided by the sum of w[y]. torch's own weighs each class's share of the smoothed target by that
    class's weight instead (`F.cross_entropy` with `weight` and `label_smoothing`): with 400 images of one class and 8
    of another, and balanced weights, the 5 % of each common image's target that goes to the rare class outweigh its
    own 95 %, and everything is called rare. Without weights, or without smoothing, the two are the same.

    A soft target t counts as t[c] of an image of each class c. As in torch, soft targets are then divided by the
    number of images.

    Args:
        weight: float32 [C], or None.
        smoothing: ε, 0–1.
        ignore: label of places that count nothing. Where all are ignored, or have a weight of 0, the loss is 0.
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, smoothing: float = 0.0, ignore: int | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.smoothing, self.ignore = smoothing, ignore

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted mean of logits [B,C,…] and labels int64 [B,…], or soft targets float [B,C,…]."""
        if self.ignore is None and (self.weight is None or not self.smoothing):
            return F.cross_entropy(logits, targets, self.weight, label_smoothing=self.smoothing)
        if targets.is_floating_point():
            return self._soft(logits, targets)
        known = targets != (_NONE if self.ignore is None else self.ignore)
        if self.weight is None:
            return self._sum(logits, targets) / known.sum().clamp_min(1)
        weights = self.weight[targets.where(known, 0)] * known
        share = weights.sum()
        return self._sum(logits, targets, weights) * (share > 0) / share.where(share > 0, 1.0)

    def _sum(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the sum over all places, of which `weights` [B,…] are those of the true classes."""
        ignore = _NONE if self.ignore is None else self.ignore
        if weights is None or not self.smoothing:
            return F.cross_entropy(
                logits, targets, self.weight, ignore_index=ignore, reduction="sum", label_smoothing=self.smoothing
            )
        own = F.cross_entropy(logits, targets, ignore_index=ignore, reduction="none")
        even = -F.log_softmax(logits, dim=1).mean(dim=1)
        return (weights * own.lerp(even, self.smoothing)).sum()

    def _soft(self, logits: Tensor, targets: Tensor) -> Tensor:
        assert self.weight is not None
        log = F.log_softmax(logits, dim=1)
        weighted = targets * self.weight.view(-1, *[1] * (logits.ndim - 2))
        own, even = -(weighted * log).sum(dim=1), -log.mean(dim=1) * weighted.sum(dim=1)
        return own.lerp(even, self.smoothing).mean()


def balanced(counts: np.ndarray) -> Tensor:
    """Return float32 [C]: n / (C × count), as scikit-learn's class_weight="balanced"; absent classes as if once."""
    return torch.from_numpy(counts.sum() / (len(counts) * np.maximum(counts, 1))).float()
