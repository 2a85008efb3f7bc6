"""A file is whole or as it was: against kill -9, a full disk and errors in the middle."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import NotWritten, UserError
from octavo.files import STALE, draft_beside, sweep, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_bytes_and_writers(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.bin"
    write_atomic(path, b"one")
    assert path.read_bytes() == b"one"
    write_atomic(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["a.bin"]


def test_an_error_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")

    def broken(file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, broken)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("place", ["write", "fsync", "replace"])
def test_a_full_disk_is_the_users_to_mend(
    place: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")

    def full(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    if place == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    if place == "replace":
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(
        UserError, match=r"a\.bin: .*(space|quota).*the last good state is kept; free some space, then run"
    ):
        write_atomic(path, full if place == "write" else b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_what_the_system_refuses_is_told_in_one_line(number: int, tmp_path: Path) -> None:
    def denied(file: Any) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(NotWritten, match=rf"a\.bin: can't be written \({os.strerror(number).lower()}\)$"):
        write_atomic(tmp_path / "new" / "a.bin", denied)
    assert names(tmp_path) == []  # nor the folder that was made for it


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    def broken(file: Any) -> None:
        raise OSError(errno.EIO, "no")

    with pytest.raises(OSError, match="no"):
        write_atomic(tmp_path / "a.bin", broken)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "字" * 85, ".png" * 63])
def test_every_name_that_the_file_system_takes_can_be_written(name: str, tmp_path: Path) -> None:
    write_atomic(tmp_path / name, b"x")
    assert names(tmp_path) == [name]
    with pytest.raises(NotWritten, match="file name too long"):
        write_atomic(tmp_path / f"{name}{name}", b"x")
    assert names(tmp_path) == [name]


def test_content_is_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (done.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), sync(fd))
    )
    monkeypatch.setattr(Path, "replace", lambda a, b: (done.append("rename"), rename(a, b)))
    write_atomic(tmp_path / "a.bin", b"x")
    assert done == ["file", "rename", "folder"]


VICTIM = """
import sys, time
from pathlib import Path
from octavo.files import write_atomic

def slow(file):
    file.write(b"half of the new")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)

write_atomic(Path(sys.argv[1]), slow)
"""


def test_kill_9_before_the_rename_leaves_the_old_file_and_a_draft_that_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "member" / "a.bin"
    write_atomic(path, b"old")
    process = subprocess.Popen([sys.executable, "-c", VICTIM, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert path.read_bytes() == b"old"
    assert [n.endswith(STALE) for n in names(path.parent)] == [True, False]
    shutil.copytree(path.parent, tmp_path / "other")
    sweep(path.parent)
    assert names(path.parent) == ["a.bin"]
    write_atomic(tmp_path / "other" / "b.bin", b"whoever writes there next sweeps too")
    assert names(tmp_path / "other") == ["a.bin", "b.bin"]


def test_drafts_of_living_processes_and_other_computers_stay(tmp_path: Path) -> None:
    own, neighbour = draft_beside(tmp_path / "a"), draft_beside(tmp_path / "a").name.split("-")
    neighbour[1:3] = ["00000000", "1"]
    restarted = own.name.replace(own.name.split("-")[3], "01234567")  # our number, given to another process before
    foreign = "-".join(neighbour)
    alive = own.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-")
    for name in (own.name, foreign, restarted, alive, ".mine.tmp", ".octavo-notes.tmp"):
        (tmp_path / name).write_text("x")
    write_atomic(tmp_path / "b", b"x")
    assert set(names(tmp_path)) == {own.name, foreign, alive, ".mine.tmp", ".octavo-notes.tmp", "b"}
    os.utime(tmp_path / foreign, (0, 0))
    sweep(tmp_path)
    assert not (tmp_path / foreign).exists() and own.exists()


def test_kill_9_at_random_moments_never_shows_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    code = (
        "import sys\nfrom pathlib import Path\nfrom octavo.files import write_atomic\n"
        "for i in range(10**6):\n write_atomic(Path(sys.argv[1]), bytes([i % 256]) * 2_000_000)"
    )
    for wait in (0.0, 0.013, 0.03, 0.07):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        while not path.is_file():
            time.sleep(0.005)
        time.sleep(wait)
        process.kill()
        process.wait()
        content = path.read_bytes()
        assert len(content) == 2_000_000
        assert len(set(content)) == 1
        path.unlink()


def test_disk_that_fills_under_torch_save_is_a_users_error(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"good")
    code = (
        "import resource, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from octavo.errors import UserError\n"
        "from octavo.files import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    write_atomic(Path(sys.argv[1]), lambda file: torch.save(torch.zeros(10**6), file))\n"
        "except UserError as error:\n"
        "    sys.exit(0 if 'the last good state is kept' in str(error) else 3)\n"
        "sys.exit(4)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == b"good" and [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
