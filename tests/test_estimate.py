"""What a run will take, against sums done by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from octavo.engine import estimate as module
from octavo.engine.estimate import BASE, RESERVE, estimate, matrix_rate
from octavo.engine.hardware import Hardware
from octavo.networks.build import build_member
from octavo.recipe import Recipe

CPU = Hardware("cpu")
COUNTS = {"fit": 1000, "holdout": 100, "val": 200}


@pytest.fixture(autouse=True)
def rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "matrix_rate", lambda device, bf16: 2e11 if bf16 else 1e11)


def recipe(train: dict | None = None, members: int = 1, backbone: str = "resnet18", **rest: object) -> Recipe:
    rows = [{"name": f"m{i}", "backbone": backbone, "weights": "none"} for i in range(members)]
    made = {"name": "t", "data": {"size": 64}, "train": {"epochs": 2} | (train or {}), "members": rows, **rest}
    return Recipe.model_validate(made)


def flops(net: nn.Module, size: int) -> float:
    """Two per multiplication of each convolution and Linear, counted layer by layer."""
    total = 0

    def count(layer: nn.Module, args: tuple, out: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += 2 * out.numel() * layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
        elif isinstance(layer, nn.Linear):
            total += 2 * out.numel() * layer.in_features

    for layer in net.modules():
        layer.register_forward_hook(count)
    net.eval()(torch.empty(1, 3, size, size, device="meta"))
    return total


def test_time_is_operations_over_the_measured_rate() -> None:
    made = recipe()
    net = build_member(made.members[0], made, 10, "meta")
    passes = (1000 * 3 + 100) * 2 + 300
    found = estimate(made, 10, COUNTS, CPU)
    compute = passes * flops(net, 64) / (0.6 * 1e11)
    parameters = sum(p.numel() for p in net.parameters())
    moving = 2 * 16 * 24 * parameters / 10e9  # 32 steps of some 24 bytes a parameter
    assert found.seconds == pytest.approx(compute + moving, rel=0.02)
    assert estimate(recipe({"precision": "bf16"}), 10, COUNTS, CPU).seconds < found.seconds
    assert estimate(made, 10, COUNTS, Hardware("cpu", 2)).seconds == pytest.approx(found.seconds / 2)


@pytest.mark.parametrize(
    ("more", "of"), [({"epochs": 4}, "seconds"), ({"batch_size": 128}, "memory"), ({"optimizer": "adam"}, "memory"),
                     ({"ema": 0.9}, "memory"), ({"optimizer": "adam"}, "disk")]
)  # fmt: skip
def test_more_costs_more(more: dict, of: str) -> None:
    assert getattr(estimate(recipe(more), 10, COUNTS, CPU), of) > getattr(estimate(recipe(), 10, COUNTS, CPU), of)


def test_memory_is_weights_gradients_state_and_activations() -> None:
    made = recipe({"batch_size": 2}, backbone="squeezenet1_1")
    net = build_member(made.members[0], made, 10, "meta")
    parameters = 4 * sum(p.numel() for p in net.parameters())
    found = (estimate(made, 10, COUNTS, CPU).memory - BASE) / RESERVE
    assert 3 * parameters < found + 1
    large = estimate(recipe({"batch_size": 102}, backbone="squeezenet1_1"), 10, COUNTS, CPU).memory - BASE
    large /= RESERVE
    per_image = (large - found) / 100
    assert 0.3e6 < per_image < 5e6  # some 64 px of squeezenet


def test_a_frozen_extractor_runs_once_and_is_shared() -> None:
    frozen = {"mode": "frozen", "epochs": 50}
    one, three = (estimate(recipe(frozen, members=n), 10, COUNTS, CPU) for n in (1, 3))
    uncached = estimate(recipe(frozen | {"cache": False}), 10, COUNTS, CPU)
    assert one.seconds < uncached.seconds / 20
    assert three.seconds < one.seconds * 1.5
    weights = 4 * sum(p.numel() for p in build_member(recipe().members[0], recipe(), 10, "meta").parameters())
    assert three.disk - one.disk == pytest.approx(2 * weights, rel=0.01)
    assert one.disk > weights + 512 * 4 * 1300


def test_the_rate_is_a_plausible_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1e8 < matrix_rate(torch.device("cpu"), False) < 1e14
