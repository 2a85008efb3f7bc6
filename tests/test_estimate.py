"""What a run will take, against sums done by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from octavo.engine import estimate as module
from octavo.engine.estimate import BASE, EFFICIENCY, RESERVE, Estimate, pass_seconds
from octavo.engine.hardware import Hardware
from octavo.networks.build import build_member, build_segmenter
from octavo.recipe import ClassifyRecipe, SegmentRecipe
from octavo.tasks.known import task_of
from octavo.tasks.segmentation import training as masks

CPU = Hardware("cpu")
COUNTS = {"fit": 1000, "holdout": 100, "val": 200}


def estimate(
    made: ClassifyRecipe | SegmentRecipe,
    classes: int,
    counts: Mapping[str, int],
    hardware: Hardware,
    *,
    whole: tuple[int, int] | None = None,
    known: Collection[str] = (),
) -> Estimate:
    """Return the estimate as training asks for it; `whole` is a typical image's height and width in its file."""
    sizes = None
    if whole and isinstance(made, SegmentRecipe):
        sizes = np.array([[side * made.data.scale for side in whole]])
    anatomy = partial(task_of(made).anatomy, made, classes=classes, sizes=sizes)
    return module.estimate(made, anatomy, counts, hardware, known=known)


@pytest.fixture(autouse=True)
def rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "matrix_rate", lambda device, bf16: 2e11 if bf16 else 1e11)


def recipe(train: dict | None = None, members: int = 1, backbone: str = "resnet18", **rest: object) -> ClassifyRecipe:
    rows = [{"name": f"m{i}", "backbone": backbone, "weights": "none"} for i in range(members)]
    own = {"epochs": 2, "checkpoint_minutes": 0.001} | (train or {})
    made = {"name": "t", "data": {"size": 64}, "train": own, "members": rows, **rest}
    return ClassifyRecipe.model_validate(made)


