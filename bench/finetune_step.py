"""One training step of ResNet-152 and VGG16: Octavo's Trainer beside a plain PyTorch loop and timm's own step.

    python bench/finetune_step.py [--size 64] [--batch 32] [--steps 12] [--device cpu] [--networks resnet152 vgg16]
                                  [--burst 1] [--sides plain fused timm "timm bf16" octavo "octavo bf16"]

All sides train the same network from the same weights on the same batches, made before (random pixels, 50 classes),
with SGD and momentum; the data pipeline isn't in this, see bench/loader.py: batches lie on the device. Sides take turns
of --burst steps, in one process (on a GPU some ten, since it is waited for at the end of a turn):

    plain       forward, cross-entropy, backward, SGD as PyTorch has it by default, float32, the usual memory order
    fused       the same with SGD(fused=True), which is Octavo's optimiser: what its Trainer adds is against this one
    timm        as `plain`, with timm's own optimiser and loss, as its train.py does by default
    timm bf16   the same in bfloat16 and channels-last order, by its --amp --amp-dtype bfloat16 --channels-last
    octavo      `Task` under Lightning's Trainer, float32, the usual memory order
    octavo bf16 the same in bfloat16 and channels-last order

A step's time is from the end of the one before, a turn's is divided by its steps. The median of the turns after the
first two steps is shown, of what each side's speed is to some others' the median over the rounds, in which every side
takes a turn, and what share of the measured rate of matrix products the network's operations come to.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from sides import guarded, limits, machine
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.flop_counter import FlopCounterMode

from octavo.data.batches import Batch
from octavo.engine.fit import _quiet
from octavo.engine.goals import ClassifyGoal
from octavo.engine.hardware import find, matrix_rate
from octavo.engine.task import Task
from octavo.networks.build import build_member
from octavo.networks.member import MemberNet
from octavo.recipe import ClassifyRecipe, Train, load

CLASSES = 50
SIDES = ("plain", "fused", "timm", "timm bf16", "octavo", "octavo bf16")
RIVALS = SIDES[:4]


class Turns:
    """Lets several threads run one at a time, `burst` steps each in their order."""

    def __init__(self, names: list[str], burst: int, device: torch.device) -> None:
        self.names, self.burst, self.device, self.at, self.changed = names, burst, device, 0, threading.Condition()
        self.seconds: dict[str, list[float]] = {name: [] for name in names}
        self.begun, self.steps, self.failed = 0.0, 0, ""

    def wait(self, name: str) -> None:
        """Return when it is this side's turn.

        Raises:
            SystemExit: another side failed, and its turn will never end.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.failed or self.names[self.at] == name)
        if self.failed:
            raise SystemExit(self.failed)
        if not self.steps:
            self.begun = time.perf_counter()

    def run(self, name: str, side: Callable[[Turns], None]) -> None:
        """Be the thread of a side; let the others end where it fails."""
        try:
            side(self)
        except BaseException as error:
            with self.changed:
                self.failed = self.failed or f"{name}: {error!r}"
                self.changed.notify_all()

    def done(self, name: str) -> None:
        """Count a step; after the turn's last note their time, and give the turn to the next side."""
        self.steps += 1
        if self.steps < self.burst:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds[name].append((time.perf_counter() - self.begun) / self.burst)
        self.steps = 0
        with self.changed:
            self.at = (self.at + 1) % len(self.names)
            self.changed.notify_all()


class Ready(IterableDataset[Batch]):
    """Batches that are made; each waits for its turn, and tells that the step before has ended."""

    def __init__(self, name: str, turns: Turns, batches: list[Batch]) -> None:
        self.name, self.turns, self.batches = name, turns, batches

    def __len__(self) -> int:  # without a length Lightning asks for a batch before the step of the one before
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self.batches):
            if number:
                self.turns.done(self.name)
            self.turns.wait(self.name)
            yield batch


