"""Progress on standard error: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

PATIENCE = 1.0
"""Seconds that work may take without being shown."""
EVERY = 15.0
"""Seconds between two lines in a log."""


class Bars:
    """A `Progress` that shows the running work as a bar; what is done stays above it as a line."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._bars = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, ratio=1)),
            console=Console(stderr=True, highlight=False),
            expand=True,
            transient=True,
        )
        self._shown: tuple[str, TaskID] | None = None
        self._began: dict[str, float] = {}
        self._told = time.monotonic()

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` steps of `what` are over."""
        now = time.monotonic()
        begun = self._began.setdefault(what, now)
        more = f", {note}" if note else ""
        if self._live:
            self._draw(what, done, total, note, now - begun)
        elif now - self._told > EVERY or (done == total and now - begun > EVERY):
            self._told = now
            left = f", {_clock((now - begun) / done * (total - done))} left" if 0 < done < total and now > begun else ""
            sys.stderr.write(f"{what}: {done:,}/{total:,}{left}{more}\n")
            sys.stderr.flush()
        if done >= total:
            self._began.pop(what)

    def __reduce__(self) -> tuple[type[Bars], tuple[()]]:
        """Travel to another process as bars of its own."""
        return Bars, ()

    def _draw(self, what: str, done: int, total: int, note: str, took: float) -> None:
        if self._shown is None or self._shown[0] != what:
            if took < PATIENCE:
                return
            self._hide()
            self._bars.start()
            self._shown = what, self._bars.add_task(escape(what), total=total, note=note)
        self._bars.update(self._shown[1], completed=done, total=total, note=escape(note))
        if done >= total:
            self._hide()
            self._bars.console.print(f"{what}: {total:,} in {_clock(took)}{f', {note}' if note else ''}", markup=False)

    def _hide(self) -> None:
        if self._shown:
            self._bars.remove_task(self._shown[1])
            self._shown = None

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._hide()
        if self._bars.live.is_started:  # otherwise it would leave an empty line
            self._bars.stop()


def _clock(seconds: float) -> str:
    """Return a duration as `42 s`, `3:07` or `2:03:07`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
