"""The learning rate against torch's own schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as lrs

from octavo.engine.schedule import SCHEDULES, factor
from octavo.schema.common import Train

CASES: dict[str, tuple[dict[str, Any], Callable[[Optimizer], Any]]] = {
    "constant": ({}, lambda o: lrs.ConstantLR(o, 1.0)),
    "step": ({"step_size": 7, "gamma": 0.5}, lambda o: lrs.StepLR(o, 7, 0.5)),
    "cosine": ({"epochs": 4}, lambda o: lrs.CosineAnnealingLR(o, 40)),
}


def rates(make: Callable[[Optimizer], Any], steps: int) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    schedule, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_torchs(name: str) -> None:
    keys, expected = CASES[name]
    train = Train.model_validate({"schedule": name} | keys)
    assert [factor(train, step, 10) for step in range(40)] == pytest.approx(rates(expected, 40), abs=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_is_torchs_linear_one_before_the_schedule(name: str) -> None:
    keys, _ = CASES[name]
    train = Train.model_validate({"schedule": name, "warmup_epochs": 0.5, "epochs": 5} | keys | {"epochs": 5})
    found = [factor(train, step, 10) for step in range(50)]
    assert found[:5] == pytest.approx(rates(lambda o: lrs.LinearLR(o, 0.01, 1.0, 5), 5))
    after = {
        "constant": CASES["constant"][1],
        "step": CASES["step"][1],
        "cosine": lambda o: lrs.CosineAnnealingLR(o, 45),
    }
    assert found[5:] == pytest.approx(rates(after[name], 45), abs=1e-9)


def test_steps_are_the_optimisers() -> None:
    train = Train(schedule="cosine", epochs=2, accumulate=4)
    halfway = factor(train, 3, 10)  # ten batches are three optimiser steps, the last of two batches
    assert halfway == pytest.approx(0.5)


def test_a_step_beyond_the_end_is_zero_not_negative_or_rising() -> None:
    assert factor(Train(schedule="cosine", epochs=1), 99, 10) == pytest.approx(0)
    assert factor(Train(schedule="cosine", epochs=1, warmup_epochs=1), 10, 10) == pytest.approx(1)
