"""Every key of a recipe acts: one entry a key, each against an independent computation where there is one."""

from __future__ import annotations

import copy
import math
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from safetensors.torch import save_file
from scipy.special import softmax
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim import lr_scheduler as lrs

from conftest import member_folder
from octavo.data.batches import Batch, PixelRows, in_order
from octavo.data.inputs import Inputs
from octavo.data.store import Pixels
from octavo.engine.checkpoint import Stop
from octavo.engine.features import Features
from octavo.engine.fit import chosen, fit
from octavo.engine.folder import RunFolder
from octavo.engine.goals import ClassifyGoal, DistilGoal
from octavo.engine.hardware import Hardware
from octavo.engine.job import Job, Prepared
from octavo.engine.material import Material
from octavo.engine.task import FeatureInputs, Task
from octavo.keyed import permutation
from octavo.networks.build import build_member, start_member
from octavo.networks.head import make_head
from octavo.networks.loading import LoadReport
from octavo.networks.member import MemberNet
from octavo.numbers.ensemble import COMBINE
from octavo.options import Options
from octavo.progress import silent
from octavo.recipe import ClassifyRecipe
from octavo.schema.classify import Distil
from octavo.schema.common import Section
from octavo.tasks.classification.combination import combine
from octavo.tasks.classification.data import prepare as prepare_material
from octavo.tasks.classification.training import class_weights, inputs_of, prepared_for
from octavo.verbs.training import _out

IMAGES, WIDTH, CLASSES = 42, 6, 3
FIT, HELD = np.arange(30), np.arange(30, IMAGES)
BASE = {"epochs": 3, "batch_size": 8, "lr": 0.1, "momentum": 0.0}


