"""Progress on standard error: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

PATIENCE = 1.0
"""Seconds that work may take without being shown."""
EVERY = 15.0
"""Seconds between two lines in a log."""
NAMED = 1 / 3
"""Share of the terminal's width that the name of the work may take."""

_FIGURE = re.compile(r"(?:[^\W\d]\S* )+?(?:[+-]?\d\S*|nan|inf)|\d\S* [^\W\d]\S*|\S+")  # loss 2.345, 12 images/s


class Bars:
    """A `Progress` that shows the running work as a bar; what is done stays above it as a line."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        console = Console(stderr=True, highlight=False)
        # The sizes of all columns but the last are fixed, so the figures get what the terminal has left.
        self._bars = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True), style="progress.download"),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True), style="progress.remaining"),
            _NoteColumn(table_column=Column(no_wrap=True, ratio=1)),
            console=console,
            expand=True,
            transient=True,
        )
        self._shown: tuple[str, TaskID] | None = None
        self._began: dict[str, _Pace] = {}
        self._told = time.monotonic()

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` steps of `what` are over."""
        now = time.monotonic()
        pace = self._began.setdefault(what, _Pace(now, done))
        left = pace.left(now, done, total)
        if self._live:
            self._draw(what, done, total, left, note, now - pace.since)
        elif now - self._told > EVERY or (done == total and now - pace.since > EVERY):
            self._told = now
            sys.stderr.write(", ".join(filter(None, [f"{what}: {done:,}/{total:,}", left and f"{left} left", note])))
            sys.stderr.write("\n")
            sys.stderr.flush()
        if done >= total:
            self._began.pop(what)

    def __reduce__(self) -> tuple[type[Bars], tuple[()]]:
        """Travel to another process as bars of its own."""
        return Bars, ()

    def _draw(self, what: str, done: int, total: int, left: str, note: str, took: float) -> None:
        if self._shown is None or self._shown[0] != what:
            if took < PATIENCE:
                return
            self._hide()
            self._bars.start()
            name = escape(_cropped(what, int(self._bars.console.width * NAMED)))
            self._shown = what, self._bars.add_task(name, total=total, note="", count="", left="")
        of = f"{total:,}"
        self._bars.update(self._shown[1], completed=done, total=total, note=note, count=f"{done:{len(of)},}/{of}",
                          left=left or "-:--")  # fmt: skip
        if done >= total:
            self._hide()
            line = f"{what}: {total:,} in {_clock(took)}"
            note = fitted(note, self._bars.console.width - len(line) - 2)
            self._bars.console.print(f"{line}, {note}" if note else line, markup=False)

    def _hide(self) -> None:
        if self._shown:
            self._bars.remove_task(self._shown[1])
            self._shown = None

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._hide()
        if self._bars.live.is_started:  # otherwise it would leave an empty line
            self._bars.stop()


@dataclass(frozen=True)
class _Pace:
    """When this process first told of some work, and how much of it was done by then (by a process before it, say)."""

    since: float
    first: int

    def left(self, now: float, done: int, total: int) -> str:
        """Return how long the rest takes at the pace of this process, or nothing where it can't be told yet."""
        own, took = done - self.first, now - self.since
        return _clock(took / own * (total - done)) if own > 0 and took > 0 and done < total else ""


class _NoteColumn(ProgressColumn):
    """The figures of the moment: as many as there is room for."""

    def render(self, task: Task) -> _Note:
        """Return the note of a task, to be fitted when its column's width is known."""
        return _Note(task.fields["note"])


@dataclass(frozen=True)
class _Note:
    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(fitted(self.text, options.max_width), no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(0, min(len(self.text), options.max_width))


def fitted(note: str, width: int) -> str:
    """Return what of a note fits into `width` characters, its figures whole.

    Speeds (`12 images/s`) go first, then the others from the right; the loss goes last.
    """
    figures = _FIGURE.findall(note)
    while figures and len(" ".join(figures)) > width:
        figures.remove(min(reversed(figures), key=_worth))
    return " ".join(figures)


def _worth(figure: str) -> int:
    return 0 if figure.endswith("/s") else 2 if figure.startswith("loss ") else 1


def _cropped(name: str, width: int) -> str:
    """Return a name that is too long without its middle: `resnext101_…: train`."""
    if len(name) <= width:
        return name
    head, colon, tail = name.rpartition(": ")
    tail = colon + tail
    kept = width - len(tail) - 1
    return f"{head[:kept]}…{tail}" if colon and kept > 3 else f"{name[: max(width - 1, 1)]}…"


def _clock(seconds: float) -> str:
    """Return a duration as `42 s`, `3:07` or `2:03:07`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
