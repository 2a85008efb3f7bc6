"""Warnings of the library: one line each to the logger "octavo", which the command line prints on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_logger = logging.getLogger("octavo")


def warn(text: str) -> None:
    """Tell the user, in one line that starts with `warning:`, of something that doesn't stop the work.

    Without any handler Python prints it on standard error, so programs that use the library see it too.
    """
    _logger.warning("warning: %s", " ".join(text.split("\n")))


class _Stderr(logging.Handler):
    """Writes each line once on what is standard error at the time: progress bars and tests replace it."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if line not in self.shown:
            self.shown.add(line)
            sys.stderr.write(f"{line}\n")


@contextmanager
def to_stderr() -> Iterator[None]:
    """Print warnings on standard error, each once, whatever other packages do to Python's logging."""
    handler = _Stderr()
    _logger.addHandler(handler)
    try:
        yield
    finally:
        _logger.removeHandler(handler)
