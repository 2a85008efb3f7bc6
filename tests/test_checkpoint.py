"""Checkpoints: whole or absent, read without running code, and stops that wait for the right moment."""

from __future__ import annotations

import errno
import os
import pickle
import shlex
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from octavo.engine.checkpoint import Stop, save_net
from octavo.engine.checkpoint_file import AtomicCheckpointIO, position, read_best, save_best, verify
from octavo.errors import Damaged, UserError
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
        with pytest.raises(Damaged, match=r"last\.ckpt: damaged: not a PyTorch checkpoint") as caught:
            read(Path("last.ckpt"))
        assert isinstance(caught.value.__cause__, pickle.UnpicklingError)
    assert not Path("evil").exists()


CHECKPOINT = {"octavo_position": [3, 14], "octavo_best": True, "state_dict": {"w": torch.arange(999.0)}}


def begun(folder: Path) -> tuple[Path, Path]:
    """Write a checkpoint and best weights of a member; return their places."""
    path, best = folder / "last.ckpt", folder / "best.safetensors"
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    save_best(torch.nn.Linear(9, 9), best)
    return path, best


def damages(content: bytes) -> dict[str, bytes]:
    """Return a file as it might come back from a bad disk."""
    random, found = np.random.default_rng(0), {"half": content[: len(content) // 2], "empty": b"", "[]": b"[]"}
    for place in [0, 5, 100, 500, *random.integers(len(content), size=20).tolist()]:
        found[f"flipped at {place}"] = content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]
    return found | {"longer": content + b"\0", "zeros": bytes(len(content)), "a line": content[:512]}


def test_a_damaged_checkpoint_says_so_and_offers_a_start(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "members" / "it's" / "fold_2"
    path, best = begun(folder)
    verify(path, best)
    whole = path.read_bytes()
    for name, content in damages(whole).items():
        path.write_bytes(content)
        for read in (AtomicCheckpointIO().load_checkpoint, lambda path: verify(path, best)):
            with pytest.raises(Damaged) as caught:
                read(path)
            told = str(caught.value)
            assert told.startswith(f"{path}: damaged") and "\n" not in told, name
            assert told.endswith(
                f"; delete it (rm {shlex.quote(str(path))}) and --resume trains it's fold 2 from its start"
            )
    path.write_bytes(whole)
    assert position(path) == (3, 14)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["state_dict"]["w"], torch.arange(999.0))


def test_damaged_best_weights_are_found_with_the_checkpoint(tmp_path: Path) -> None:
    path, best = begun(tmp_path / "squeeze")
    whole = best.read_bytes()
    expected = read_best(best)
    for name, content in damages(whole).items():
        best.write_bytes(content)
        for read in (read_best, lambda best: verify(path, best)):
            try:
                found = read(best) or expected
            except Damaged as error:
                told = str(error)
                assert told.startswith(f"{best}: ") and "\n" not in told
                assert told.endswith(f"(rm {best} {path}) and --resume trains squeeze from its start")
            else:  # of no consequence: the name of the metadata
                assert found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in found), name
    best.unlink()
    with pytest.raises(Damaged, match=r"best\.safetensors: missing; expected the best weights so far"):
        verify(path, best)


def test_a_checkpoint_of_before_is_taken_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, best = tmp_path / "last.ckpt", tmp_path / "best.safetensors"
    torch.save(CHECKPOINT, path)
    save_net(torch.nn.Linear(9, 9), best)
    verify(path, best)
    (line,) = caplog.messages
    assert (
        line
        == f"warning: {path}: was written by an earlier version of Octavo, without a checksum; it is taken as it is"
    )
    assert position(path) == (3, 14)
    assert AtomicCheckpointIO().load_checkpoint(path)["octavo_best"] and read_best(best).keys() == {"weight", "bias"}


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
