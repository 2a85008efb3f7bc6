"""Trainings that go nowhere are told, once, and others aren't."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from octavo.engine.watch import ENOUGH, Watch

NORM, PLAIN = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.Conv2d(3, 4, 1)


def told(
    rows: list[dict[str, float]],
    plain: bool = True,
    net: nn.Module = NORM,
    reestimate: bool = False,
    first: bool = True,
) -> list[str]:
    """What is said of a training with these numbers, epoch by epoch."""
    lines: list[str] = []
    tell(Watch("vgg", lines.append), rows, plain, net, reestimate, first)
    return lines


def tell(
    watch: Watch,
    rows: list[dict[str, float]],
    plain: bool = True,
    net: nn.Module = NORM,
    reestimate: bool = False,
    first: bool = True,
    start: int = 0,
    steps: int = ENOUGH,
) -> None:
    """Show a watch the numbers of epochs from `start`."""
    for epoch, row in enumerate(rows, start):
        goal: Any = SimpleNamespace(
            chance=math.log(10),
            plain=plain,
            cure="a lower train.lr",
            trained=lambda tally, row=row: {k: v for k, v in row.items() if k.startswith("train")},
            held=lambda row=row: {k: v for k, v in row.items() if k.startswith("holdout")},
        )
        spec = SimpleNamespace(reestimate_norm=reestimate)
        task = SimpleNamespace(goal=goal, current_epoch=epoch, tally=None, train_spec=spec, net=net.train())
        trainer = SimpleNamespace(is_global_zero=first, global_step=(epoch + 1) * steps)
        watch.on_train_epoch_end(trainer, task)  # type: ignore[arg-type]


def losses(*values: float) -> list[dict[str, float]]:
    return [{"train_loss": value} for value in values]


def test_two_epochs_at_ln_c_are_told_once() -> None:
    lines = told(losses(2.30, 2.31, 2.30, 2.30))
    assert len(lines) == 1
    assert lines[0].startswith("vgg: loss 2.310 after epoch 2 is still that of guessing (ln C = 2.303): nothing is")
    assert "train.lr" in lines[0] and "\n" not in lines[0]


def test_epochs_of_one_step_have_time_to_learn() -> None:
    lines: list[str] = []
    tell(Watch("vgg", lines.append), losses(*[2.30] * (ENOUGH - 1)), steps=1)
    assert lines == []
    tell(Watch("vgg", lines.append), losses(*[2.30] * ENOUGH), steps=1)
    assert len(lines) == 1 and f"after epoch {ENOUGH}" in lines[0]


@pytest.mark.parametrize("values", [(2.30,), (2.30, 2.0, 2.30, 1.9), (2.2, 2.1), (3.0, 2.9), (math.nan, math.nan)])
def test_a_training_that_moves_is_left_alone(values: tuple[float, ...]) -> None:
    assert told(losses(*values)) == []


def test_another_loss_is_told_by_the_held_out_cross_entropy() -> None:
    assert told(losses(2.30, 2.30, 2.30), plain=False) == []
    held = [{"train_loss": 0.8, "holdout_loss": 2.301}] * 3
    assert told(held) == []
    assert len(told(held, plain=False)) == 1 and told(held, plain=False)[0].startswith("vgg: loss 2.301 after epoch 2")


def lagging(right: float, held: float) -> list[dict[str, float]]:
    return [{"train_loss": 0.5, "train_accuracy": right, "holdout_loss": 4.0, "holdout_accuracy": held}] * 3


def test_batch_norm_that_lags_behind_is_told_once() -> None:
    lines = told(lagging(0.95, 0.11))
    assert len(lines) == 1
    assert "accuracy 0.95 on training images, but 0.11 held out after epoch 1" in lines[0]
    assert "train.reestimate_norm = true" in lines[0]


@pytest.mark.parametrize(("right", "held"), [(0.95, 0.4), (0.4, 0.1), (0.5, 0.12)])
def test_ordinary_overfitting_is_left_alone(right: float, held: float) -> None:
    assert told(lagging(right, held)) == []


def test_batch_norm_is_not_blamed_where_there_is_none() -> None:
    assert told(lagging(0.95, 0.11), net=PLAIN) == []
    assert told(lagging(0.95, 0.11), reestimate=True) == []
    assert told([{"train_loss": 0.5, "train_accuracy": 0.95}]) == []  # nothing held out


def test_one_process_alone_tells() -> None:
    assert told(losses(2.3, 2.3) + lagging(0.95, 0.11), first=False) == []


def test_what_was_told_is_in_the_checkpoint() -> None:
    """A training that goes on neither tells it again nor forgets how long its loss has been at ln C."""
    lines: list[str] = []
    before = Watch("vgg", lines.append)
    tell(before, losses(2.30))
    state = pickle.loads(pickle.dumps(before.state_dict()))
    after = Watch("vgg", lines.append)
    after.load_state_dict(state)
    tell(after, losses(2.31), start=1)
    assert len(lines) == 1 and "after epoch 2" in lines[0]
    again = Watch("vgg", lines.append)
    again.load_state_dict(after.state_dict())
    tell(again, losses(2.30, 2.30), start=2)
    assert len(lines) == 1
