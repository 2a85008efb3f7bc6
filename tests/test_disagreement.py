"""Disagreement of systems, against scikit-learn; the Pareto front, against a loop; time, against a clock of our own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from sklearn.metrics import accuracy_score

from octavo.engine.graphs import OFTEN
from octavo.engine.restore import batch_of
from octavo.engine.timing import LEAST, REPEATS, SECONDS, Turn, _Others, time_in_turns, too_busy
from octavo.numbers.disagreement import agreement, both_wrong, disagreement
from octavo.numbers.pareto import pareto

DRAW = np.random.default_rng(7)
LABELS = DRAW.integers(0, 6, 500)
PREDICTED = np.where(DRAW.random((4, 500)) < 0.7, LABELS, DRAW.integers(0, 6, (4, 500)))


def test_disagreement_is_one_less_the_accuracy_of_one_by_the_other() -> None:
    expected = [[1 - accuracy_score(one, other) for other in PREDICTED] for one in PREDICTED]
    np.testing.assert_allclose(disagreement(PREDICTED), expected, atol=1e-12)
    assert (np.diag(disagreement(PREDICTED)) == 0).all()


def test_both_are_wrong_where_neither_is_right() -> None:
    found = both_wrong(PREDICTED, LABELS)
    np.testing.assert_allclose(np.diag(found), [1 - accuracy_score(LABELS, row) for row in PREDICTED])
    for i in range(4):
        for j in range(4):
            either = sum(a == y or b == y for a, b, y in zip(PREDICTED[i], PREDICTED[j], LABELS, strict=True))
            assert found[i, j] == pytest.approx(1 - either / 500)


def test_agreement_of_all() -> None:
    labels = np.array([0, 1, 2, 3])
    predicted = np.array([[0, 2, 2, 0], [0, 2, 0, 1], [0, 2, 1, 2]])
    found = agreement(predicted, labels)
    assert (found.unanimous, found.unanimous_wrong, found.any_right) == (0.5, 0.25, 0.5)


def test_one_system_agrees_with_itself() -> None:
    assert disagreement(PREDICTED[:1]).tolist() == [[0]]
    assert agreement(PREDICTED[:1], LABELS).unanimous == 1


@pytest.mark.parametrize("seed", range(4))
def test_the_front_is_that_of_a_loop(seed: int) -> None:
    draw = np.random.default_rng(seed)
    cost, gain = draw.integers(0, 12, 30), draw.integers(0, 12, 30)  # with ties

    def beaten(i: int) -> bool:
        return any(
            (cost[j] <= cost[i] and gain[j] > gain[i]) or (cost[j] < cost[i] and gain[j] >= gain[i]) for j in range(30)
        )

    assert pareto(cost, gain).tolist() == [not beaten(i) for i in range(30)]


def test_equal_systems_are_all_on_the_front() -> None:
    assert pareto([1, 1, 2], [5, 5, 5]).tolist() == [True, True, False]


class Slow:
    """A member that takes as long as it is told, and the clock that shows it."""

    name, bf16, device = "slow", False, torch.device("cpu")

    def __init__(self, *seconds: float) -> None:
        self.now, self.seconds, self.calls = 100.0, seconds, 0

    def logits(self, batch: Any) -> np.ndarray:
        self.now += self.seconds[min(self.calls, len(self.seconds) - 1)]
        self.calls += 1
        return np.zeros((len(batch.sizes), 3), np.float32)

    def clock(self) -> float:
        return self.now


def member_of(slow: Slow) -> Any:
    return SimpleNamespace(name=slow.name, bf16=slow.bf16, logits=slow.logits, device=slow.device)


def timed(slow: Slow, images: int = 4) -> Any:
    batch = batch_of([np.zeros((8, 8, 3), np.uint8)] * images)
    return time_in_turns([Turn(member_of(slow))], batch, slow.clock)[0]


def test_time_is_the_median_after_a_warm_up() -> None:
    found = timed(Slow(2.0, 0.1, 0.3, 0.2, 0.2, 0.2, 0.5, 0.2))
    assert found.repeats == REPEATS and found.images == 4 and found.name == "slow"
    assert (found.milliseconds, found.fastest, found.slowest) == pytest.approx((50, 25, 125))


def test_on_a_gpu_batches_are_timed_once_they_are_replayed() -> None:
    slow = Slow(2.0, 2.0, 9.0, *[0.1] * REPEATS)
    slow.device = torch.device("cuda")
    found = timed(slow)
    assert (OFTEN, found.repeats, found.slowest) == (3, REPEATS, pytest.approx(25))


def test_a_slow_member_is_timed_a_few_times_alone() -> None:
    slow = Slow(SECONDS + 1)
    assert timed(slow).repeats == LEAST and slow.calls == LEAST + 1


def test_members_are_timed_in_turns() -> None:
    """What slows the machine down for a while slows all of them."""
    one, calls = Slow(0.0), list[str]()

    def named(name: str, factor: float) -> Any:
        def logits(batch: Any) -> np.ndarray:
            calls.append(name)
            one.now += factor * (1.0 if len(calls) <= 8 else 5.0)  # busy after four rounds
            return np.zeros((len(batch.sizes), 3), np.float32)

        return SimpleNamespace(name=name, bf16=False, logits=logits, device=torch.device("cpu"))

    told: list[tuple[int, int]] = []
    batch = batch_of([np.zeros((8, 8, 3), np.uint8)] * 4)
    turns = [Turn(named("fast", 0.1)), Turn(named("slow", 0.2))]
    fast, slow = time_in_turns(turns, batch, one.clock, lambda what, done, total, note="": told.append((done, total)))
    assert calls == ["fast", "slow"] * (1 + REPEATS)
    assert slow.milliseconds == pytest.approx(2 * fast.milliseconds)
    assert told[0][0] == 1 and told[-1][0] == told[-1][1] == 2 * (1 + REPEATS)


def test_a_slow_member_does_not_shorten_the_others_turns() -> None:
    slow, fast = Slow(SECONDS + 1), Slow(0.1)
    fast.clock = slow.clock = lambda: slow.now + fast.now  # type: ignore[method-assign]
    batch = batch_of([np.zeros((8, 8, 3), np.uint8)])
    found = time_in_turns([Turn(member_of(slow)), Turn(member_of(fast))], batch, slow.clock)
    assert [timing.repeats for timing in found] == [LEAST, REPEATS]


class Machine:
    """Processors' times as psutil tells them, and this process's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **times: float) -> None:
        self.times, self.own, self.now = {"user": 0.0, "system": 0.0, "idle": 0.0} | times, 0.0, 0.0
        monkeypatch.setattr("octavo.engine.timing.psutil.cpu_times", lambda: namedtuple("T", self.times)(**self.times))
        monkeypatch.setattr("octavo.engine.timing.psutil.cpu_count", lambda: 4)
        monkeypatch.setattr("octavo.engine.timing.time.process_time", lambda: self.own)
        monkeypatch.setattr("octavo.engine.timing.time.perf_counter", lambda: self.now)

    def share(self, seconds: float, own: float, **times: float) -> float | None:
        others = _Others()
        self.now, self.own = self.now + seconds, self.own + own
        for name, more in times.items():
            self.times[name] += more
        return others.share()


