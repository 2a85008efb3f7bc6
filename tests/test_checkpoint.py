"""Checkpoints: whole or absent, read without running code, and stops that wait for the right moment."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from octavo.engine.checkpoint import AtomicCheckpointIO, Stop, position, save_net
from octavo.errors import UserError
from octavo.progress import Interrupted


class Evil:
    """What a malicious checkpoint would hold."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


def test_checkpoint_comes_back(tmp_path: Path) -> None:
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint({"octavo_position": [3, 14], "state_dict": {"w": torch.arange(3.0)}}, path)
    assert position(path) == (3, 14)
    assert torch.equal(io.load_checkpoint(path)["state_dict"]["w"], torch.arange(3.0))
    io.remove_checkpoint(path)
    io.remove_checkpoint(path)
    assert list(tmp_path.iterdir()) == []


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Evil()}, "last.ckpt")
    for read in (AtomicCheckpointIO().load_checkpoint, position):
        with pytest.raises(pickle.UnpicklingError):
            read(Path("last.ckpt"))
    assert not Path("evil").exists()


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_full_disk_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint({"octavo_position": [1, 1]}, path)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(*{"write": (torch, "save"), "fsync": (os, "fsync"), "replace": (Path, "replace")}[call], full)
        with pytest.raises(UserError, match="No space left on device; the last good state is kept"):
            io.save_checkpoint({"octavo_position": [2, 2]}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"] and path.read_bytes() == before


def test_network_is_saved_with_its_buffers(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), torch.nn.BatchNorm2d(4))  # pyright: ignore
    save_net(net, tmp_path / "w.safetensors")
    found = load_file(tmp_path / "w.safetensors")
    assert found.keys() == net.state_dict().keys() and "1.running_var" in found
    assert all(torch.equal(found[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_noted_and_the_second_takes_effect(number: signal.Signals) -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    with Stop().listening() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as caught:
            stop.check()
        assert caught.value.signal == stop.signal == number
        expected = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        assert signal.getsignal(number) == expected
        stop.arm()  # a member that starts afterwards doesn't swallow the second one
        assert signal.getsignal(number) == expected
    assert {n: signal.getsignal(n) for n in before} == before


def test_listening_in_another_thread_changes_no_handler() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with Stop().listening() as stop:
            seen.append((stop.signal, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, before)] and signal.getsignal(signal.SIGINT) == before
