"""Commands that are stopped from outside: exit code, one line, and nothing half-written."""

from __future__ import annotations

import errno
import html
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from conftest import Octavo
from octavo.data.pixels import refusing
from octavo.engine.folder import RunFolder
from octavo.files import write_atomic
from octavo.progress import Terminated


def test_sigterm_ends_any_command_with_143_and_takes_back_what_was_begun(
    run_cli: Octavo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminated(file: BinaryIO) -> None:
        file.write(b"half")
        os.kill(os.getpid(), signal.SIGTERM)

    for words, work in (
        (("describe", "octet"), "octavo.verbs.describe.describe"),
        (("recipes",), "octavo.recipe.shipped"),
        (("check", tmp_path), "octavo.tasks.classification.check.check"),
        (("weights", "pack", "octet", tmp_path), "octavo.networks.pack.pack"),
    ):
        monkeypatch.setattr(work, lambda *_, **__: write_atomic(tmp_path / "new" / "file", terminated))
        monkeypatch.setattr("octavo.data.torchvision_data.holds_masks", lambda *_: False)
        assert run_cli(*words) == (143, "", "stopped; every file that was written is whole.\n")
        assert not any(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_arrives_in_a_destructor_is_not_lost(
    number: int, code: int, run_cli: Octavo, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dropping:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)
            time.sleep(0.01)  # the handler runs here, where Python drops what it raises

    def work(*_: Any) -> None:
        Dropping()
        time.sleep(1)

    monkeypatch.setattr("octavo.recipe.shipped", work)
    assert run_cli("recipes") == (code, "", "stopped; every file that was written is whole.\n")


def test_code_that_survives_any_error_of_one_image_does_not_survive_sigterm() -> None:
    with pytest.raises(Terminated), refusing(1):
        raise Terminated


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> Path:
    shutil.copytree(trained.path, tmp_path / "run")
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def broken_by(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing reaches the disk, nor may be written where the system says so before."""

    def sync(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", sync)


def test_a_full_disk_is_told_truly_by_every_command_and_leaves_nothing(
    run: Path, digits_folder: Path, tmp_path: Path, run_cli: Octavo, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = next(digits_folder.rglob("*.png"))
    before = contents(run)
    broken_by(errno.ENOSPC, monkeypatch)
    for line in (
        f"predict {run} {image} --out {tmp_path}/new/labels.csv --device cpu",
        f"report {run}",
        f"explain {run} --look confusion",
        f"explain {run} --look confusion --look history",
        f"evaluate {run} --split val --out {tmp_path}/new/numbers.json",
        f"report {run} {run}/../run2 --out {tmp_path}/new/c.html",
    ):
        if "run2" in line:
            shutil.copytree(run, tmp_path / "run2")
        code, _, err = run_cli(*line.split())
        last = err.splitlines()[-1]
        assert code == 2 and last.startswith("error: ") and "resume" not in last, line
        assert last.endswith(
            ": No space left on device; the last good state is kept; free some space, then run the command again"
        )
        assert contents(run) == before and not (tmp_path / "new").exists(), line


def test_a_run_that_can_only_be_read_is_evaluated_and_predicts_all_the_same(
    run: Path, digits_folder: Path, tmp_path: Path, run_cli: Octavo, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, access = contents(run), os.access

    def readable(path: str | Path, mode: int, **how: Any) -> bool:
        return access(path, mode, **how) and not (mode & os.W_OK and Path(path).is_relative_to(run))

    monkeypatch.setattr(os, "access", readable)
    code, shown, err = run_cli("predict", run, next(digits_folder.rglob("*.png")), "--out", tmp_path / "labels.csv")
    assert code == 0 and "1 image" in shown and not err, err
    for line in (f"report {run}", f"explain {run}", f"ensemble cascade {run}", f"ensemble prune {run} --apply"):
        code, shown, err = run_cli(*line.split())
        told = f"error: {run}: can't be written, so nothing can be kept in it; work on a copy of the run\n"
        assert (code, shown, err) == (2, "", told), line
    page = tmp_path / "page.html"
    code, shown, err = run_cli("report", run, "--out", page)
    assert code == 0 and shown.startswith(f"{page} (") and not err
    assert "The run can't be written, and sections are kept in it" in html.unescape(page.read_text())
    assert contents(run) == before
    broken_by(errno.EROFS, monkeypatch)
    code, shown, err = run_cli("evaluate", run)
    assert code == 0 and "40 images of val" in shown and err.count("warning:") == 1
    assert "the numbers are not kept in the run: " in err and "can't be written (read-only file system)" in err
    assert contents(run) == before
