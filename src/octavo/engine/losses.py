"""What a segmenter's training minimises: a weighted sum of losses in which ignored pixels count nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octavo.data.classes import IGNORE
from octavo.engine.cross_entropy import CrossEntropy
from octavo.errors import UserError
from octavo.recipe import Loss

Term = Callable[[Tensor, Tensor], Tensor]


def make_loss(spec: Loss, classes: int, class_weights: Tensor | None = None, label_smoothing: float = 0.0) -> MaskLoss:
    """Return the loss that `spec` describes: logits float32 [B,C,H,W], targets int64 [B,H,W] → a scalar.

    Targets are 0…C-1, or 255 for pixels to ignore. A batch in which all pixels are ignored has the loss 0, with a
    gradient of zeros. `class_weights` (float32 [C]) and `label_smoothing` act on cross-entropy alone.

    Raises:
        UserError: segmentation_models_pytorch is missing, or weights or smoothing without cross-entropy to act on.
    """
    if not spec.cross_entropy:
        for key, given in {"class_weights": class_weights is not None, "label_smoothing": label_smoothing > 0}.items():
            if given:
                raise UserError(f"train.{key}: acts on cross-entropy alone; give loss.cross_entropy a weight")
    if class_weights is not None and len(class_weights) != classes:
        raise UserError(f"train.class_weights: {len(class_weights)} weights for {classes} classes")
    terms: list[tuple[float, Term]] = []
    if spec.cross_entropy:
        terms.append((spec.cross_entropy, CrossEntropy(class_weights, label_smoothing, IGNORE)))
    if spec.focal:
        terms.append((spec.focal, Focal(spec.focal_gamma)))
    if spec.dice:
        terms.append((spec.dice, _library("DiceLoss")))
    if spec.lovasz:
        terms.append((spec.lovasz, Lovasz(_library("LovaszLoss"))))
    return MaskLoss(terms)


class MaskLoss(nn.Module):
    """A sum of losses, each with its weight: logits [B,C,H,W] and targets [B,H,W] to a scalar."""

    def __init__(self, terms: list[tuple[float, Term]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in terms]
        self.terms = nn.ModuleList(term for _, term in terms if isinstance(term, nn.Module))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over all terms."""
        values = [w * term(logits, targets) for w, term in zip(self.weights, self.terms, strict=True)]
        return torch.stack(values).sum()


class Focal(nn.Module):
    """Focal loss on the softmax: the mean of (1 - p)^γ · -ln p over the pixels that aren't ignored.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 4. Written here because
    segmentation_models_pytorch's gives every class a sigmoid of its own, which isn't what the logits are read as, and
    is NaN where all pixels are ignored.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean."""
        log = -F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")
        # 1 - p as -expm1(ln p); not below the smallest number whose power has a finite slope.
        missing = (-torch.expm1(log)).clamp_min(torch.finfo(log.dtype).tiny)
        return (missing**self.gamma * -log).sum() / (targets != IGNORE).sum().clamp_min(1)


class Lovasz(nn.Module):
    """segmentation_models_pytorch's Lovász-softmax over the classes that the batch has.

    Berman, Triki and Blaschko, CVPR 2018. Where all pixels are ignored the library gives an empty tensor, hence this.
    """

    def __init__(self, library: nn.Module) -> None:
        super().__init__()
        self.library = library

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of the whole batch."""
        loss = self.library(logits, targets)
        return loss if loss.ndim == 0 else loss.sum() + 0 * logits.sum()


def _library(name: str) -> nn.Module:
    try:
        from segmentation_models_pytorch import losses
    except ImportError:
        raise UserError("loss: Dice and Lovász need a package more; pip install 'octavo[losses]'") from None
    return getattr(losses, name)("multiclass", ignore_index=IGNORE)
