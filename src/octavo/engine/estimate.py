"""What a run will take, before its first step: time, memory, disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from octavo.engine.hardware import Hardware, matrix_rate
from octavo.networks.build import build_member
from octavo.networks.fold import halves
from octavo.recipe import EnsembleRecipe, Member, Recipe, Train

STATE = {"sgd": 1, "adam": 2, "adamw": 2}
"""Numbers that an optimiser keeps for each parameter."""
PASSES = 3
"""Cost of a training step in forward passes: forward, gradients of inputs, gradients of weights."""
EFFICIENCY = 1.0
"""Share of the matrix rate that convolutions reach. On one Zen 4 core: 1.7 for 3×3 ones (vgg16), 0.6–1 for others."""
TRAFFIC = {"cpu": 4e9, "mps": 100e9, "cuda": 1e12}
"""Bytes per second of layers' outputs that are written, read and given back: what small images and depthwise layers
cost. Measured on one Zen 4 core; for GPUs the order of magnitude alone, as in the next two."""
CALL = {"cpu": 20e-6, "mps": 20e-6, "cuda": 10e-6}
"""Seconds that starting one operation takes, however small it is."""
STEP = 5e-3
"""Seconds that a training step takes beside the network's own work: the batch, the loss, the Trainer."""
BANDWIDTH = {"cpu": 10e9, "mps": 100e9, "cuda": 1e12}
"""Bytes per second that an optimiser's step moves: roughly on a CPU, and the order of magnitude alone on GPUs."""
ALIVE, EVALUATED = 3, 64
"""Without a backward pass: layers that are in memory at one time, and a classifier's images in a batch."""
BASE = 700 * 2**20
"""Memory of Python with torch loaded."""
RESERVE = 1.7
"""What allocators hold beyond what is used (1.7 where the demo was measured on a CPU)."""


@dataclass(frozen=True)
class Estimate:
    """What training takes: seconds, bytes of memory and of disk at the highest point.

    Seconds are for a machine that does nothing else. On one Zen 4 core training steps took between a half and twice
    as long (squeezenet1_1, mobilenet_v2 and v3, resnet18, densenet161 and vgg16 at 32–64 px, batches of 8–64); on GPUs
    they are a guess.
    """

    seconds: float
    memory: int
    disk: int


@dataclass(frozen=True)
class Anatomy:
    """A network on the meta device, cut in two where training may keep what the first half gives.

    Attributes:
        net: the whole network.
        body: images [B,3,H,W] → features.
        tail: features → what the loss takes.
        head: what is trained of it when its extractor is frozen.
        size: height and width of what training sees, in pixels.
        area: size of the images it is evaluated on, as a multiple of those it is trained on.
        batch: how many of these are seen at once.
        shared: what networks have in common that share cached features.
        scores: what the loss takes on a CPU beside the network's work, seconds for each image.
    """

    net: nn.Module
    body: Callable[[Tensor], Any]
    tail: Callable[[Any], Any]
    head: nn.Module
    size: tuple[int, int]
    shared: object
    area: float = 1.0
    batch: int = EVALUATED
    scores: float = 0.0


def estimate(
    recipe: Recipe,
    anatomy: Callable[[Any], Anatomy],
    counts: Mapping[str, int],
    hardware: Hardware,
    *,
    known: Collection[str] = (),
    search: float = 0.0,
) -> Estimate:
    """Return the estimate for a recipe of any task.

    Operations, the bytes of their results and their number are counted on the meta device. The operations are set
    against the rate of a matrix product measured now, the rest against constants of this module.

    Args:
        recipe: the resolved recipe.
        anatomy: network of the recipe → how it is built.
        counts: images in each part (`fit`, `holdout`, `val`, …) of one training (the first fold's).
        hardware: where it will run.
        known: names of networks whose features are in the cache already.
        search: seconds that the search for near-duplicates takes before the first step.
    """
    seconds, memory, weights, spare = 0.0, 0.0, 0, 0
    rates: dict[str, float] = {}
    features: dict[object, int] = {}
    for network in recipe.networks:
        train = recipe.train_of(network)
        bf16 = train.precision == "bf16"
        if train.precision not in rates:
            rates[train.precision] = EFFICIENCY * matrix_rate(hardware.device, bf16)
        built = anatomy(network)
        cost, cached, key = _cost(built), train.mode == "frozen" and train.cache, built.shared
        fresh, before = key not in features and network.name not in known, seconds
        for _ in range(max(recipe.folds, 1)):
            seconds += _seconds(cost, train, counts, rates[train.precision], hardware.kind, fresh=fresh)
            fresh = fresh and not cached
        if hardware.kind == "cpu":
            images = counts["fit"] * train.epochs * _trained_area(cost.area, train)
            seconds += max(recipe.folds, 1) * built.scores * images
        if cached and network.name not in known:
            features[key] = round(4 * cost.features * cost.area * train.views * sum(counts.values()))
        memory = max(memory, _memory(cost, train))
        weights += 4 * (cost.parameters + max(recipe.folds - 1, 0) * cost.trained(train))
        spare = max(spare, _spare(cost, train, seconds - before))
    disk = weights + spare + sum(features.values())
    return Estimate(search + seconds / hardware.count, int(memory * RESERVE) + BASE, disk)


def _spare(cost: _Cost, train: Train, seconds: float) -> int:
    """Return the bytes on disk beside the final weights: the best so far, and a checkpoint with that which replaces it.

    A training that is over before a checkpoint is due, even if it takes twice as long, writes none.
    """
    best = 4 * cost.parameters if train.keep == "best" else 0
    if 2 * seconds < 60 * train.checkpoint_minutes:
        return best
    return best + 2 * 4 * cost.trained(train) * (1 + STATE[train.optimizer] + bool(train.ema))


