"""What there is to compute on, and what is said where there is none."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
import torch

from octavo.engine import hardware
from octavo.engine.hardware import Hardware, find, matrix_rate
from octavo.errors import UserError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    return monkeypatch


def test_the_cpu_is_always_there(machine: pytest.MonkeyPatch) -> None:
    assert find() == find("auto") == find("cpu") == Hardware("cpu", 1)
    assert find("cpu", 4).count == 4
    assert find().device == torch.device("cpu")
    assert find().workers == 0


def test_auto_takes_cuda_then_apples_then_the_cpu(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find().kind == "mps"
    machine.setattr(torch.cuda, "is_available", lambda: True)
    machine.setattr(torch.cuda, "device_count", lambda: 3)
    found = find()
    assert (found.kind, found.count, found.device) == ("cuda", 1, torch.device("cuda:0"))
    assert found.workers > 0
    assert find("cuda", 3).count == 3
    assert find("cpu").kind == "cpu"


@pytest.mark.parametrize(
    ("device", "count", "words"),
    [
        ("cuda", None, "--device cuda: this machine .* has none; use --device cpu"),
        ("mps", None, "--device mps: .* has none"),
        ("cuba", None, '--device: unknown "cuba"; did you mean "cuda"'),
        ("cpu", 5, "--devices 5: expected 1 to 4 for cpu"),
        ("cpu", 0, "--devices 0: expected 1 to 4"),
    ],
)
def test_what_is_not_there_is_refused(device: str, count: int | None, words: str, machine: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=words):
        find(device, count)


def test_the_manifest_says_what_it_ran_on() -> None:
    said = Hardware("cpu").describe()
    assert said["threads"] == torch.get_num_threads()
    assert said["cores"] == os.cpu_count()
    assert said["processor"]
    assert "\n" not in said["processor"]


def test_computes_steadily_and_leaves_torch_as_it_was() -> None:
    threads, memory = torch.get_num_threads(), torch.utils.deterministic
    for kind, expected in (("cpu", True), ("mps", False)):
        with pytest.raises(ZeroDivisionError), Hardware(kind).steady():
            assert torch.are_deterministic_algorithms_enabled() is expected
            assert torch.get_num_threads() == threads
            raise ZeroDivisionError
        assert not torch.are_deterministic_algorithms_enabled()
        assert memory.fill_uninitialized_memory is True


@pytest.mark.parametrize(("half", "faster"), [(4.0, True), (1.1, False), (0.5, False)])
def test_bf16_is_taken_where_it_is_measured_to_be_faster(
    half: float, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: {"avx512_bf16"})
    monkeypatch.setattr(hardware, "matrix_rate", lambda device, bf16, side: half if bf16 else 1.0)
    hardware._bf16_pays.cache_clear()
    try:
        assert Hardware("cpu").bf16 is faster
    finally:
        hardware._bf16_pays.cache_clear()
    monkeypatch.setattr(hardware, "_cpu_flags", set)
    assert not Hardware("cpu").bf16


def test_the_matrix_rate_is_that_of_numpy_within_a_factor() -> None:
    side = 1024
    a = np.ones((side, side), np.float32)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    assert 1 / 50 < matrix_rate(torch.device("cpu"), False) * best / (2 * side**3) < 50
