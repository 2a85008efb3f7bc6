"""The task: its randomness by key, what it counts, and what its state holds. Keys of a recipe: test_train_keys."""

from __future__ import annotations

import pickle
import types
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octavo.data.batches import Batch
from octavo.engine.goals import ClassifyGoal
from octavo.engine.task import OPTIMIZERS, FeatureInputs, Task, _swept
from octavo.networks.member import MemberNet
from octavo.recipe import Train

STEPS = 3


class Strategy:
    """As Lightning's for one process: a sum over one is itself."""

    def reduce(self, value: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        return value


def net() -> MemberNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))
        return MemberNet(body, nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 3)))  # type: ignore[arg-type]


def task(seed: int = 1, whole: nn.Module | None = None, **train: Any) -> Task:
    spec = Train.model_validate(train)
    goal = ClassifyGoal(3, label_smoothing=spec.label_smoothing)
    made = Task(whole or net(), FeatureInputs(), spec, goal, steps=STEPS, seed=seed)
    made._trainer = types.SimpleNamespace(strategy=Strategy(), global_rank=0, world_size=1)  # type: ignore[assignment]
    return made


def batch(epoch: int = 0, step: int = 0, count: int = 8) -> Batch:
    rng = np.random.default_rng(step)
    x = torch.from_numpy(rng.normal(size=(count, 6)).astype(np.float32))
    return Batch(x, np.empty((0, 2)), torch.from_numpy(rng.integers(0, 3, count)), np.arange(count), epoch, step)


def loss(made: Task, of: Batch) -> float:
    return float(made.training_step(of, 0).detach())


def test_dropout_is_a_function_of_seed_epoch_and_step() -> None:
    made = task()
    first = loss(made, batch())
    torch.manual_seed(99)
    assert loss(made, batch()) == first
    different = {loss(made, of) for of in (batch(1, 0), batch(2, 0))} | {loss(task(seed=2), batch())}
    assert len(different | {first}) == 4


def test_an_epochs_sums_are_those_of_its_batches() -> None:
    made = task(label_smoothing=0.1)
    losses, right, count = 0.0, 0, 0
    for step, size in enumerate((8, 8, 5)):
        seen: list[Tensor] = []
        hook = made.net.register_forward_hook(lambda module, args, out, seen=seen: seen.append(out))
        losses += size * loss(made, of := batch(0, step, size))
        hook.remove()
        right += int((seen[0].argmax(1) == of.labels).sum())
        count += size
    np.testing.assert_allclose(made.tally, [losses, count, right], rtol=1e-6)
    one = loss(made, batch(1, 0))
    np.testing.assert_allclose(made.tally[:2], [8 * one, 8], rtol=1e-6)


def test_held_out_images_are_judged_by_plain_cross_entropy_of_what_the_member_would_become() -> None:
    made = task(label_smoothing=0.3, ema=0.9)
    assert made.averaged is not None
    made.averaged.update_parameters(made.net)
    with torch.no_grad():
        made.net.head[1].weight.add_(1)  # type: ignore[index, operator]
    made.eval()
    made.on_validation_epoch_start()
    for step, size in enumerate((8, 3)):
        made.validation_step(batch(-1, step, size), step)
    x, y = (torch.cat(v) for v in zip(*((b.inputs, b.labels) for b in (batch(-1, 0), batch(-1, 1, 3))), strict=True))
    logits = net().eval()(x)
    held = made.goal.held()
    assert held["holdout_loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-5)
    assert held["holdout_accuracy"] == pytest.approx(int((logits.argmax(1) == y).sum()) / 11)


@pytest.mark.parametrize(
    ("train", "epoch", "active"),
    [({}, 0, True), ({"head_epochs": 2}, 1, False), ({"head_epochs": 2}, 2, True), ({"mode": "frozen"}, 9, False)],
)
def test_an_extractor_at_rest_keeps_weights_and_statistics(train: dict[str, Any], epoch: int, active: bool) -> None:
    made = task(**train)
    before = {k: v.clone() for k, v in made.net.backbone.state_dict().items()}  # type: ignore[union-attr]
    made.train()
    made.training_step(batch(epoch), 0).backward()
    grads = [p.grad is not None for p in made.net.backbone.parameters()]  # type: ignore[union-attr]
    assert all(grads) if active else not any(grads)
    moved = {k for k, v in made.net.backbone.state_dict().items() if not torch.equal(v, before[k])}  # type: ignore[union-attr]
    assert bool(moved) == active
    assert made.net.head[1].weight.grad is not None  # type: ignore[index]


def test_groups_exist_from_the_start_and_the_head_is_the_last() -> None:
    made = task(head_epochs=1, backbone_lr=0.1, lr=0.5)
    groups = made.configure_optimizers()["optimizer"].param_groups
    assert [g["lr"] for g in groups] == pytest.approx([0.05, 0.5])
    assert sum(p.numel() for g in groups for p in g["params"]) == sum(p.numel() for p in net().parameters())
    frozen = task(mode="frozen").configure_optimizers()["optimizer"].param_groups
    assert [len(g["params"]) for g in frozen] == [2]
    head = task(whole=nn.Sequential(nn.Linear(6, 3))).configure_optimizers()["optimizer"].param_groups
    assert [len(g["params"]) for g in head] == [2]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_take_rate_and_decay(name: str) -> None:
    made = task(optimizer=name, lr=0.3, weight_decay=0.2).configure_optimizers()["optimizer"]
    assert type(made).__name__.lower() == name
    assert {(g["lr"], g["weight_decay"]) for g in made.param_groups} == {(0.3, 0.2)}


def test_a_task_travels_and_only_what_is_trained_waits_for_gradients() -> None:
    made = task(ema=0.5)
    made._trainer = None
    again: Task = pickle.loads(pickle.dumps(made))
    assert again.averaged is not None
    assert not any(p.requires_grad for p in again.averaged.parameters())
    assert all(p.requires_grad for p in again.net.parameters())
    frozen = task(mode="frozen")
    assert not any(p.requires_grad for p in frozen.net.backbone.parameters())  # type: ignore[union-attr]


def test_state_holds_weights_average_sums_and_history() -> None:
    made, other = task(ema=0.5), task(seed=3, ema=0.5)
    made.history = [{"epoch": 1, "train_loss": 0.5}]
    loss(made, batch())
    made.averaged.update_parameters(made.net)  # type: ignore[union-attr]
    other.load_state_dict(made.state_dict())
    assert other.history == made.history
    assert torch.equal(other.tally, made.tally)
    assert int(other.averaged.n_averaged) == 1  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_moments_that_shrink_for_ever_become_zero_and_no_weight_moves_by_it(name: str) -> None:
    spec = Train.model_validate({"optimizer": name, "lr": 0.01, "momentum": 0.9})
    weights = [nn.Parameter(torch.tensor([1.0, 1.0])) for _ in range(2)]
    optimizers = [OPTIMIZERS[name]([{"params": [w]}], spec, True) for w in weights]
    for step in range(1200):
        for weight, optimizer in zip(weights, optimizers, strict=True):
            weight.grad = torch.tensor([1.0, 0.0 if step else 1.0])  # the second gets one gradient only
            optimizer.step()
        if step % 100 == 99:
            _swept(optimizers[1])
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=0)
    key = "momentum_buffer" if name == "sgd" else "exp_avg"
    left, swept = (optimizer.state[weight][key] for optimizer, weight in zip(optimizers, weights, strict=True))
    assert 0 < left[1] < 1e-38  # rounding keeps it there
    assert swept.tolist() == [left[0].item(), 0]
