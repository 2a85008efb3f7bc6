"""Runs the command line again and again in forks of one interpreter, each with a way to die; told by lines of JSON.

Starting Python with torch takes seconds; a fork of a process that has imported it takes milliseconds. The process that
forks computes nothing itself, so that no thread of torch is lost on the way.
"""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import octavo.engine.engine
import octavo.verbs.training
from octavo import cli
from octavo.engine.checkpoint import Saver
from octavo.engine.member_folder import MemberFolder


def main() -> None:
    """Answer each line {argv, kind, n, log} with the exit code of a life, negative if a signal ended it."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            live(order)
        if order["kind"] == "time":
            time.sleep(order["n"])
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def live(order: dict[str, Any]) -> None:
    """Run the command line to its end or its death; never returns."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["octavo", *order["argv"]]
    DEATHS[order["kind"]](order["n"])
    noted(Path(order["log"]).with_suffix(".members"))
    code = 70
    try:
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def before(place: Any, name: str, n: int, act: Callable[..., object]) -> None:
    """Let the `n`-th call (from 0) of `place.name` be `act`, with the arguments of the call."""
    real, count = getattr(place, name), itertools.count()

    def instead(*args: Any, **kwargs: Any) -> Any:
        if next(count) == n:
            act(*args)
        return real(*args, **kwargs)

    setattr(place, name, instead)


def die(*args: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


SAVE = torch.save


def write_half(content: Any, file: io.BufferedWriter) -> None:
    whole = io.BytesIO()
    SAVE(content, whole)
    file.write(whole.getvalue()[: whole.tell() // 2])
    file.flush()


def half(content: Any, file: io.BufferedWriter) -> None:
    write_half(content, file)
    die()


def full(content: Any, file: io.BufferedWriter) -> None:
    write_half(content, file)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def signalled(number: int) -> Callable[[int], None]:
    return lambda n: before(Saver, "on_train_batch_start", n, lambda *_: os.kill(os.getpid(), number))


def in_validation(number: int) -> Callable[[int], None]:
    from octavo.engine.task import Task

    return lambda n: before(Task, "validation_step", n, lambda *_: os.kill(os.getpid(), number))


DEATHS: dict[str, Callable[[Any], None]] = {
    "none": lambda n: None,
    "time": lambda n: None,
    "step": lambda n: before(Saver, "on_train_batch_start", n, die),
    "half-written": lambda n: before(torch, "save", n, half),
    "before fsync": lambda n: before(os, "fsync", n, die),
    "before rename": lambda n: before(Path, "replace", n, die),
    "disk full": lambda n: before(torch, "save", n, full),
    "SIGTERM": signalled(signal.SIGTERM),
    "SIGINT": signalled(signal.SIGINT),
    "SIGTERM in validation": in_validation(signal.SIGTERM),
}


def noted(path: Path) -> None:
    """Write down which members start to train and which finish."""

    def note(word: str, folder: Path) -> None:
        with path.open("a") as file:
            file.write(f"{word} {folder.name}\n")

    fit, finish = octavo.engine.engine.fit, MemberFolder.finish

    def fit_noted(job: Any, folder: MemberFolder, *args: Any) -> Any:
        note("start", folder.folder)
        return fit(job, folder, *args)

    def finish_noted(self: MemberFolder, *args: Any) -> None:
        finish(self, *args)
        note("finish", self.folder)

    octavo.engine.engine.fit = fit_noted
    setattr(MemberFolder, "finish", finish_noted)  # noqa: B010


if __name__ == "__main__":
    main()
