"""Mistakes a user can mend, told in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """Something the user can mend: what was wrong, where, and what to do. The command line exits with code 2."""


class DataRefused(UserError):
    """Data that are there but can't be trained on: a finding of `octavo check`, which exits with code 1."""


class Damaged(UserError):
    """A file that isn't what was written: which, what it should be, and what to do."""


class NotWritten(UserError):
    """A file can't be written: no permission, a read-only file system, a name that is too long, a full disk."""


class DiskFull(NotWritten):
    """The disk, or the user's quota, is full. `fact` says where, `todo` what to do once there is space.

    What can be resumed replaces `todo`.
    """

    _ADVICE = "; free some space, then "

    def __init__(self, fact: str, todo: str = "run the command again") -> None:
        super().__init__(f"{fact}{self._ADVICE}{todo}")
        self.fact = fact

    @classmethod
    def read(cls, message: str) -> DiskFull:
        """Return the error of a message, which another process printed."""
        return cls(*message.split(cls._ADVICE, 1))


@contextmanager
def finding(data: str | Path) -> Iterator[None]:
    """Make a mistake in data that are there a finding of `octavo check`, in the same words.

    Raises:
        DataRefused: in place of a `UserError`, where the file or folder exists.
    """
    try:
        yield
    except (Damaged, NotWritten):
        raise
    except UserError as error:
        if Path(data).exists():
            raise DataRefused(str(error)) from error
        raise


def shortened(text: str, length: int = 160) -> str:
    """Return a text that is told in an error, cut to a length."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def listed(mistakes: Sequence[str], most: int = 25) -> str:
    """Return mistakes a line each, the first of them where they are many."""
    more = [f"… and {len(mistakes) - most:,} more mistakes"] if len(mistakes) > most else []
    return "\n".join([*mistakes[:most], *more])


def suggest(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the nearest of `names`, or a list of them when none is near."""
    known = sorted(names)
    near = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.6)
    if near:
        return f'; did you mean "{near[0]}"?'
    shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    return f"; expected one of: {shown}" if known else ""


def lookup(table: Mapping[str, T], name: str, where: str) -> T:
    """Return `table[name]`.

    Raises:
        UserError: `where: unknown "name"`, with the nearest known name.
    """
    if name not in table:
        raise UserError(f'{where}: unknown "{name}"{suggest(name, table)}')
    return table[name]
