"""The one LightningModule: a network, a loss and an optimiser on batches by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from octavo.data.batches import Batch
from octavo.engine.goals import Goal
from octavo.engine.graphs import Replayed
from octavo.engine.hardware import seed_device
from octavo.engine.schedule import factor
from octavo.keyed import seed_of
from octavo.networks.fold import FoldedLinear, Pooling
from octavo.recipe import Train

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda groups, t, fused: torch.optim.SGD(
        groups, lr=t.lr, momentum=t.momentum, nesterov=t.nesterov, weight_decay=t.weight_decay, fused=fused
    ),
    "adam": lambda groups, t, fused: torch.optim.Adam(groups, lr=t.lr, weight_decay=t.weight_decay, fused=fused),
    "adamw": lambda groups, t, fused: torch.optim.AdamW(groups, lr=t.lr, weight_decay=t.weight_decay, fused=fused),
}

_SWEEP, _DUST = 100, 1e-30
"""Steps after which moments below a size become zero, see `_swept`."""


class Ways(Protocol):
    """How a batch becomes a network's input (see `inputs.Inputs`)."""

    def plain(self, batch: Batch) -> Tensor:
        """Return the input without random change."""
        ...

    def training(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the input and the targets of a training step."""
        ...


@dataclass(frozen=True)
class FeatureInputs:
    """Cached features are a head's input: as they are, or spread to all places of a pooling.

    Attributes:
        pooling: what makes the head's features of those that are kept; None: they are the same.
    """

    pooling: Pooling | None = None

    def plain(self, batch: Batch) -> Tensor:
        """Return the features float32 [B,F]."""
        return self.spread(batch.inputs)

    def spread(self, features: Tensor) -> Tensor:
        """Return what is kept of images as the head's input float32 [B,F]."""
        return self.pooling.spread(features) if self.pooling else features

    def training(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the features float32 [B,F] and class ids int64 [B]."""
        return self.plain(batch), batch.labels


class Task(pl.LightningModule):
    """Trains `net` (a head on features, or a whole network) towards a goal.

    Everything that a stopped training needs is in the state dict: weights, averaged weights, the sums of the running
    epoch (`tally`) and the rows of the history. There is no random state: a step's dropout is seeded by its key.
    """

    tally: Tensor

    def __init__(self, net: nn.Module, inputs: Ways, train: Train, goal: Goal, *, steps: int, seed: int) -> None:
        """`steps` is the number of batches in an epoch."""
        super().__init__()
        self.net, self.inputs, self.train_spec, self.goal = net, inputs, train, goal
        self.steps, self.seed = steps, seed
        self.replayed = Replayed(net, gathers=train.accumulate > 1)
        self.averaged = None
        if train.ema:
            self.averaged = AveragedModel(net, multi_avg_fn=partial(_ema, train.ema), use_buffers=True)
            self.averaged.requires_grad_(False)  # DDP waits for the gradient of every parameter that could have one
        self.register_buffer("tally", torch.zeros(3))
        self.history: list[dict[str, float]] = []
        if train.mode == "frozen":
            self.thaw(0)

    @property
    def best_net(self) -> nn.Module:
        """The network that the member becomes: averaged weights if the recipe asks for them, else the last."""
        return self.averaged.module if self.averaged else self.net

    @property
    def folds(self) -> list[FoldedLinear]:
        """Layers that stand for wider ones."""
        return [layer for layer in self.net.modules() if isinstance(layer, FoldedLinear)]

    @property
    def copies(self) -> list[tuple[nn.Parameter, int]]:
        """Their columns, with the number of columns that each stands for."""
        return [pair for layer in self.folds for pair in layer.copies]

    def configure_optimizers(self) -> Any:
        """Return the optimiser with its groups (extractor, head) and the schedule by optimiser step."""
        train = self.train_spec
        backbone, head = getattr(self.net, "backbone", None), getattr(self.net, "head", self.net)
        groups: list[dict[str, Any]] = [
            {"params": [columns], "lr": train.lr * n, "weight_decay": train.weight_decay / n}
            for columns, n in self.copies
        ]
        apart = {id(columns) for columns, _ in self.copies}
        groups.append({"params": [p for p in head.parameters() if id(p) not in apart], "lr": train.lr})
        if backbone is not None and train.mode == "finetune":
            groups.insert(0, {"params": list(backbone.parameters()), "lr": train.lr * train.backbone_lr})
        # One pass over memory instead of ten: seven times as fast for VGG's heads on a CPU.
        fused = self.device.type in ("cpu", "cuda")
        optimizer = OPTIMIZERS[train.optimizer](groups, train, fused)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(train, step, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def thaw(self, epoch: int) -> None:
        """Freeze the extractor (weights and batch-norm statistics) where the head alone is trained in `epoch`."""
        backbone = getattr(self.net, "backbone", None)
        if backbone is None:
            return
        active = self.train_spec.mode == "finetune" and epoch >= self.train_spec.head_epochs
        backbone.requires_grad_(active)
        backbone.train(active)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss of one batch."""
        self.thaw(batch.epoch)
        inputs, targets = self.inputs.training(batch)
        seed_device(self.device, seed_of(self.seed, "step", batch.epoch, batch.step, self.global_rank))
        # Processes that train together exchange gradients while they are made, which no record has.
        logits = (self.replayed if self.trainer.world_size == 1 else self.net)(inputs).float()
        loss = self.goal.loss(logits, targets)
        if batch.step == 0:
            self.tally.zero_()
        # Summed over processes at once: DDP gives all of them the buffers of the first.
        self.tally += self.trainer.strategy.reduce(self.goal.sums(loss, logits, targets, batch.labels), reduce_op="sum")
        return loss

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Bound the norm of the whole gradient (by hand: Lightning's own clipping refuses fused optimisers)."""
        if self.train_spec.clip_norm:
            _times(self.copies, 0.5)  # one column's gradient counts as often as there were columns
            nn.utils.clip_grad_norm_(self.net.parameters(), self.train_spec.clip_norm)
            _times(self.copies, -0.5)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take an optimiser step and move the averaged weights after it, before any callback saves a checkpoint."""
        train, lr = self.train_spec, self.optimizers_lr()
        super().optimizer_step(*args, **kwargs)
        if self.device.type == "cpu" and self.global_step % _SWEEP == 0:
            _swept(self.trainer.optimizers[0])
        for layer in self.folds:
            layer.decayed(
                lr, train.weight_decay, momentum=train.momentum * (train.optimizer == "sgd"), nesterov=train.nesterov
            )
        if self.averaged:
            self.averaged.update_parameters(self.net)

    def on_train_end(self) -> None:
        """Give memory back that steps alone need."""
        self.replayed.forget()

    def on_validation_epoch_start(self) -> None:
        """Begin the sums of the held-out images."""
        self.goal.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch of held-out images to the sums, by the weights that the member would become now."""
        self.goal.hold(self.best_net(self.inputs.plain(batch)).float(), batch.labels)

    def on_validation_epoch_end(self) -> None:
        """Log the number that early stopping and `keep = "best"` go by; every process sees all held-out images."""
        self.log(self.goal.monitor, self.goal.held()[self.goal.monitor], sync_dist=False)

    def on_train_epoch_end(self) -> None:
        """Write the epoch's row of the history."""
        row = {"epoch": self.current_epoch + 1, "step": self.global_step, "lr": self.optimizers_lr()}
        numbers = self.goal.trained(self.tally) | self.goal.held()
        row |= {name: round(value, 6) for name, value in numbers.items()}
        self.history = [r for r in self.history if r["epoch"] < row["epoch"]] + [row]
        if self.logger:
            self.logger.log_metrics(row, step=self.global_step)

    def optimizers_lr(self) -> float:
        """Return the learning rate of the head at this moment."""
        return float(self.trainer.optimizers[0].param_groups[-1]["lr"])

    def get_extra_state(self) -> dict[str, Any]:
        """Return what belongs to a checkpoint beside the tensors: the rows of the history."""
        return {"history": self.history}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_extra_state` gave."""
        self.history = list(state["history"])


def _times(copies: Sequence[tuple[nn.Parameter, int]], power: float) -> None:
    """Multiply the gradient of columns by a power of the number of columns that each stands for."""
    for columns, n in copies:
        if columns.grad is not None:
            columns.grad.mul_(n**power)


@torch.no_grad()
def _swept(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimiser's moments zero where they are next to it.

    Those of a unit that gets no gradient shrink for ever, to a few times 1e-45, where rounding keeps them; numbers
    below 1e-38 take a processor up to eight times as long, and with them every step.
    """
    for state in optimizer.state.values():
        for moment in state.values():
            if isinstance(moment, Tensor) and moment.dim():
                moment.masked_fill_(moment.abs() < _DUST, 0)


@torch.no_grad()
def _ema(decay: float, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
    """Move an exponential moving average whose decay warms up as (1+n)/(10+n)."""
    n = int(count)
    weight = 1 - min(decay, (1 + n) / (10 + n))
    for mean, value in zip(averaged, current, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, weight)
        else:
            mean.copy_(value)
