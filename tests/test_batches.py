"""Batches by key: complete, the same wherever they are started from, and shared out without loss."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from octavo.data import batches as module
from octavo.data.batches import Batch, Batches, MaskRows, Steps, bounds, in_order, loader
from octavo.data.classes import IGNORE, ClassEntry, ClassTable
from octavo.data.masks import MaskDecoder
from octavo.data.pairs import MaskFiles
from octavo.data.store import build
from octavo.engine.checkpoint import Stop
from octavo.engine.features import Features
from octavo.keyed import permutation


def source(count: int = 50) -> Features:
    return Features(np.arange(count * 2, dtype=np.float32).reshape(1, count, 2), 0)


def batches(batch_size: int = 8, seed: int | None = 3, **rest: int) -> Batches:
    chosen = np.arange(5, 48)
    return Batches(source(), chosen, np.arange(50) % 7, batch_size, seed=seed, **rest)


def test_some_of_a_batch_of_features() -> None:
    whole = batches()[0, 1]
    part = whole.some(np.array([4, 1]))
    assert (
        part.inputs.tolist() == whole.inputs[[4, 1]].tolist() and part.labels.tolist() == whole.labels[[4, 1]].tolist()
    )
    assert part.indices.tolist() == whole.indices[[4, 1]].tolist() and part.sizes.shape == (0, 2)


@pytest.mark.parametrize("count", range(1, 40))
@pytest.mark.parametrize("batch_size", [2, 4, 7, 64])
@pytest.mark.parametrize("world", [1, 2])
def test_bounds_cover_all_and_leave_no_small_batch(count: int, batch_size: int, world: int) -> None:
    if batch_size < 2 * world:
        return
    found = bounds(count, batch_size, world)
    assert [i for start, stop in found for i in range(start, stop)] == list(range(count))
    sizes = [stop - start for start, stop in found]
    assert all(size == batch_size for size in sizes[:-1])
    assert 2 * world <= sizes[-1] < batch_size + 2 * world or len(sizes) == 1
    for rank in range(world):
        assert len(sizes) == 1 or all(len(range(start, stop)[rank::world]) >= 2 for start, stop in found)


def test_a_last_batch_of_one_joins_the_one_before() -> None:
    assert bounds(9, 4) == [(0, 4), (4, 9)]
    assert bounds(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert bounds(1, 4) == [(0, 1)]
    assert bounds(0, 4) == []
    assert bounds(11, 4, world=2) == [(0, 4), (4, 11)]


def test_an_epoch_has_each_image_once_in_an_order_of_its_own() -> None:
    data = batches()
    orders = [np.concatenate([data[epoch, step].indices for step in range(len(data))]) for epoch in range(4)]
    for order in orders:
        assert sorted(order) == list(range(5, 48))
    assert len({tuple(order) for order in orders}) == 4
    other = batches(seed=4)
    assert not np.array_equal(orders[0], np.concatenate([other[0, s].indices for s in range(len(other))]))
    again = batches()[2, 3]
    assert np.array_equal(again.indices, data[2, 3].indices)


def test_a_batch_holds_its_images_inputs_and_labels() -> None:
    batch = batches()[1, 2]
    assert (batch.epoch, batch.step) == (1, 2)
    np.testing.assert_array_equal(batch.inputs, source().views[0, batch.indices])
    np.testing.assert_array_equal(batch.labels, batch.indices % 7)
    assert batch.labels.dtype == torch.int64
    assert batch.sizes.shape == (0, 2)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_each_batch_out(world: int) -> None:
    whole, shares = batches(world=world), [batches(rank=rank, world=world) for rank in range(world)]
    assert {len(share) for share in shares} == {len(whole)}
    one = batches()
    for step in range(len(whole) - 1):
        parts = [share[1, step].indices for share in shares]
        assert sorted(np.concatenate(parts)) == sorted(one[1, step].indices)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    everything = [i for share in shares for step in range(len(share)) for i in share[1, step].indices]
    assert sorted(everything) == list(range(5, 48))


def keys(found: object) -> list[tuple[int, int]]:
    return [(batch.epoch, batch.step) for batch in found]  # type: ignore[attr-defined]


def test_steps_start_in_the_middle_once() -> None:
    steps = Steps(5, start_epoch=2, start_step=3, epoch=2)
    assert list(steps) == list(steps) == [(2, 3), (2, 4)]
    assert len(steps) == 5
    steps.set_epoch(3)
    assert list(steps) == [(3, s) for s in range(5)]
    steps.set_epoch(2)
    assert list(steps) == [(2, 3), (2, 4)]


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_change_nothing(workers: int) -> None:
    data = batches()
    steps = Steps(len(data), 1, 2, epoch=1)
    found: list[Batch] = list(loader(data, steps, workers=workers))
    assert keys(found) == [(1, s) for s in range(2, len(data))]
    for batch in found:
        expected = data[batch.epoch, batch.step]
        assert torch.equal(batch.inputs, expected.inputs)
        assert torch.equal(batch.labels, expected.labels)
        assert np.array_equal(batch.indices, expected.indices)


def test_in_order_is_for_evaluation() -> None:
    chosen = np.array([9, 4, 30, 2, 7])
    found = list(in_order(source(), chosen, np.arange(50), 2))
    assert np.concatenate([b.indices for b in found]).tolist() == chosen.tolist()
    assert [len(b.indices) for b in found] == [2, 3]
    assert {b.epoch for b in found} == {-1}
    assert list(in_order(source(), np.empty(0, np.int64), np.arange(50), 2)) == []


def test_batches_can_travel_to_a_process() -> None:
    again = pickle.loads(pickle.dumps(batches()))
    assert np.array_equal(again[1, 1].indices, batches()[1, 1].indices)


class Moved(torch.Tensor):
    """A tensor that only tells how it was asked to move."""

    def to(self, *args: object, **options: object) -> tuple[object, ...]:  # type: ignore[override]
        return (*args, options.get("non_blocking", False))


@pytest.mark.parametrize("device, ahead", [("cpu", False), ("mps", False), ("cuda", True)])
def test_copies_are_waited_for_unless_to_cuda(device: str, ahead: bool) -> None:
    batch = Batch(Moved(), np.empty((0, 2)), Moved(), np.empty(0), 0, 0)
    moved = batch.to(torch.device(device))
    assert moved.inputs == moved.labels == (torch.device(device), ahead)


def test_an_epochs_order_is_drawn_once_and_is_the_keyed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def counted(count: int, seed: int, epoch: int) -> np.ndarray:
        drawn.append(epoch)
        return permutation(count, seed, epoch)

    monkeypatch.setattr(module, "permutation", counted)
    data = batches(seed=12345)
    for epoch in (7, 8, 7):
        order = np.concatenate([data[epoch, step].indices for step in range(len(data))])
        np.testing.assert_array_equal(order, np.arange(5, 48)[permutation(43, 12345, epoch)])
    assert drawn == [7, 8, 7]


class Signals:
    """In the place of images, what the process that reads them does with signals."""

    def rows(self, indices: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        facts = [os.getpid(), ignored]
        return np.tile(np.array(facts), (len(indices), 1)), np.empty((0, 2), np.int64)


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="signals as Unix has them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_loaders_process_leaves_signals_to_its_parent(number: signal.Signals) -> None:
    with Stop().listening() as stop:
        data = Batches(Signals(), np.arange(40), np.zeros(40, np.int64), 2)
        made = loader(data, Steps(len(data)), workers=1)
        assert made.prefetch_factor == 2
        found = iter(made)
        process, ignored = next(found).inputs[0].tolist()
        assert process != os.getpid()
        assert ignored
        os.kill(process, number)
        assert len(list(found)) == len(data) - 1  # it goes on
        assert not stop.signal


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="signals as Unix has them")
def test_a_loaders_process_ends_some_time_after_sigterm() -> None:
    code = "import signal, time; from octavo.data import batches; batches.GRACE = 1; batches.own_signals(0); "
    ends = {}
    for name, times in (("once", 1), ("twice", 2)):
        text = code + f"[signal.raise_signal(signal.SIGTERM) for _ in range({times})]; time.sleep(60)"
        ends[name] = subprocess.run([sys.executable, "-c", text], timeout=50).returncode
    assert ends == {"once": -signal.SIGALRM, "twice": -signal.SIGTERM}


def test_a_batch_moves_to_a_device_its_keys_stay() -> None:
    batch = batches()[0, 0]
    moved = batch.to(torch.device("meta"))
    assert moved.inputs.is_meta
    assert moved.labels.is_meta
    assert moved.indices is batch.indices


@pytest.mark.parametrize("count", [1, 2, 5])
def test_batches_of_one_stay(count: int) -> None:
    """Images of several sizes come one by one to the last of them."""
    assert bounds(count, 1) == [(i, i + 1) for i in range(count)]


def test_masks_are_labels(tmp_path: Path) -> None:
    """Masks come by their place in the data set, on a canvas of IGNORE where their sizes differ."""
    draw = np.random.default_rng(0)
    masks = [draw.integers(0, 7, size).astype(np.uint8) for size in ((6, 9), (8, 5), (6, 9), (8, 5), (7, 7))]
    names = tuple(f"{i}.png" for i in range(len(masks)))
    for name, mask in zip(names, masks, strict=True):
        Image.fromarray(mask).save(tmp_path / name)
    table = ClassTable("t", tuple(ClassEntry(str(i), i, (i, i, i)) for i in range(7)))
    rows = MaskRows(build(MaskFiles(str(tmp_path), "", names), MaskDecoder(table, "ids"), tmp_path / "cache"))
    np.testing.assert_array_equal(rows.sizes, [mask.shape for mask in masks])
    np.testing.assert_array_equal(rows[np.array([2, 0])], np.stack([masks[2], masks[0]]))
    batch = Batches(source(5), np.arange(5), rows, 5, seed=0)[0, 0]
    assert batch.labels.shape == (5, 8, 9) and batch.labels.dtype == torch.uint8
    for place, found in zip(batch.indices, batch.labels.numpy(), strict=True):
        height, width = masks[place].shape
        np.testing.assert_array_equal(found[:height, :width], masks[place])
        assert (found[height:] == IGNORE).all() and (found[:, width:] == IGNORE).all()