class Made:
    """Inputs that are ready: floats, in the memory order asked for."""

    def __init__(self, channels_last: bool) -> None:
        self.format = torch.channels_last if channels_last else torch.contiguous_format

    def plain(self, batch: Batch) -> Tensor:
        """Return the input."""
        return batch.inputs.contiguous(memory_format=self.format)

    def training(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return input and targets."""
        return self.plain(batch), batch.labels


def main() -> None:
    """Measure each network and print a line a side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", nargs="+", default=["resnet152", "vgg16"])
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    given = parser.parse_args()
    print(machine("timm", "pytorch-lightning"), limits(find(given.device).device), sep="\n", flush=True)
    for network in given.networks:
        measure(network, given)


def measure(network: str, given: argparse.Namespace) -> None:
    """Let all sides of a network take their steps in turns."""
    device, first = find(given.device).device, -(-2 // given.burst)
    count = (first + given.steps) * given.burst
    made = [batch_of(given, step).to(device) for step in range(min(count, 14))]
    batches = [made[step % len(made)] for step in range(count)]
    ways: dict[str, Callable[[Turns], None]] = {
        "plain": lambda turns: plain(net_of(network, given), batches, turns, device, "plain"),
        "fused": lambda turns: plain(net_of(network, given), batches, turns, device, "fused"),
        "timm": lambda turns: timm(net_of(network, given), batches, turns, device, bf16=False),
        "timm bf16": lambda turns: timm(net_of(network, given), batches, turns, device, bf16=True),
        "octavo": lambda turns: octavo(net_of(network, given), batches, turns, given, bf16=False),
        "octavo bf16": lambda turns: octavo(net_of(network, given), batches, turns, given, bf16=True),
    }
    turns = Turns(list(given.sides), given.burst, device)
    if len(given.sides) == 1:  # in this thread, where bench/roofline.py sees it
        ways[given.sides[0]](turns)
    else:
        threads = [threading.Thread(target=turns.run, args=(side, ways[side])) for side in given.sides]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if turns.failed:
            raise SystemExit(turns.failed)
    told(network, given, {name: np.array(seconds[first:]) for name, seconds in turns.seconds.items()}, device)


def told(network: str, given: argparse.Namespace, seconds: dict[str, np.ndarray], device: torch.device) -> None:
    """Print a line a side."""
    flops = operations(network, given)
    rates = {bf16: matrix_rate(device, bf16) for bf16 in (False, True)}
    print(f"{network}, {given.size} px, batch {given.batch}: {flops / 1e9:.0f} GFLOP a step")
    for name, own in seconds.items():
        middle = float(np.median(own))
        share = flops / middle / rates["bf16" in name]
        beside = "   ".join(
            f"{np.median(other / own):.3f} × {rival}" for rival, other in seconds.items() if rival in RIVALS
        )
        print(f"  {name:12} {1000 * middle:8.1f} ms   speed {beside}   {share:.0%} of the matrix rate")


def net_of(network: str, given: argparse.Namespace) -> MemberNet:
    """Return the network of the recipe `octet`, always with the same weights."""
    recipe = load("octet", [f"data.size={given.size}", f"data.stored={given.size}"])
    assert isinstance(recipe, ClassifyRecipe)
    member = next(member for member in recipe.members if member.backbone == network)
    return build_member(member, recipe, CLASSES).train()


def batch_of(given: argparse.Namespace, step: int) -> Batch:
    """Return a batch of random pixels."""
    draw = torch.Generator().manual_seed(step)
    images = torch.rand((given.batch, 3, given.size, given.size), generator=draw)
    labels = torch.randint(CLASSES, (given.batch,), generator=draw)
    return Batch(images, np.zeros((given.batch, 2)), labels, np.arange(given.batch), 0, step)


def operations(network: str, given: argparse.Namespace) -> float:
    """Return the floating-point operations of a training step."""
    net = net_of(network, given).to("meta")
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(given.batch, 3, given.size, given.size, device="meta")).sum().backward()
    return counter.get_total_flops()


def plain(net: nn.Module, batches: list[Batch], turns: Turns, device: torch.device, name: str) -> None:
    """Train as tutorials do."""
    net.to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=True if name == "fused" else None)
    for batch in batches:
        turns.wait(name)
        images, labels = batch.inputs.to(device), batch.labels.to(device)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
        turns.done(name)


def timm(net: nn.Module, batches: list[Batch], turns: Turns, device: torch.device, *, bf16: bool) -> None:
    """Train as timm's train.py does, without mixed precision or with that of bfloat16 (which scales no loss)."""
    import timm.loss
    import timm.optim

    name = "timm bf16" if bf16 else "timm"
    net.to(device, memory_format=torch.channels_last if bf16 else torch.preserve_format)
    optimizer = timm.optim.create_optimizer_v2(net, "momentum", lr=1e-3, momentum=0.9)
    criterion = timm.loss.LabelSmoothingCrossEntropy(0.0)
    for batch in batches:
        turns.wait(name)
        torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True  # as its train.py does
        images, labels = batch.inputs.to(device), batch.labels.to(device)
        if bf16:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = False
        turns.done(name)


def octavo(net: MemberNet, batches: list[Batch], turns: Turns, given: argparse.Namespace, *, bf16: bool) -> None:
    """Train by Octavo's Task under Lightning's Trainer."""
    name = "octavo bf16" if bf16 else "octavo"
    train = Train(epochs=1, batch_size=given.batch, optimizer="sgd", lr=1e-3, momentum=0.9, channels_last=bf16)
    if bf16:
        net = net.to(memory_format=torch.channels_last)  # pyright: ignore
    task: Any = Task(net, Made(bf16), train, ClassifyGoal(CLASSES), steps=len(batches), seed=0)
    with _quiet():
        trainer = pl.Trainer(
            accelerator="gpu" if given.device == "cuda" else given.device,
            devices=1,
            max_epochs=1,
            precision="bf16-mixed" if bf16 else "32-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            inference_mode=True,
        )
        trainer.fit(task, DataLoader(Ready(name, turns, batches), batch_size=None))
        turns.done(name)  # nobody asks for a batch after the last


if __name__ == "__main__":
    guarded(main)
