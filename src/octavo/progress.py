"""How long work tells how far it is, and how it is asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Say = Callable[[str], None]
"""Told what a user should know, a line at a time."""


class Progress(Protocol):
    """Called again and again by anything that takes over two seconds."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Say that `done` of `total` steps of `what` are over; `note` holds figures of the moment.

        Raises:
            Interrupted: the user has asked to stop.
        """
        ...


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """A `Progress` that says nothing."""


def unsaid(line: str) -> None:
    """A `Say` that says nothing."""


class Interrupted(Exception):
    """The user asked to stop; what was reached is saved. `signal` is the number of the signal (2 or 15)."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


class Terminated(BaseException):
    """SIGTERM came where nothing listens for it: raised so that what was begun is taken back before the end.

    No `Exception`, since code that turns whatever goes wrong with one image into a reason must not swallow it.
    """
