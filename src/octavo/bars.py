"""Progress on standard error: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

PATIENCE = 1.0
"""Seconds that work may take without being shown."""
EVERY = 15.0
"""Seconds between two lines in a log."""


class Bars:
    """A `Progress` that shows one bar for each kind of work, the finished ones above."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._told = 0.0

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` steps of `what` are over."""
        now = time.monotonic()
        begun = self._began.setdefault(what, now)
        if now - begun < PATIENCE and what not in self._tasks:
            return
        if self._live:
            if what not in self._tasks:
                self._bars.start()
                self._tasks[what] = self._bars.add_task(what, total=total, note=note)
            self._bars.update(self._tasks[what], completed=done, total=total, note=note)
        elif now - self._told > EVERY or (done == total and now - begun > EVERY):
            self._told = now
            left = (now - begun) / done * (total - done) if done else 0
            sys.stderr.write(f"{what}: {done:,}/{total:,}, {left:.0f} s left {note}".rstrip() + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._tasks:
            self._bars.stop()
