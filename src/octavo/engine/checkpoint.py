"""Checkpointing: saved at moments from which training resumes exactly, after so many minutes or when it is stopped."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from safetensors.torch import save
from torch import nn

from octavo.data.batches import Batch
from octavo.engine.checkpoint_file import BEST, POSITION, save_best
from octavo.engine.task import Task
from octavo.files import write_atomic
from octavo.progress import Interrupted, Progress

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether the user has asked to stop, in memory that the processes of a DDP training share."""

    def __init__(self) -> None:
        self._number = multiprocessing.get_context("spawn").RawValue("i", 0)

    @property
    def signal(self) -> int:
        """Number of the signal that has come, 0 until then."""
        return self._number.value

    @signal.setter
    def signal(self, number: int) -> None:
        self._number.value = number

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self.signal:
            raise Interrupted(self.signal)

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Note SIGINT and SIGTERM instead of dying of them; a second one takes effect at once.

        Outside the main thread, where Python allows no handlers, signals are left as they are.
        """
        before = {number: signal.getsignal(number) for number in _STOPS}
        self.arm()
        try:
            yield self
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in before.items():
                    signal.signal(number, handler)

    def arm(self) -> None:
        """Take the signals (again): Lightning's own handler would leave with exit code 0 and save nothing."""
        if threading.current_thread() is threading.main_thread() and not self.signal:
            for number in _STOPS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)


class Saver(pl.Callback):
    """Saves `last.ckpt` every so many minutes and before stopping, and the best weights if they are wanted.

    It saves inside an epoch only, never after its last batch, where the Trainer would lose the validation that is due;
    and only between two optimiser steps, since gathered gradients aren't saved.
    """

    def __init__(self, path: Path, minutes: float, stop: Stop, best: Path | None = None) -> None:
        self.path, self.seconds, self.stop, self.best = path, minutes * 60, stop, best
        self.saved, self.lowest, self.place = time.monotonic(), float("inf"), (0, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the best held-out number so far, as one of which less is better."""
        return {"lowest": self.lowest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.lowest = state_dict["lowest"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals from Lightning."""
        self.stop.arm()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note in the checkpoint which batch comes next."""
        checkpoint[POSITION], checkpoint[BEST] = list(self.place), self.lowest < float("inf")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Save if it is time, and stop if the user asked for it."""
        task: Task = pl_module
        inside = batch.step + 1 < task.steps and (batch.step + 1) % task.train_spec.accumulate == 0
        # All processes take part in saving, so all must come to the same answer.
        due = trainer.strategy.reduce_boolean_decision(time.monotonic() - self.saved >= self.seconds, all=False)
        asked = trainer.strategy.reduce_boolean_decision(bool(self.stop.signal), all=False)
        if inside and (due or asked):
            self.place = (batch.epoch, batch.step + 1)
            trainer.save_checkpoint(self.path)
            self.saved = time.monotonic()
        # Elsewhere it goes on to the next place that can be saved, if an epoch has one at all.
        if asked and (inside or task.steps <= task.train_spec.accumulate):
            raise Interrupted(self.stop.signal or signal.SIGTERM)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Keep the weights of the best held-out number, where the recipe asks for them."""
        goal = pl_module.goal
        number = float(trainer.callback_metrics[goal.monitor]) * (1 if goal.mode == "min" else -1)
        if self.best and number < self.lowest:
            self.lowest = number
            if trainer.is_global_zero:
                save_best(pl_module.best_net, self.best)


class Bar(pl.Callback):
    """Tells the progress of a training: loss, accuracy, images per second."""

    def __init__(self, progress: Progress, what: str, epochs: int) -> None:
        self.progress, self.what, self.epochs = progress, what, epochs
        self.images, self.since = 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Tell how far it is, a few times a second at the most."""
        self.images += len(batch.labels)
        took = time.monotonic() - self.since
        last = batch.step + 1 == pl_module.steps
        if trainer.is_global_zero and (took > 0.5 or last):
            rate = f"{self.images / max(took, 1e-9):,.0f} images/s"
            note = f"epoch {batch.epoch + 1}/{self.epochs} {pl_module.goal.progress(pl_module.tally)} {rate}"
            with suppress(Interrupted):  # the Saver stops, once it has saved
                self.progress(
                    self.what, batch.epoch * pl_module.steps + batch.step + 1, self.epochs * pl_module.steps, note
                )
            self.images, self.since = 0, time.monotonic()


def save_net(net: nn.Module, path: Path) -> str:
    """Write the network's parameters and buffers as safetensors, whole or not at all; return the file's SHA-256."""
    content = save({k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()})
    write_atomic(path, content)
    return hashlib.sha256(content).hexdigest()
