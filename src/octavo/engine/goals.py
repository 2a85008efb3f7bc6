"""What training is for: the loss, what is counted on the way, and what the held-out images say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavo.data.classes import IGNORE
from octavo.engine.cross_entropy import CrossEntropy
from octavo.numbers.mask_results import CLASS_IOU


class Goal(nn.Module):
    """A loss, sums over the running epoch, and sums over the held-out images.

    Attributes:
        monitor: name under which the held-out number is logged that early stopping and `keep = "best"` go by.
        mode: whether the lowest (`min`) or the highest (`max`) of it is best.
        chance: ln C, the cross-entropy of a network that finds all classes equally likely.
        plain: whether the loss of training is a cross-entropy, and so can be compared with that.
        cure: what to try where nothing is learned.
    """

    monitor: str
    mode: Literal["min", "max"]
    chance: float
    plain: bool
    cure = "a lower train.lr, train.clip_norm = 1, or train.warmup_epochs = 1"

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch; `logits` float32."""
        raise NotImplementedError

    def sums(self, loss: Tensor, logits: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
        """Return what a batch adds to the sums of its epoch, float32 [3]: loss × images, images, and a third."""
        raise NotImplementedError

    def progress(self, tally: Tensor) -> str:
        """Return the running sums in a few words."""
        raise NotImplementedError

    def trained(self, tally: Tensor) -> dict[str, float]:
        """Return the columns of the history that the sums of an epoch give."""
        raise NotImplementedError

    def reset(self) -> None:
        """Begin the sums of the held-out images."""
        raise NotImplementedError

    def hold(self, logits: Tensor, labels: Tensor) -> None:
        """Add one batch of held-out images; `logits` float32."""
        raise NotImplementedError

    def held(self) -> dict[str, float]:
        """Return the columns of the history that the held-out images give, none if there were none."""
        raise NotImplementedError


class ClassifyGoal(Goal):
    """Cross-entropy on logits [B,C], and the share of right answers."""

    monitor, mode = "holdout_loss", "min"
    _held: Tensor

    def __init__(self, classes: int, class_weights: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        """`class_weights` float32 [C]."""
        super().__init__()
        self.criterion = CrossEntropy(class_weights, label_smoothing)
        self.chance, self.plain, self._classes = math.log(classes), True, classes
        self.register_buffer("_held", torch.zeros(3), persistent=False)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy; `targets` int64 [B] or probabilities float [B,C]."""
        return self.criterion(logits, targets)

    def sums(self, loss: Tensor, logits: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
        """Return float32 [3]: loss × images, images, right answers by `labels` (also where targets are mixed)."""
        right = (logits.argmax(1) == labels).sum()
        count = logits.new_full((), len(labels))
        return torch.stack([loss.detach().float() * count, count, right.float()])

    def progress(self, tally: Tensor) -> str:
        """Return loss and accuracy so far."""
        loss, count, right = tally.tolist()
        return f"loss {loss / count:.3f} accuracy {right / count:.3f}"

    def trained(self, tally: Tensor) -> dict[str, float]:
        """Return mean loss and accuracy of the epoch's images."""
        loss, count, right = tally.tolist()
        return {"train_loss": loss / count, "train_accuracy": right / count}

    def reset(self) -> None:
        """Begin the sums of the held-out images."""
        self._held.zero_()

    def hold(self, logits: Tensor, labels: Tensor) -> None:
        """Add one batch of held-out images."""
        self._held += self.sums(F.cross_entropy(logits, labels), logits, labels, labels)

    def held(self) -> dict[str, float]:
        """Return mean cross-entropy and accuracy of the held-out images."""
        loss, count, right = self._held.tolist()
        return {"holdout_loss": loss / count, "holdout_accuracy": right / count} if count else {}


class DistilGoal(ClassifyGoal):
    """The teacher's answers and the labels, weighed (Hinton, Vinyals and Dean, arXiv 1503.02531, section 2)."""

    def __init__(self, goal: ClassifyGoal, temperature: float, weight: float) -> None:
        """Take the labels' part from `goal`; `weight` 0–1 is the teacher's share."""
        super().__init__(goal._classes)
        self.criterion, self.temperature, self.weight, self.plain = goal.criterion, temperature, weight, False

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss; `targets` float32 [B,C+1]: the teacher's logits and, last, the class id."""
        taught, labels = targets[:, :-1] / self.temperature, targets[:, -1].long()
        said = F.log_softmax(logits / self.temperature, dim=1)
        soft = F.kl_div(said, F.log_softmax(taught, dim=1), reduction="batchmean", log_target=True)
        return self.weight * self.temperature**2 * soft + (1 - self.weight) * self.criterion(logits, labels)


class SegmentGoal(Goal):
    """A loss on logits [B,C,H,W] and masks, the share of right pixels, and the IoU of the held-out images."""

    monitor, mode = "holdout_miou", "max"
    cure = f"{Goal.cure}, or segmenter.zero_scores = true"
    _losses: Tensor
    _counts: Tensor

    def __init__(
        self,
        criterion: Callable[[Tensor, Tensor], Tensor],
        names: Sequence[str],
        count: Callable[[Tensor, Tensor, int], Tensor],
        score: Callable[[Tensor], tuple[float, np.ndarray]],
        *,
        plain: bool,
    ) -> None:
        """Join what is minimised and what is counted.

        Args:
            criterion: logits float32 [B,C,H,W] and masks int64 [B,H,W] → mean loss; `IGNORE` counts nowhere.
            names: of the C classes.
            count: predicted and true ids uint8 [B,H,W] and C → confusion counts of each image, int64 [B,C+1,C+1].
            score: the summed counts, on the CPU → the headline's mean IoU, and the IoU of each class float64 [C], not a
                number where the class doesn't occur.
            plain: whether the criterion is a cross-entropy alone.
        """
        super().__init__()
        self.criterion, self.names, self.count, self.score = criterion, tuple(names), count, score
        self.classes = classes = len(self.names)
        self.chance, self.plain = math.log(classes), plain
        self.register_buffer("_losses", torch.zeros(2), persistent=False)
        self.register_buffer("_counts", torch.zeros((classes + 1, classes + 1), dtype=torch.int64), persistent=False)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss; `targets` int64 [B,H,W]."""
        return self.criterion(logits, targets)

    def sums(self, loss: Tensor, logits: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
        """Return float32 [3]: loss × images, images, share of right pixels × images."""
        known = targets != IGNORE
        right = ((logits.argmax(1) == targets) & known).sum() / known.sum().clamp(min=1)
        count = logits.new_full((), len(targets))
        return torch.stack([loss.detach().float() * count, count, right.float() * count])

    def progress(self, tally: Tensor) -> str:
        """Return loss and share of right pixels so far."""
        loss, count, right = tally.tolist()
        return f"loss {loss / count:.3f} pixels {right / count:.3f}"

    def trained(self, tally: Tensor) -> dict[str, float]:
        """Return mean loss and pixel accuracy of the epoch's crops."""
        loss, count, right = tally.tolist()
        return {"train_loss": loss / count, "train_pixel_accuracy": right / count}

    def reset(self) -> None:
        """Begin the sums of the held-out images."""
        self._losses.zero_()
        self._counts.zero_()

    def hold(self, logits: Tensor, labels: Tensor) -> None:
        """Add one batch of whole held-out images, scored at the masks' own size."""
        logits = enlarged(logits, (labels.shape[1], labels.shape[2]))
        loss = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="sum")
        self._losses += torch.stack([loss, (labels != IGNORE).sum().float()])
        counts = self.count(logits.argmax(1).to(torch.uint8), labels, self.classes)
        self._counts += counts.sum(0).to(self._counts.device)

    def held(self) -> dict[str, float]:
        """Return mean cross-entropy a pixel, pixel accuracy, mean IoU and IoU of each class that occurs."""
        loss, pixels = self._losses.tolist()
        counts = self._counts.cpu()
        known = int(counts[:-1].sum())
        if not counts.sum():
            return {}
        right = int(counts.diagonal()[:-1].sum()) / max(known, 1)
        loss /= max(pixels, 1)
        mean, each = self.score(counts)
        ious = {
            f"{CLASS_IOU}{name}": float(iou) for name, iou in zip(self.names, each, strict=True) if not np.isnan(iou)
        }
        return {"holdout_loss": loss, "holdout_pixel_accuracy": right, self.monitor: mean} | ious


def enlarged(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return logits [B,C,H,W] at another size, bilinearly; as they are if it is their own."""
    if tuple(logits.shape[2:]) == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