@dataclass(frozen=True)
class _Work:
    """What one forward pass of one image is: floating-point operations, and bytes of results.

    `calls` is the number of operations, however many images a batch has; `kept` the bytes that the backward pass
    needs, and `widest` the largest of them.
    """

    flops: float
    moved: float
    calls: int
    kept: float
    widest: float


@dataclass(frozen=True)
class _Cost:
    """A network's work up to the features and behind them, parameters (in all, in the head), numbers of features.

    `area` is the size of the images it is evaluated on, as a multiple of those it is trained on, `batch` how many of
    them are seen at once where a recipe doesn't say so.
    """

    body: _Work
    tail: _Work
    parameters: int
    head: int
    features: int
    area: float
    batch: int

    def trained(self, train: Train) -> int:
        """Return how many parameters the optimiser has."""
        return self.head if train.mode == "frozen" else self.parameters


def _seconds(cost: _Cost, train: Train, counts: Mapping[str, int], rate: float, kind: str, fresh: bool) -> float:
    """Return how long a network is trained and evaluated; `fresh`: its features are in nobody's cache yet."""
    fit, others = counts["fit"], cost.area * sum(n for part, n in counts.items() if part != "fit")
    held = cost.area * counts.get("holdout", 0)
    tail = (PASSES * fit * _trained_area(cost.area, train) + held) * train.epochs + others
    body = tail
    if train.mode == "frozen":
        body = (fit + held) * train.epochs + others
        if train.cache:
            body = (fit * cost.area + others) * train.views if fresh else 0

    steps = train.epochs * -(-fit // train.batch_size)
    moving = 8 * cost.trained(train) * (2 + STATE[train.optimizer]) / BANDWIDTH[kind]
    first, second = (_each(work, rate, kind, train.batch_size) for work in (cost.body, cost.tail))
    return body * first + tail * second + steps * (STEP + moving)


def _trained_area(area: float, train: Train) -> float:
    """Return the size of what is trained on as a multiple of a crop: cached features are those of whole images."""
    return area if train.mode == "frozen" and train.cache else 1.0


def pass_seconds(recipe: EnsembleRecipe, member: Member, classes: int, images: int, hardware: Hardware) -> float:
    """Return how long a member takes to look at so many images once, without training; as rough as `estimate`."""
    cost = _cost(member_anatomy(recipe, member, classes))
    rate = EFFICIENCY * matrix_rate(hardware.device, recipe.train_of(member).precision == "bf16")
    return images * sum(_each(work, rate, hardware.kind, EVALUATED) for work in (cost.body, cost.tail))


def _each(work: _Work, rate: float, kind: str, batch: int) -> float:
    """Return the seconds of one image in a batch of so many."""
    return work.flops / rate + work.moved / TRAFFIC[kind] + work.calls * CALL[kind] / batch


def _memory(cost: _Cost, train: Train) -> float:
    """Return the bytes of weights, gradients, the optimiser's state and the layers' outputs."""
    state = 4 * cost.trained(train) * (1 + STATE[train.optimizer] + bool(train.ema))
    kept = cost.tail.kept + (cost.body.kept if train.mode == "finetune" else 0)
    batch = cost.batch if train.mode == "frozen" else min(cost.batch, train.batch_size)
    seen = ALIVE * max(cost.body.widest, cost.tail.widest) * cost.area * batch
    return 4 * cost.parameters + state + max(kept * _trained_area(cost.area, train) * train.batch_size, seen)


def member_anatomy(recipe: EnsembleRecipe, member: Member, classes: int) -> Anatomy:
    """Return how a member of an ensemble is built."""
    net = build_member(member, recipe, classes, "meta").train()
    size, train = recipe.size_of(member), recipe.train_of(member)
    body, tail, head = net.backbone, net.head, net.head
    if train.mode == "frozen" and train.cache:
        parts = halves(net.backbone, net.head, member.pool, train)
        body, tail, head = parts.body, parts.behind, parts.head
    return Anatomy(net, body, tail, head, (size, size), (member.backbone, member.pool, size, member.weights))


def _cost(built: Anatomy) -> _Cost:
    """Count what a network is and does, on the meta device."""
    features, first = _counted(built.body, torch.empty(2, 3, *built.size, device="meta"))
    _, second = _counted(built.tail, features)
    maps = [features] if isinstance(features, Tensor) else list(features)
    numbers = sum(m.numel() for m in maps) // 2
    return _Cost(first, second, _parameters(built.net), _parameters(built.head), numbers, built.area, built.batch)


class _Traffic(TorchDispatchMode):
    """Counts operations, and the bytes of their results; a view, as of a Linear's transposed weight, moves none."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.bytes = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls += 1
        if func.is_view:
            return out
        self.bytes += sum(t.nbytes for t in (out if isinstance(out, list | tuple) else [out]) if isinstance(t, Tensor))
        return out


def _counted(run: Callable[[Any], Any], inputs: Any) -> tuple[Any, _Work]:
    """Return what `run` makes of a batch of two on the meta device, and what that is per image."""
    kept = widest = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept, widest
        # A Linear saves its weight's transpose, a view: parameters are counted on their own.
        parameter = isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)
        kept += 0 if parameter else tensor.nbytes
        widest = max(widest, 0 if parameter else tensor.nbytes)
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with FlopCounterMode(display=False) as counter, _Traffic() as traffic, hooks:
        outputs = run(inputs)
    return outputs, _Work(counter.get_total_flops() / 2, traffic.bytes / 2, traffic.calls, kept / 2, widest / 2)


def _parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())
