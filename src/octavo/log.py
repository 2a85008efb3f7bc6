"""Warnings of the library: one line each to the logger "octavo", which the command line prints on standard error."""

from __future__ import annotations

import logging
import sys

_logger = logging.getLogger("octavo")


def warn(text: str) -> None:
    """Tell the user, in one line that starts with `warning:`, of something that doesn't stop the work.

    Without any handler Python prints it on standard error, so programs that use the library see it too.
    """
    _logger.warning("warning: %s", " ".join(text.split("\n")))


class _Stderr(logging.Handler):
    """Writes lines on what is standard error at the time: progress bars and tests replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")


def to_stderr() -> None:
    """Print warnings on standard error, whatever other packages do to Python's logging."""
    if not any(isinstance(handler, _Stderr) for handler in _logger.handlers):
        _logger.addHandler(_Stderr())
