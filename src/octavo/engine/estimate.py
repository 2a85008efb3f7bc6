"""What a run will take, before its first step: time, memory, disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from octavo.engine.hardware import Hardware
from octavo.networks.build import build_member
from octavo.recipe import Member, Recipe

STATE = {"sgd": 1, "adam": 2, "adamw": 2}
"""Numbers that an optimiser keeps for each parameter."""
EFFICIENCY = 0.6
"""Share of the matrix rate that networks reach: 0.5–0.9 for the eight members on a CPU; never measured on a GPU."""
PASSES = 3
"""Cost of a training step in forward passes: forward, gradients of inputs, gradients of weights."""


@dataclass(frozen=True)
class Estimate:
    """What training takes: seconds, bytes of memory and of disk at the highest point.

    Seconds were compared with trainings on CPUs alone: within a factor of about two where a step is much work, too few
    where it is little (small networks at 32 px: seven times too few), and on GPUs a guess.
    """

    seconds: float
    memory: int
    disk: int


def estimate(recipe: Recipe, classes: int, counts: Mapping[str, int], hardware: Hardware) -> Estimate:
    """Return the estimate for a recipe.

    Operations are counted on the meta device, and set against the rate of a matrix product measured now; the time for
    moving parameters through memory in each step is added.

    Args:
        recipe: the resolved recipe.
        classes: number of classes C.
        counts: images in each part (`fit`, `holdout`, `val`, …).
        hardware: where it will run.
    """
    seconds, memory, weights, largest, features = 0.0, 0, 0, 0, {}
    rates: dict[str, float] = {}
    others = sum(n for part, n in counts.items() if part != "fit")
    for member in recipe.members:
        train = recipe.train_of(member)
        rate = rates.setdefault(train.precision, EFFICIENCY * matrix_rate(hardware.device, train.precision == "bf16"))
        cost = _cost(recipe, member, classes)
        frozen = train.mode == "frozen" and train.cache
        step = 16 * (cost.head if frozen else cost.parameters) * (2 + STATE[train.optimizer]) / 2
        steps = train.epochs * -(-counts["fit"] // train.batch_size)
        passes = (counts["fit"] * PASSES + counts.get("holdout", 0)) * train.epochs + others
        key = (member.backbone, member.pool, recipe.size_of(member), member.weights)
        if frozen:
            fresh = key not in features
            features[key] = cost.features * 4 * train.views * (counts["fit"] + others)
            passes = (counts["fit"] + others) * train.views if fresh else 0
        seconds += passes * cost.flops / rate + steps * step / BANDWIDTH[hardware.kind]
        state = 4 * (cost.head if frozen else cost.parameters) * (1 + STATE[train.optimizer] + bool(train.ema))
        passing = ALIVE * cost.widest * EVALUATED if train.mode == "frozen" else cost.activations * train.batch_size
        memory = max(memory, 4 * cost.parameters + state + passing)
        weights += 4 * cost.parameters
        largest = max(largest, 2 * state)
    return Estimate(seconds / hardware.count, int(memory * RESERVE) + BASE, weights + largest + sum(features.values()))


BANDWIDTH = {"cpu": 10e9, "mps": 100e9, "cuda": 1e12}
"""Bytes per second that an optimiser's step moves: roughly on a CPU, and the order of magnitude alone on GPUs."""
ALIVE, EVALUATED = 3, 64
"""Without a backward pass: layers that are in memory at one time, and images in a batch."""
BASE = 700 * 2**20
"""Memory of Python with torch loaded."""
RESERVE = 1.7
"""What allocators hold beyond what is used (1.7 where the demo was measured on a CPU)."""


@dataclass(frozen=True)
class _Cost:
    flops: float
    parameters: int
    head: int
    features: int
    activations: int
    widest: int


def _cost(recipe: Recipe, member: Member, classes: int) -> _Cost:
    """Count for one image: operations forward, parameters, bytes kept for the backward pass, the widest layer."""
    net = build_member(member, recipe, classes, "meta").train()
    size, kept, widest = recipe.size_of(member), 0, 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept, widest
        # A Linear saves its weight's transpose, a view: parameters are counted on their own.
        parameter = isinstance(tensor, torch.nn.Parameter) or isinstance(tensor._base, torch.nn.Parameter)
        kept += 0 if parameter else tensor.nbytes
        widest = max(widest, 0 if parameter else tensor.nbytes)
        return tensor

    x = torch.empty(2, 3, size, size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        net(x)
    return _Cost(
        counter.get_total_flops() / 2,
        sum(p.numel() for p in net.parameters()),
        sum(p.numel() for p in net.head.parameters()),
        net.backbone.features,
        kept // 2,
        widest // 2,
    )


def matrix_rate(device: torch.device, bf16: bool) -> float:
    """Return floating-point operations per second of a 2048² matrix product, the best of three."""
    side = 2048
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