def keys_of(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Every key of a section and of those in it, as `members.head.hidden.width`."""
    for name, field in section.model_fields.items():
        yield prefix + name
        found = [field.annotation, *(a for t in typing.get_args(field.annotation) for a in (t, *typing.get_args(t)))]
        for inner in {t for t in found if isinstance(t, type) and issubclass(t, Section)}:
            yield from keys_of(inner, f"{prefix}{name}.")


def recipe(train: dict[str, Any] | None = None, member: dict[str, Any] | None = None, **rest: Any) -> ClassifyRecipe:
    own = {"name": "m", "backbone": "squeezenet1_1", "weights": "none", **(member or {})}
    return ClassifyRecipe.model_validate({"name": "test", "train": BASE | (train or {}), "members": [own], **rest})


class Bench:
    """A tiny problem: numbers for images, so that a training takes a tenth of a second."""

    def __init__(self, folder: Path, digits: Path, trained: RunFolder, patch: pytest.MonkeyPatch) -> None:
        rng = np.random.default_rng(0)
        self.folder, self.digits, self.trained, self.patch, self.runs = folder, digits, trained, patch, 0
        self.labels = np.concatenate([rng.permutation([0] * 15 + [1] * 10 + [2] * 5), np.arange(12) % CLASSES])
        self.values = (rng.normal(size=(IMAGES, WIDTH)) + self.labels[:, None]).astype(np.float32)

    def net(self) -> MemberNet:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return MemberNet(nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh()), nn.Sequential(nn.Linear(5, CLASSES)))  # type: ignore[arg-type]

    def job(self, recipe: ClassifyRecipe, pixels: Pixels | None = None) -> Job:
        parts = {"fit": FIT, "holdout": HELD}
        hardware = Hardware("cpu")
        return Job(recipe, recipe.members[0], CLASSES, self.labels, parts, pixels, None, self.folder, hardware)  # type: ignore[arg-type]

    def fit(self, recipe: ClassifyRecipe, net: nn.Module | None = None, stop: Stop | None = None) -> Task:
        self.runs += 1
        self.files = member_folder(self.folder / f"run{self.runs}")
        self.source = Features(self.values[None], 0)
        job = self.job(recipe)
        return fit(job, self.files, self.prepared(job, net or self.net()), (), silent, stop or Stop())

    def prepared(self, job: Job, net: nn.Module) -> Prepared:
        goal = ClassifyGoal(CLASSES, class_weights(job), job.train.label_smoothing)
        return Prepared(net, net, self.source, FeatureInputs(), goal, self.labels, job.train.batch_size, None)

    def chosen(self, recipe: ClassifyRecipe, task: Task) -> nn.Module:
        job = self.job(recipe)
        return chosen(job, self.files, task, self.prepared(job, task.net), silent)

    def tensors(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.values[indices]), torch.from_numpy(self.labels[indices])

    def held_loss(self, net: nn.Module) -> float:
        x, y = self.tensors(HELD)
        with torch.no_grad():
            return float(F.cross_entropy(net.eval()(x), y))

    def material(self, **data: Any) -> Material:
        made = recipe(data={"size": 32, "stored": 16} | data)
        return prepare_material(made, str(self.digits), None, self.folder, skip_broken=False, progress=silent)

    def inputs(self, augment: dict[str, Any], **data: Any) -> tuple[Inputs, Batch]:
        made = recipe(augment=augment, data={"size": 16, "normalize": "none"} | data)
        pixels = self.material().pixels
        batch = next(iter(in_order(PixelRows(pixels), np.arange(12), np.arange(len(pixels)) % CLASSES, 12)))
        return inputs_of(self.job(made, pixels)), replace(batch, epoch=0)


@pytest.fixture
def bench(tmp_path: Path, digits_folder: Path, trained: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, digits_folder, trained, monkeypatch)


def by_hand(
    bench: Bench,
    optimizer: Callable[[Any], Optimizer] = lambda n: SGD(n.parameters(), 0.1),
    schedule: Callable[[Optimizer], Any] = lambda o: lrs.ConstantLR(o, 1.0),
    loss: nn.Module | None = None,
    *,
    epochs: int = 3,
    batch_size: int = 8,
    accumulate: int = 1,
    clip: float = math.inf,
    head_epochs: int = 0,
    each_epoch: Callable[[nn.Module], object] = lambda net: None,
    each_step: Callable[[nn.Module], object] = lambda net: None,
) -> nn.Module:
    """The loop as any textbook has it, in plain torch."""
    net, loss = bench.net(), loss or nn.CrossEntropyLoss()
    opt = optimizer(net)
    rate = schedule(opt)
    seed = bench.job(recipe()).seed
    for epoch in range(epochs):
        order = FIT[permutation(len(FIT), seed, epoch)]
        starts = range(0, len(FIT), batch_size)
        for step, start in enumerate(starts):
            x, y = bench.tensors(order[start : start + batch_size])
            (loss(net(x), y) / accumulate).backward()
            if (step + 1) % accumulate and step + 1 < len(starts):
                continue
            if epoch < head_epochs:
                net.backbone.zero_grad(set_to_none=True)  # type: ignore[operator]
            nn.utils.clip_grad_norm_(net.parameters(), clip)
            opt.step()
            opt.zero_grad()
            rate.step()
            each_step(net)
        each_epoch(net)
    return net


def assert_same(net: nn.Module, other: nn.Module, **tolerance: float) -> None:
    torch.testing.assert_close(dict(net.state_dict()), dict(other.state_dict()), rtol=1e-5, atol=1e-6, **tolerance)


def differs(net: nn.Module, other: nn.Module) -> bool:
    return any(not torch.allclose(a, b, atol=1e-4) for a, b in zip(net.parameters(), other.parameters(), strict=True))


STEPS = 3 * 4  # three epochs of four batches


def warm(optimizer: Optimizer) -> lrs.LinearLR:
    return lrs.LinearLR(optimizer, 0.01, 1.0, 6)


OPTIMISED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "epochs": ({"epochs": 5}, {"epochs": 5}),
    "batch_size": ({"batch_size": 15}, {"batch_size": 15}),
    "optimizer": ({"optimizer": "adamw"}, {"optimizer": lambda n: AdamW(n.parameters(), 0.1, weight_decay=0.0)}),
    "lr": ({"lr": 0.3}, {"optimizer": lambda n: SGD(n.parameters(), 0.3)}),
    "momentum": ({"momentum": 0.8}, {"optimizer": lambda n: SGD(n.parameters(), 0.1, 0.8)}),
    "nesterov": (
        {"momentum": 0.8, "nesterov": True},
        {"optimizer": lambda n: SGD(n.parameters(), 0.1, 0.8, nesterov=True)},
    ),
    "weight_decay": ({"weight_decay": 0.1}, {"optimizer": lambda n: SGD(n.parameters(), 0.1, weight_decay=0.1)}),
    "schedule": ({"schedule": "cosine"}, {"schedule": lambda o: lrs.CosineAnnealingLR(o, STEPS)}),
    "step_size": ({"schedule": "step", "step_size": 5}, {"schedule": lambda o: lrs.StepLR(o, 5, 0.7)}),
    "gamma": (
        {"schedule": "step", "step_size": 5, "gamma": 0.2},
        {"schedule": lambda o: lrs.StepLR(o, 5, 0.2)},
    ),
    "warmup_epochs": ({"warmup_epochs": 1.5}, {"schedule": warm}),
    "label_smoothing": ({"label_smoothing": 0.2}, {"loss": nn.CrossEntropyLoss(label_smoothing=0.2)}),
    "clip_norm": ({"clip_norm": 0.05}, {"clip": 0.05}),
    "accumulate": ({"accumulate": 2}, {"accumulate": 2}),
    "backbone_lr": (
        {"backbone_lr": 0.1},
        {
            "optimizer": lambda n: SGD(
                [{"params": n.backbone.parameters(), "lr": 0.01}, {"params": n.head.parameters()}], 0.1
            )
        },
    ),
    "head_epochs": ({"head_epochs": 1}, {"head_epochs": 1}),
}


def optimised(key: str) -> Callable[[Bench], None]:
    def check(bench: Bench) -> None:
        ours, hand = OPTIMISED[key]
        task = bench.fit(recipe(ours))
        assert_same(task.net, by_hand(bench, **hand))
        assert differs(task.net, by_hand(bench)), "the key changes nothing"

    return check


def member_override(key: str) -> Callable[[Bench], None]:
    def check(bench: Bench) -> None:
        ours, hand = OPTIMISED[key]
        task = bench.fit(recipe(member=ours))
        assert_same(task.net, by_hand(bench, **hand))
        assert recipe(member=ours).train_of(recipe(member=ours).members[0]) == recipe(ours).train

    return check


def test_adam_is_torchs(bench: Bench) -> None:
    task = bench.fit(recipe({"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1}))
    assert_same(task.net, by_hand(bench, lambda n: Adam(n.parameters(), 0.01, weight_decay=0.1)))


def test_warmup_comes_before_the_schedule(bench: Bench) -> None:
    task = bench.fit(recipe({"schedule": "cosine", "warmup_epochs": 1.5}))

    def both(optimizer: Optimizer) -> lrs.SequentialLR:
        return lrs.SequentialLR(optimizer, [warm(optimizer), lrs.CosineAnnealingLR(optimizer, STEPS - 6)], [6])

    assert_same(task.net, by_hand(bench, schedule=both))


def test_accumulated_batches_are_one_large_batch(bench: Bench) -> None:
    small = bench.fit(recipe({"batch_size": 5, "accumulate": 2}))
    assert_same(small.net, bench.fit(recipe({"batch_size": 10})).net)
    assert small.history[-1]["step"] == 9


def mode(bench: Bench) -> None:
    start = bench.net()
    for value, moves in (("finetune", True), ("frozen", False)):
        for made in (recipe({"mode": value}), recipe(member={"mode": value})):
            task = bench.fit(made)
            assert differs(task.net.backbone, start.backbone) == moves  # type: ignore[arg-type]
            assert differs(task.net.head, start.head)  # type: ignore[arg-type]


def weights_of_classes(bench: Bench) -> None:
    counts = np.bincount(bench.labels[FIT])
    assert len(set(counts)) == CLASSES
    balanced = compute_class_weight("balanced", classes=np.arange(CLASSES), y=bench.labels[FIT])
    found = class_weights(bench.job(recipe({"class_weights": "balanced"})))
    np.testing.assert_allclose(found, balanced, rtol=1e-6)
    for value, weight in (("balanced", balanced.tolist()), ([3.0, 0.5, 1.0], [3.0, 0.5, 1.0])):
        task = bench.fit(recipe({"class_weights": value}))
        hand = by_hand(bench, loss=nn.CrossEntropyLoss(torch.tensor(weight)))
        assert_same(task.net, hand)
        assert differs(task.net, by_hand(bench))


def ema(bench: Bench) -> None:
    mean: dict[str, np.ndarray] = {}
    steps = 0

    def follow(net: nn.Module) -> None:
        nonlocal steps
        decay = min(0.6, (1 + steps) / (10 + steps)) if steps else 0.0
        for name, value in net.state_dict().items():
            mean[name] = decay * mean.get(name, np.zeros(1)) + (1 - decay) * value.double().numpy()
        steps += 1

    last = by_hand(bench, each_step=follow)
    made = recipe({"ema": 0.6})
    task = bench.fit(made)
    assert_same(task.net, last)
    member = bench.chosen(made, task)
    for name, value in member.state_dict().items():
        np.testing.assert_allclose(value, mean[name], rtol=1e-4, atol=1e-6)
    assert differs(member, last)
    assert task.history[-1]["holdout_loss"] == pytest.approx(bench.held_loss(member), abs=1e-5)


def overfitting(bench: Bench) -> dict[str, Any]:
    """Settings under which the held-out loss falls, then rises: two held-out images get a wrong label."""
    bench.labels[HELD[:2]] = (bench.labels[HELD[:2]] + 1) % CLASSES
    return {"epochs": 12, "lr": 0.3}


def keep(bench: Bench) -> None:
    settings = overfitting(bench)
    kept: list[nn.Module] = []
    by_hand(
        bench,
        lambda n: SGD(n.parameters(), 0.3),
        epochs=12,
        each_epoch=lambda net: kept.append(copy.deepcopy(net)),
    )
    losses = [bench.held_loss(net) for net in kept]
    assert 0 < int(np.argmin(losses)) < 11
    for value, expected in (("best", kept[int(np.argmin(losses))]), ("last", kept[-1])):
        made = recipe(settings | {"keep": value})
        task = bench.fit(made)
        np.testing.assert_allclose([row["holdout_loss"] for row in task.history], losses, atol=1e-5)
        assert_same(bench.chosen(made, task), expected)


def patience(bench: Bench) -> None:
    settings = overfitting(bench)
    losses = [row["holdout_loss"] for row in bench.fit(recipe(settings)).history]
    assert len(losses) == 12
    for allowed in (1, 3):
        task = bench.fit(recipe(settings | {"patience": allowed}))
        worse, lowest, expected = 0, math.inf, 12
        for epoch, loss in enumerate(losses):
            worse, lowest = (0, loss) if loss < lowest else (worse + 1, lowest)
            if worse == allowed:
                expected = epoch + 1
                break
        assert expected < 12
        assert [row["holdout_loss"] for row in task.history] == losses[:expected]


def precision(bench: Bench) -> None:
    for value, dtype in (("32", torch.float32), ("bf16", torch.bfloat16)):
        seen: set[torch.dtype] = set()
        net = bench.net()
        net.head.register_forward_hook(lambda module, args, out, seen=seen: seen.add(out.dtype))
        task = bench.fit(recipe({"precision": value}), net)
        assert seen == {dtype}
        assert {p.dtype for p in task.net.parameters()} == {torch.float32}


def channels_last(bench: Bench) -> None:
    inputs, batch = bench.inputs({})
    for value in (False, True):
        x = replace(inputs, channels_last=value).plain(batch)
        assert x.is_contiguous(memory_format=torch.channels_last) == value
        torch.testing.assert_close(x, inputs.plain(batch))
        net = MemberNet(nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 5, 3, padding=1), nn.Flatten()),
                        bench.net().head)  # type: ignore[arg-type] # fmt: skip
        task = bench.fit(recipe({"channels_last": value}), net)
        conv = task.net.backbone[1].weight  # type: ignore[index]
        assert conv.is_contiguous(memory_format=torch.channels_last) == value
        assert inputs_of(bench.job(recipe({"channels_last": value}))).channels_last == value


def reestimate_norm(bench: Bench) -> None:
    def net() -> MemberNet:
        made = bench.net()
        return MemberNet(
            nn.Sequential(nn.BatchNorm1d(WIDTH), *made.backbone), nn.Sequential(nn.BatchNorm1d(5), *made.head)
        )  # type: ignore[misc,arg-type]

    x, _ = bench.tensors(FIT)
    for frozen in (False, True):
        made = recipe({"batch_size": 30, "reestimate_norm": True, "mode": "frozen" if frozen else "finetune"})
        task = bench.fit(made, net())
        task.net.backbone[0].running_mean.fill_(0.5)  # type: ignore[index]
        member = bench.chosen(made, task)
        norms = [member.backbone[0], member.head[0]]  # type: ignore[index]
        if frozen:
            torch.testing.assert_close(norms[0].running_mean, torch.full((WIDTH,), 0.5))
        else:
            torch.testing.assert_close(norms[0].running_mean, x.mean(0))
            torch.testing.assert_close(norms[0].running_var, x.var(0))
        with torch.no_grad():
            inner = member.backbone.train(not frozen)(x)  # type: ignore[operator]
        torch.testing.assert_close(norms[1].running_mean, inner.mean(0))
        torch.testing.assert_close(norms[1].running_var, inner.var(0))
        plain = bench.fit(made := recipe({"batch_size": 30}), net())
        assert not torch.allclose(bench.chosen(made, plain).backbone[0].running_mean, x.mean(0))  # type: ignore[index]


def job_on_digits(bench: Bench, made: ClassifyRecipe) -> tuple[Job, Material]:
    found = bench.material()
    labels = found.samples.labels
    return replace(bench.job(made, found.pixels), classes=10, labels=labels, parts=found.parts), found


def cache(bench: Bench) -> None:
    shared = {"mode": "frozen", "epochs": 4, "batch_size": 40, "lr": 1.0}
    logits, calls = {}, {}
    for value in (True, False):
        made = recipe(shared | {"cache": value}, data={"size": 32, "normalize": "none"})
        job, found = job_on_digits(bench, made)
        net = build_member(made.members[0], made, 10)
        count = [0]
        net.backbone.register_forward_hook(lambda m, a, out, count=count: count.__setitem__(0, count[0] + len(out)))
        prepared = prepared_for(job, net, None, silent)
        files = member_folder(bench.folder / f"cache {value}")
        task = fit(job, files, prepared, (), silent, Stop())
        calls[value] = count[0]
        everything = next(iter(in_order(prepared.source, job.parts["val"], job.labels, 100)))
        with torch.no_grad():
            logits[value] = task.net.eval()(prepared.ways.plain(everything))
        assert task.history[-1]["train_loss"] < task.history[0]["train_loss"]
    fits, held = len(job.parts["fit"]), len(job.parts["holdout"])
    assert calls == {True: len(found.pixels), False: 4 * (fits + held)}
    torch.testing.assert_close(logits[True], logits[False], rtol=1e-3, atol=1e-4)
    assert (logits[True].argmax(1) == logits[False].argmax(1)).all()


def views(bench: Bench) -> None:
    found = {}
    for count in (1, 3):
        augment = {"hflip": 0.5, "rotation": 20} if count > 1 else {}
        made = recipe({"mode": "frozen", "views": count}, data={"size": 32, "normalize": "none"}, augment=augment)
        job, _ = job_on_digits(bench, made)
        source = prepared_for(job, build_member(made.members[0], made, 10), None, silent).source
        assert isinstance(source, Features)
        assert source.views.shape == (count, 200, 512)
        found[count] = source
    np.testing.assert_array_equal(found[1].views[0], found[3].views[0])
    assert all(np.abs(found[3].views[v] - found[3].views[0]).max() > 1e-3 for v in (1, 2))
    shown = {int(np.flatnonzero((found[3].views[:, 7] == found[3].rows(np.array([7]), e)[0][0]).all(1))[0])
             for e in range(20)}  # fmt: skip
    assert shown == {0, 1, 2}
    np.testing.assert_array_equal(found[3].rows(np.arange(9), -1)[0], found[3].views[0, :9])


def checkpoint_minutes(bench: Bench) -> None:
    saved: list[int] = []
    bench.patch.setattr(pl.Trainer, "save_checkpoint", lambda trainer, path: saved.append(trainer.global_step))
    bench.fit(recipe())
    assert saved == []
    bench.fit(recipe({"checkpoint_minutes": 1e-9}))
    assert saved == [1, 2, 3, 5, 6, 7, 9, 10, 11]  # not after an epoch's last batch


def image(change: Callable[[Tensor], Tensor], **augment: Any) -> Callable[[Bench], None]:
    """What the key does to an image is what torchvision's function does."""

    def check(bench: Bench) -> None:
        inputs, batch = bench.inputs(augment)
        plain = inputs.plain(batch)
        x, y = inputs.training(batch)
        torch.testing.assert_close(x, change(plain), atol=2e-3, rtol=0)
        assert not torch.allclose(x, plain, atol=0.01)
        assert y.tolist() == batch.labels.tolist()

    return check


def moved(off: dict[str, Any], on: dict[str, Any]) -> Callable[[Bench], None]:
    """The key changes what is shown, by epoch."""

    def check(bench: Bench) -> None:
        (without, batch), (with_it, _) = bench.inputs(off), bench.inputs(on)
        shown = with_it.training(batch)[0]
        assert not torch.allclose(shown, without.training(batch)[0], atol=0.02)
        assert not torch.allclose(shown, with_it.training(replace(batch, epoch=1))[0], atol=0.02)
        torch.testing.assert_close(with_it.plain(batch), without.plain(batch))

    return check


def perspective_p(bench: Bench) -> None:
    (never, batch), (always, _) = (bench.inputs({"perspective": 0.5, "perspective_p": p}) for p in (0, 1))
    torch.testing.assert_close(never.training(batch)[0], never.plain(batch))
    assert (always.training(batch)[0] - always.plain(batch)).abs().flatten(1).amax(1).min() > 0.02


def mixed(key: str) -> Callable[[Bench], None]:
    def check(bench: Bench) -> None:
        inputs, batch = bench.inputs({key: 1.0})
        plain, (x, y) = inputs.plain(batch), inputs.training(batch)
        assert y.shape == (12, CLASSES)
        torch.testing.assert_close(y.sum(1), torch.ones(12))
        share = float(y.max(1).values.min())
        assert 0 < share < 1
        touched = (x - plain).abs().amax(1).gt(1e-6).float().mean(dim=(1, 2))
        if key == "mixup":  # x = λ·a + (1-λ)·b
            gaps = [min(float((x[i] - s * plain[i] - (1 - s) * plain[j]).abs().max()) for j in range(12)
                        for s in (share, 1 - share)) for i in range(12)]  # fmt: skip
            assert max(gaps) < 1e-5
        else:  # every pixel is one of two images'
            assert all(min(float(torch.minimum((x[i] - plain[i]).abs(), (x[i] - plain[j]).abs()).max())
                           for j in range(12)) < 1e-6 for i in range(12))  # fmt: skip
            assert touched.max() > 0

    return check


def data_size(bench: Bench) -> None:
    for size in (8, 24):
        inputs, batch = bench.inputs({}, size=size)
        assert inputs.plain(batch).shape == (12, 3, size, size)
        assert inputs_of(bench.job(recipe(member={"size": size + 1}, data={"size": size}))).size == size + 1


def data_resize(bench: Bench) -> None:
    pixels = torch.arange(3 * 16 * 32, dtype=torch.int64).remainder(251).to(torch.uint8).reshape(1, 3, 16, 32)
    batch = Batch(pixels, np.array([[16, 32]]), torch.zeros(1, dtype=torch.int64), np.zeros(1, np.int64), -1, 0)
    shown = {resize: bench.inputs({}, resize=resize)[0].plain(batch) for resize in ("crop", "stretch")}
    torch.testing.assert_close(shown["crop"], pixels[..., 8:24] / 255)
    squeezed = TF.resize(pixels.float(), [16, 16], antialias=True) / 255
    torch.testing.assert_close(shown["stretch"], squeezed, atol=0.51 / 255, rtol=0)  # as bytes


def data_stored(bench: Bench) -> None:
    from PIL import Image

    for i in range(4):
        path = bench.folder / "large" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (90, 60), (i, i, i)).save(path)
    for stored, side in ((20, 20), (None, 37)):  # 32 × 8/7, rounded up
        data = {"size": 32, "stored": stored, "val": 0.5, "holdout": 0.0}
        made = recipe(data=data)
        found = prepare_material(
            made, str(bench.folder / "large"), None, bench.folder, skip_broken=False, progress=silent
        )
        assert set(found.pixels.sizes.min(axis=1).tolist()) == {side}


