"""Memory budget of decoding: how many pixels are decoded at once, and how many wait decoded for their turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

AT_ONCE = 100_000_000
"""Pixels that the threads of a process decode at once; a larger image is decoded by itself. Pillow needs 7 to 19 bytes
a pixel meanwhile."""
WAITING = 1 << 28
"""Bytes of decoded images that wait for those before them."""


class Budget:
    """An amount that threads share: who wants more than is left waits, and who wants more than all has it alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._changed = threading.Condition()
        self._own = threading.local()

    @contextmanager
    def held(self, amount: int) -> Iterator[None]:
        """Hold `amount`, once it is free; inside of another call of the same thread nothing more is taken."""
        if getattr(self._own, "inside", False):
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + amount <= self.limit)
            self._held += amount
        self._own.inside = True
        try:
            yield
        finally:
            self._own.inside = False
            with self._changed:
                self._held -= amount
                self._changed.notify_all()


DECODING = Budget(AT_ONCE)
"""The pixels that are being decoded in this process, by all of its threads."""


class Queue:
    """Bytes of results that are taken in order, so that those who work ahead don't fill the memory.

    Whoever has the turn that is taken next may always go on: so nobody waits for ever.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held, self._next, self._closed = 0, 0, False
        self._changed = threading.Condition()

    def enter(self, turn: int, amount: int) -> None:
        """Count `amount` bytes for a turn, once there is room for them or it is the next."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or turn <= self._next or self._held + amount <= self.limit)
            self._held += amount

    def leave(self, amount: int) -> None:
        """Count `amount` bytes less."""
        with self._changed:
            self._held -= amount
            self._changed.notify_all()

    def advance(self, turn: int) -> None:
        """Say which turn is taken next."""
        with self._changed:
            self._next = turn
            self._changed.notify_all()

    def close(self) -> None:
        """Let all go on who still wait, as nothing will be taken any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