def flops(net: nn.Module, size: int) -> float:
    """Two per multiplication of each convolution (transposed ones too) and Linear, counted layer by layer."""
    total = 0

    def count(layer: nn.Module, args: tuple, out: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += 2 * out.numel() * layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
        elif isinstance(layer, nn.ConvTranspose2d):
            total += 2 * args[0].numel() * layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
        elif isinstance(layer, nn.Linear):
            total += 2 * out.numel() * layer.in_features

    for layer in net.modules():
        layer.register_forward_hook(count)
    net.eval()(torch.empty(1, 3, size, size, device="meta"))
    return total


@pytest.fixture
def operations_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ideal machine: nothing but the networks' operations takes time."""
    for name in ("TRAFFIC", "BANDWIDTH"):
        monkeypatch.setattr(module, name, {"cpu": float("inf")})
    monkeypatch.setattr(module, "CALL", {"cpu": 0.0})
    for of, name in ((module, "STEP"), (masks, "SCORE"), (masks, "SORTED")):
        monkeypatch.setattr(of, name, 0.0)


@pytest.mark.usefixtures("operations_alone")
def test_operations_are_those_of_the_layers() -> None:
    made = recipe()
    net = build_member(made.members[0], made, 10, "meta")
    passes = (1000 * 3 + 100) * 2 + 300
    found = estimate(made, 10, COUNTS, CPU).seconds
    assert found == pytest.approx(passes * flops(net, 64) / (EFFICIENCY * 1e11), rel=0.01)
    assert estimate(recipe({"precision": "bf16"}), 10, COUNTS, CPU).seconds == pytest.approx(found / 2)
    assert estimate(made, 10, COUNTS, Hardware("cpu", 2)).seconds == pytest.approx(found / 2)
    # frozen, the extractor has no backward pass: two thirds of the work of training go, up to the head's
    frozen = estimate(recipe({"mode": "frozen", "cache": False}), 10, COUNTS, CPU).seconds
    assert frozen == pytest.approx(found * (1100 * 2 + 300) / passes, rel=0.01)


@pytest.mark.usefixtures("operations_alone")
def test_a_step_costs_something_however_small_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP", 1.0)
    small, large = (estimate(recipe({"batch_size": n}), 10, COUNTS, CPU).seconds for n in (10, 100))
    assert small - large == pytest.approx(2 * (100 - 10))
    for of, name in ((module, "STEP"), (masks, "SCORE"), (masks, "SORTED")):
        monkeypatch.setattr(of, name, 0.0)
    monkeypatch.setattr(module, "CALL", {"cpu": 1.0})
    per_call = estimate(recipe({"batch_size": 10}), 10, COUNTS, CPU).seconds / (((1000 * 3 + 100) * 2 + 300) / 10)
    net = build_member(recipe().members[0], recipe(), 10, "meta")
    layers = sum(not list(m.children()) for m in net.modules())
    assert layers <= per_call <= 3 * layers


def test_a_wide_layer_moves_its_results_and_not_its_weights() -> None:
    with torch.device("meta"):
        linear = nn.Linear(4096, 1000)
    _, work = module._counted(linear, torch.empty(2, 4096, device="meta"))
    assert work.moved == 4 * 1000


STEPS, BATCH = 3, {"squeezenet1_1": 64, "vgg16": 8}


@pytest.mark.parametrize(("backbone", "size"), [("squeezenet1_1", 32), ("vgg16", 64)])
def test_time_is_within_a_factor_of_three_of_real_steps(
    backbone: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processor time of this thread, the least of several tries: other work on the machine doesn't count."""
    threads, batch = torch.get_num_threads(), BATCH[backbone]
    torch.set_num_threads(1)
    try:
        a = torch.randn(1024, 1024)
        rate = 2 * 1024**3 / least(lambda: a @ a)
        made = recipe({"epochs": 1, "batch_size": batch}, backbone=backbone, data={"size": size})
        net = build_member(made.members[0], made, 10)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=True)
        images, labels = torch.randn(batch, 3, size, size), torch.arange(batch) % 10

        def step() -> None:
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

        took = least(step)
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(module, "matrix_rate", lambda device, bf16: rate)
    found = estimate(made, 10, {"fit": batch}, CPU).seconds
    assert took / 3 < found < took * 3


def least(work: Callable[[], object]) -> float:
    """Seconds of this thread's processor time that work takes at best."""
    best = float("inf")
    for _ in range(STEPS + 1):
        start = time.thread_time()
        work()
        best = min(best, time.thread_time() - start)
    return best


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


@pytest.mark.usefixtures("operations_alone")
def test_a_frozen_extractor_runs_once_and_is_shared() -> None:
    frozen = {"mode": "frozen", "epochs": 50}
    one, three = (estimate(recipe(frozen, members=n), 10, COUNTS, CPU) for n in (1, 3))
    uncached = estimate(recipe(frozen | {"cache": False}), 10, COUNTS, CPU)
    assert one.seconds < uncached.seconds / 20
    assert three.seconds < one.seconds * 1.01  # two more heads
    weights = 4 * sum(p.numel() for p in build_member(recipe().members[0], recipe(), 10, "meta").parameters())
    assert three.disk - one.disk == pytest.approx(2 * weights, rel=0.01)
    assert one.disk > weights + 512 * 4 * 1300


def segmenter(train: dict | None = None, **rest: Any) -> SegmentRecipe:
    made = {
        "name": "s",
        "task": "segment",
        "data": {"size": 64},
        "train": {"epochs": 2, "batch_size": 4, "checkpoint_minutes": 0.001} | (train or {}),
    }
    small = {"weights": "none", "hidden": [{"width": 32}]}
    return SegmentRecipe.model_validate(made | {"segmenter": small} | rest)


@pytest.mark.usefixtures("operations_alone")
def test_a_segmenter_is_trained_on_crops_and_evaluated_on_whole_images() -> None:
    made = segmenter()
    net = build_segmenter(made.segmenter, made, 7, "meta")
    one = flops(net, 64) / (EFFICIENCY * 1e11)
    crops = estimate(made, 7, COUNTS, CPU).seconds
    assert crops == pytest.approx(((1000 * 3 + 100) * 2 + 300) * one, rel=0.02)
    large = estimate(made, 7, COUNTS, CPU, whole=(128, 256)).seconds
    assert large - crops == pytest.approx(7 * (100 * 2 + 300) * one, rel=0.02)
    halved = segmenter(data={"size": 64, "scale": 0.5})
    assert estimate(halved, 7, COUNTS, CPU, whole=(128, 256)).seconds == pytest.approx(crops + (large - crops) / 7)


def test_a_segmenters_pyramid_is_kept_for_whole_images() -> None:
    frozen, plain = segmenter({"mode": "frozen"}), segmenter()
    net = build_segmenter(frozen.segmenter, frozen, 7, "meta")
    pyramid = 4 * sum(m.numel() for m in net.features(torch.empty(1, 3, 64, 64, device="meta")))
    weights = 4 * sum(p.numel() for p in net.parameters())
    head = 4 * sum(p.numel() for p in net.head.parameters())
    found = estimate(frozen, 7, COUNTS, CPU, whole=(128, 128))
    assert found.disk == pytest.approx(1300 * 4 * pyramid + weights + 4 * head)
    assert estimate(plain, 7, COUNTS, CPU).disk == pytest.approx(5 * weights)
    assert found.seconds < estimate(plain, 7, COUNTS, CPU, whole=(128, 128)).seconds
    assert estimate(segmenter({"batch_size": 8}), 7, COUNTS, CPU).memory > estimate(plain, 7, COUNTS, CPU).memory


@pytest.mark.usefixtures("operations_alone")
def test_a_cached_pyramid_is_decoded_for_whole_images() -> None:
    once, twice = (segmenter({"mode": "frozen", "epochs": n}) for n in (1, 2))
    crops, whole = (
        estimate(twice, 7, COUNTS, CPU, whole=(side, side)).seconds
        - estimate(once, 7, COUNTS, CPU, whole=(side, side)).seconds
        for side in (64, 128)
    )
    assert whole == pytest.approx(4 * crops)


@pytest.mark.parametrize("more", [{"network": "fcn", "border": "pad100"}, {"network": "lraspp_mobilenet_v3_large"}])
def test_every_kind_of_segmenter(more: dict) -> None:
    found = estimate(segmenter(segmenter=more | {"weights": "none"}), 7, COUNTS, CPU)
    assert found.seconds > 0 and found.memory > BASE and found.disk > 0


def test_a_pass_is_the_operations_of_one_look_at_each_image(operations_alone: None) -> None:
    made = recipe()
    net = build_member(made.members[0], made, 7, "meta")
    expected = 500 * flops(net, 64) / (1e11 * EFFICIENCY)
    assert pass_seconds(made, made.members[0], 7, 500, CPU) == pytest.approx(expected, rel=0.01)


def test_a_training_without_a_checkpoint_needs_no_room_for_one() -> None:
    weights = 4 * sum(p.numel() for p in build_member(recipe().members[0], recipe(), 10, "meta").parameters())
    short = {"mode": "finetune", "optimizer": "adam", "checkpoint_minutes": 1e6}
    assert estimate(recipe(short), 10, COUNTS, CPU).disk == weights
    assert estimate(recipe(short | {"keep": "best"}), 10, COUNTS, CPU).disk == 2 * weights  # the best epoch's
    long = estimate(recipe(short | {"checkpoint_minutes": 0.001}), 10, COUNTS, CPU).disk
    assert long == weights + 2 * 3 * weights  # weights and two moments, in the old file and in the new


def test_features_that_are_cached_cost_nothing() -> None:
    made = recipe({"mode": "frozen", "epochs": 2}, members=2)
    fresh, known = (estimate(made, 10, COUNTS, CPU, known=names) for names in ((), ("m0", "m1")))
    assert known.seconds < fresh.seconds / 5
    assert fresh.disk - known.disk == 512 * 4 * 1300


def test_the_loss_of_masks_costs_by_pixel_and_class() -> None:
    plain, sorting = segmenter(), segmenter(loss={"cross_entropy": 1.0, "lovasz": 0.5})
    few, many = (estimate(made, 7, COUNTS, CPU).seconds for made in (plain, sorting))
    scores = 64 * 64 * 7 * 1000 * 2
    assert many - few == pytest.approx(scores * masks.SORTED, rel=0.05)