def data_normalize(bench: Bench) -> None:
    plain, batch = bench.inputs({}, normalize="none")
    scaled, _ = bench.inputs({}, normalize="weights")
    expected = TF.normalize(plain.plain(batch), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(scaled.plain(batch), expected)


def data_holdout(bench: Bench) -> None:
    for share, count in ((0.0, 0), (0.25, 40), (0.5, 80)):
        parts = bench.material(holdout=share).parts
        assert {p: len(i) for p, i in parts.items()} == {"fit": 160 - count, "holdout": count, "val": 40}
        assert len(np.unique(np.concatenate(list(parts.values())))) == 200


def data_val(bench: Bench) -> None:
    bench.digits = bench.digits / "train_10"
    for share, count in ((0.25, 40), (0.5, 80)):
        assert bench.material(val=share, holdout=0.0).counts == {"fit": 160 - count, "holdout": 0, "val": count}


def data_folds(bench: Bench) -> None:
    found = prepare_material(
        recipe(data={"folds": 4}), str(bench.digits), None, bench.folder, skip_broken=False, progress=silent
    )
    assert found.folds is not None and not len(found.parts["fit"])
    for label in range(10):  # each fold holds its share of every class
        own = found.folds[found.parts["holdout"]][found.labels[found.parts["holdout"]] == label]
        assert np.ptp(np.bincount(own, minlength=4)) <= 1
    assert found.counts_of_one["fit"] == pytest.approx(0.75 * len(found.parts["holdout"]), abs=10)


class Finished:
    """As much of a run folder as combining needs: three members' logits on held-out and validation images."""

    def __init__(self, **ensemble: Any) -> None:
        members = [{"name": n, "backbone": "squeezenet1_1", "weights": "none"} for n in "abc"]
        self.recipe = ClassifyRecipe.model_validate({"name": "t", "members": members, "ensemble": ensemble})
        rng = np.random.default_rng(1)
        self.truth = {part: rng.integers(0, CLASSES, 60) for part in ("holdout", "val")}
        noise = {"a": (0.6, 1.5), "b": (1.0, 1.0), "c": (1.4, 0.7)}
        self.given = {
            n: {p: np.eye(CLASSES)[self.truth[p]] + rng.normal(size=(60, CLASSES)) * noise[n][p == "val"]
                for p in self.truth} for n in "abc"
        }  # fmt: skip

    def member(self, name: str) -> types.SimpleNamespace:
        return types.SimpleNamespace(outputs=lambda: self.given[name])

    def recipe_as(self, kind: type) -> ClassifyRecipe:
        assert kind is ClassifyRecipe
        return self.recipe

    def labels(self, part: str) -> np.ndarray:
        return self.truth[part]

    def combined(self) -> Any:
        return combine(self)  # type: ignore[arg-type]


def ensemble_combine(bench: Bench) -> None:
    found = {c: Finished(combine=c, **({"weights": {"a": 3, "c": 1}} if c == "weighted" else {})).combined()
             for c in COMBINE}  # fmt: skip
    run = Finished()
    logits = np.stack([run.given[n]["val"] for n in "abc"])
    torch_logits = torch.from_numpy(logits)
    expected = {
        "mean_probability": torch_logits.softmax(2).mean(0),
        "mean_logit": torch_logits.mean(0).softmax(1),
        "weighted": (0.75 * torch_logits[0] + 0.25 * torch_logits[2]).softmax(1),
    }
    for name, probability in expected.items():
        ours = torch.from_numpy(np.asarray(found[name].combined(logits))).softmax(1)
        torch.testing.assert_close(ours, probability)
    assert len({f.weights for f in found.values()}) == 4  # the means have equal ones


def ensemble_weights(bench: Bench) -> None:
    assert Finished(combine="weighted", weights={"a": 3, "c": 1}).combined().weights == (0.75, 0.0, 0.25)
    assert Finished(combine="weighted", weights={"b": 2}).combined().weights == (0.0, 1.0, 0.0)


def ensemble_rounds(bench: Bench) -> None:
    assert sorted(Finished(combine="caruana", rounds=1).combined().weights) == [0.0, 0.0, 1.0]
    assert max(Finished(combine="caruana", rounds=50).combined().weights) < 1


def ensemble_fit_on(bench: Bench) -> None:
    best = {fit_on: "abc"[int(np.argmax(Finished(combine="caruana", rounds=1, fit_on=fit_on).combined().weights))]
            for fit_on in ("holdout", "val")}  # fmt: skip
    run = Finished()
    for part, name in best.items():
        right = {n: np.mean(run.given[n][part].argmax(1) == run.truth[part]) for n in "abc"}
        assert right[name] == max(right.values())
    assert best["holdout"] != best["val"]


def ensemble_calibration(bench: Bench) -> None:
    run = Finished()
    held, truth = np.stack([run.given[n]["holdout"] for n in "abc"]), run.truth["holdout"]
    found = {m: Finished(calibration=m).combined() for m in ("none", "temperature", "vector")}
    loss = {m: log_loss(truth, softmax(f.logits(held), axis=1), labels=np.arange(CLASSES)) for m, f in found.items()}
    assert loss["vector"] < loss["temperature"] < loss["none"]  # each can do what the one before it can
    assert np.allclose(found["none"].logits(held), found["none"].combined(held))
    assert found["temperature"].calibration.temperature != 1.0


def of_head(spec: dict[str, Any]) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_head(recipe(member={"head": spec}).members[0].head, WIDTH, CLASSES)


def head_norm(bench: Bench) -> None:
    x, _ = bench.tensors(FIT)
    standardised = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(of_head({"norm": "batch"})(x), of_head({})(standardised))


def dropout(spec: Callable[[float], dict[str, Any]], layer: int) -> Callable[[Bench], None]:
    def check(bench: Bench) -> None:
        x = torch.ones(4000, WIDTH)
        for rate in (0.25, 0.5):
            head = of_head(spec(rate))
            seen: list[Tensor] = []
            head[layer].register_forward_hook(lambda module, args, out, seen=seen: seen.append(out))
            head.train()(x)
            assert float((seen[0] == 0).float().mean()) == pytest.approx(rate, abs=0.05)
            torch.testing.assert_close(head.eval()(x), of_head(spec(0.0))(x))

    return check


def head_hidden(bench: Bench) -> None:
    x, _ = bench.tensors(FIT)
    net = of_head({"hidden": [{"width": 7}, {"width": 4}]})
    first, second, last = (m for m in net if isinstance(m, nn.Linear))
    expected = last(second(first(x).relu()).relu())
    torch.testing.assert_close(net(x), expected)


def hidden_width(bench: Bench) -> None:
    assert [sum(p.numel() for p in of_head({"hidden": [{"width": w}]}).parameters()) for w in (7, 9)] == [73, 93]


def hidden_activation(bench: Bench) -> None:
    x, _ = bench.tensors(FIT)
    for name, function in {
        "relu": F.relu,
        "gelu": F.gelu,
        "silu": F.silu,
        "tanh": torch.tanh,
        "none": lambda v: v,
    }.items():
        net = of_head({"hidden": [{"width": 7, "activation": name}]})
        torch.testing.assert_close(net(x), net[-1](function(net[0](x))))


def first_weight(made: ClassifyRecipe) -> Tensor:
    return next(build_member(made.members[0], made, CLASSES).parameters())


def member_name(bench: Bench) -> None:
    assert not torch.equal(first_weight(recipe()), first_weight(recipe(member={"name": "other"})))
    assert bench.job(recipe()).seed != bench.job(recipe(member={"name": "other"})).seed


def member_backbone(bench: Bench) -> None:
    for name, width in (("resnet18", 512), ("mobilenet_v3_small", 576)):
        made = recipe(member={"backbone": name})
        assert build_member(made.members[0], made, CLASSES, "meta").backbone.features == width


def member_weights(bench: Bench) -> None:
    made = recipe()
    other = build_member(made.members[0], recipe(seed=5), CLASSES).backbone.net.state_dict()
    save_file(other, bench.folder / "mine.safetensors")
    made = recipe(member={"weights": str(bench.folder / "mine.safetensors")})
    net, origin = start_member(made.members[0], made, CLASSES)
    assert origin is not None
    torch.testing.assert_close(dict(net.backbone.net.state_dict()), dict(other))


def member_pool(bench: Bench) -> None:
    widths = {}
    for pool in ("native", "avg"):
        made = recipe(member={"backbone": "vgg11", "pool": pool}, data={"size": 32})
        widths[pool] = build_member(made.members[0], made, CLASSES, "meta").backbone.features
    assert widths == {"native": 512 * 7 * 7, "avg": 512}


def zero_init_residual(bench: Bench) -> None:
    for value in (False, True):
        made = recipe(member={"backbone": "resnet18", "zero_init_residual": value})
        last = build_member(made.members[0], made, CLASSES).backbone.get_parameter("net.layer4.1.bn2.weight")
        assert bool((last == 0).all()) == value


def cached_features_know(**change: Any) -> Callable[[Bench], None]:
    """Features in the cache aren't taken for those of a recipe that would make others."""

    def check(bench: Bench) -> None:
        folders = set()
        for member in ({}, change):
            made = recipe({"mode": "frozen"}, {"backbone": "resnet18"} | member, data={"size": 32, "normalize": "none"})
            job, _ = job_on_digits(bench, made)
            prepared_for(job, build_member(made.members[0], made, 10), None, silent)
            folders |= set((bench.folder / "features").iterdir())
        assert len(folders) == 2

    return check


def test_cached_features_depend_on_how_the_extractor_starts(bench: Bench) -> None:
    cached_features_know(zero_init_residual=True)(bench)


def test_members_with_one_extractor_share_views_and_choose_their_own(bench: Bench) -> None:
    found, seen = {}, []
    for name in ("one", "two"):
        made = recipe({"mode": "frozen", "views": 3}, {"name": name, "backbone": "resnet18"},
                      data={"size": 32, "normalize": "none"}, augment={"hflip": 0.5, "rotation": 20})  # fmt: skip
        job, material = job_on_digits(bench, made)
        net = build_member(made.members[0].model_copy(update={"name": "extractor"}), made, 10)
        net.backbone.register_forward_hook(lambda m, args, out: seen.append(len(out)))
        origin = LoadReport(Path("one.pth"), "digest of one weights file", 1, 0)
        source = prepared_for(job, net, origin, silent).source
        assert isinstance(source, Features)
        found[name] = source
    assert sum(seen) == 3 * len(material.pixels)
    np.testing.assert_array_equal(found["one"].views, found["two"].views)
    assert not np.array_equal(found["one"].views[1], found["one"].views[2])
    chosen = np.arange(200)
    assert not np.array_equal(found["one"].rows(chosen, 0)[0], found["two"].rows(chosen, 0)[0])


def test_cached_features_depend_on_how_pictures_are_rendered(bench: Bench) -> None:
    made = recipe({"mode": "frozen"}, {"backbone": "resnet18"}, data={"size": 32, "normalize": "none"})
    for version in (1, 2):
        bench.patch.setattr("octavo.engine.features.RENDER", version)
        job, _ = job_on_digits(bench, made)
        prepared_for(job, build_member(made.members[0], made, 10), None, silent)
    assert len(list((bench.folder / "features").iterdir())) == 2


def recipe_name(bench: Bench) -> None:
    bench.patch.chdir(bench.folder)
    assert _out(recipe(), Options()) == Path("runs/test")
    Path("runs/test").mkdir(parents=True)
    assert _out(recipe(), Options()) == Path("runs/test-2")


def recipe_description(bench: Bench) -> None:
    from typer.testing import CliRunner

    from octavo import cli

    made = (recipes := bench.folder / "recipes") / "mine.toml"
    recipes.mkdir()
    made.write_text('description = "Described here."\nmembers = [{name = "m", backbone = "resnet18"}]')
    bench.patch.setattr("octavo.recipe.shipped", lambda: {"mine": made})
    assert "Described here." in CliRunner().invoke(cli.app, ["recipes"], terminal_width=200).output


def recipe_task(bench: Bench) -> None:
    found = bench.material()
    assert found.manifest(recipe(task="classify"), Hardware("cpu"))["task"] == "classify"
    with pytest.raises(ValueError, match="task"):
        recipe(task="juggle")


def recipe_seed(bench: Bench) -> None:
    assert not torch.equal(first_weight(recipe()), first_weight(recipe(seed=1)))
    assert differs(bench.fit(recipe()).net, bench.fit(recipe(seed=1)).net)
    assert (
        bench.material().parts["holdout"].tolist()
        != prepare_material(recipe(seed=1), str(bench.digits), None, bench.folder, skip_broken=False, progress=silent)
        .parts["holdout"]
        .tolist()
    )


def recipe_members(bench: Bench) -> None:
    assert [m.name for m in Finished().recipe.members] == list(Finished().combined().names)


def saturation(bench: Bench) -> None:
    inputs, _ = bench.inputs({"saturation": [0.3, 0.3]})
    pixels = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    batch = Batch(pixels, np.full((2, 2), 16), torch.zeros(2, dtype=torch.int64), np.arange(2), 0, 0)
    expected = TF.adjust_saturation(inputs.plain(batch), 0.3)
    torch.testing.assert_close(inputs.training(batch)[0], expected, atol=2e-3, rtol=0)


def taught(bench: Bench) -> None:
    """A student's targets are its teacher's answers, and its loss takes temperature and weight."""
    trained = bench.trained
    found = prepare_material(
        trained.recipe_as(ClassifyRecipe), str(bench.digits), None, bench.folder, skip_broken=False, progress=silent
    )
    labels = np.arange(len(found.pixels)) % 10
    goals = []
    for distil in ({}, {"run": str(trained.path)}, {"run": str(trained.path), "temperature": 5.0, "weight": 0.25}):
        made = trained.recipe_as(ClassifyRecipe).model_copy(update={"distil": Distil.model_validate(distil)})
        member = made.members[1]  # finetuned: its batches are pixels
        job = replace(bench.job(made, found.pixels), member=member, classes=10, labels=labels, cache=bench.folder)
        prepared = prepared_for(job, build_member(member, made, 10), None, silent)
        batch = next(iter(prepared.in_order(np.arange(8))))
        goals.append((prepared.goal, prepared.ways.training(batch)[1]))
    (plain, ids), (default, targets), (own, _) = goals
    assert type(plain) is ClassifyGoal and ids.shape == (8,) and targets.shape == (8, 11)
    assert targets[:, 10].tolist() == ids.tolist()
    said = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    for goal, temperature, weight in ((default, 2.0, 0.9), (own, 5.0, 0.25)):
        assert isinstance(goal, DistilGoal)
        soft = softmax(targets[:, :10].numpy() / temperature, axis=1)
        kl = (soft * (np.log(soft) - np.log(softmax(said.numpy() / temperature, axis=1)))).sum(1).mean()
        expected = weight * temperature**2 * kl + (1 - weight) * float(F.cross_entropy(said, ids))
        assert float(goal.loss(said, targets)) == pytest.approx(expected, rel=1e-4)


def table(*keys: str) -> Callable[[Bench], None]:
    """A key that holds other keys acts through them."""
    return lambda bench: [EFFECTS[key](bench) for key in keys] and None


EFFECTS: dict[str, Callable[[Bench], None]] = {
    "name": recipe_name,
    "description": recipe_description,
    "task": recipe_task,
    "seed": recipe_seed,
    "data": table("data.size"),
    "data.size": data_size,
    "data.resize": data_resize,
    "data.stored": data_stored,
    "data.normalize": data_normalize,
    "data.holdout": data_holdout,
    "data.val": data_val,
    "data.folds": data_folds,
    "augment": table("augment.hflip"),
    "augment.hflip": image(lambda x: x.flip(3), hflip=1),
    "augment.vflip": image(lambda x: x.flip(2), vflip=1),
    "augment.rotation": moved({}, {"rotation": 30}),
    "augment.crop": moved({}, {"crop": [0.3, 0.8]}),
    "augment.ratio": moved({"crop": [0.3, 0.8]}, {"crop": [0.3, 0.8], "ratio": [0.4, 0.5]}),
    "augment.perspective": moved({}, {"perspective": 0.5}),
    "augment.perspective_p": perspective_p,
    "augment.brightness": image(lambda x: TF.adjust_brightness(x, 0.5), brightness=[0.5, 0.5]),
    "augment.contrast": image(lambda x: TF.adjust_contrast(x, 0.5), contrast=[0.5, 0.5]),
    "augment.saturation": saturation,
    "augment.mixup": mixed("mixup"),
    "augment.cutmix": mixed("cutmix"),
    **{f"train.{key}": optimised(key) for key in OPTIMISED},
    "train": table("train.lr"),
    "train.mode": mode,
    "train.class_weights": weights_of_classes,
    "train.ema": ema,
    "train.patience": patience,
    "train.keep": keep,
    "train.precision": precision,
    "train.channels_last": channels_last,
    "train.reestimate_norm": reestimate_norm,
    "train.cache": cache,
    "train.views": views,
    "train.checkpoint_minutes": checkpoint_minutes,
    "ensemble": table("ensemble.combine"),
    "ensemble.calibration": ensemble_calibration,
    "ensemble.combine": ensemble_combine,
    "ensemble.weights": ensemble_weights,
    "ensemble.rounds": ensemble_rounds,
    "ensemble.fit_on": ensemble_fit_on,
    "distil": taught,
    "distil.run": taught,
    "distil.temperature": taught,
    "distil.weight": taught,
    "members": recipe_members,
    "members.name": member_name,
    "members.backbone": member_backbone,
    "members.weights": member_weights,
    "members.pool": member_pool,
    "members.zero_init_residual": zero_init_residual,
    "members.head": head_hidden,
    "members.head.norm": head_norm,
    "members.head.dropout": dropout(lambda rate: {"dropout": rate}, 0),
    "members.head.hidden": head_hidden,
    "members.head.hidden.width": hidden_width,
    "members.head.hidden.activation": hidden_activation,
    "members.head.hidden.dropout": dropout(
        lambda rate: {"hidden": [{"width": 50, "activation": "none", "dropout": rate}]}, 2
    ),
    "members.size": data_size,
    "members.mode": mode,
    **{f"members.{k}": member_override(k) for k in ("epochs", "batch_size", "lr", "backbone_lr", "weight_decay")},
}


def test_every_key_has_an_effect_here() -> None:
    assert set(EFFECTS) == set(keys_of(ClassifyRecipe))


@pytest.mark.parametrize("key", sorted(EFFECTS))
def test_key_acts(key: str, bench: Bench) -> None:
    EFFECTS[key](bench)