def test_what_others_take_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = Machine(monkeypatch, iowait=0.0, steal=0.0, guest=0.0)
    assert linux.share(10, 20, user=19, system=1, idle=20) == 0  # this process alone, on two of four processors
    assert linux.share(10, 20, user=29, system=1, idle=10) == pytest.approx(0.25)
    assert linux.share(10, 20, user=20, steal=8, idle=12) == pytest.approx(0.2)
    assert linux.share(10, 20, user=20, iowait=20) == 0
    assert linux.share(10, 20, user=24, guest=4, idle=16) == pytest.approx(0.1)  # a guest's is in the user's
    assert linux.share(0.1, 0.1, user=0.4) is None  # too short a time for clocks that tick
    windows = Machine(monkeypatch, interrupt=0.0, dpc=0.0)
    assert windows.share(10, 20, user=18, system=6, interrupt=2, dpc=2, idle=16) == pytest.approx(0.1)

    def hidden() -> None:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr("octavo.engine.timing.psutil.cpu_times", hidden)
    assert _Others().share() is None


def test_who_is_told_that_a_machine_was_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.engine.timing.psutil.cpu_count", lambda: 4)
    monkeypatch.setattr("octavo.engine.timing.torch.get_num_threads", lambda: 2)
    assert "other work took 60% of this machine's processors" in too_busy(0.6)
    assert too_busy(None) == too_busy(0.05) == too_busy(0.4) == ""  # two threads and 1.6 processors go into four


def test_another_process_is_seen() -> None:
    """A process that computes all the while; others of this machine may compute too, which is seen beside."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            time.sleep(0.3)
            others, process, start = _Others(), psutil.Process(busy.pid), time.perf_counter()
            before = process.cpu_times().user
            time.sleep(1)
            taken, share = process.cpu_times().user - before, others.share()
            took = time.perf_counter() - start
        finally:
            busy.kill()
    assert taken > 0.1 and share is not None
    assert share > 0.8 * taken / (took * (psutil.cpu_count() or 1))
