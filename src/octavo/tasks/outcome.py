"""What tasks give commands: their own options, what a check found, what a prediction wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class OwnOptions:
    """Options of a command that this task has, and others may lack.

    Attributes:
        of: what the command is then given, such as `a segmenter's run`.
        flags: option as Python names it → as the command line does.
    """

    of: str
    flags: Mapping[str, str]

    @classmethod
    def named(cls, of: str, *names: str, **flags: str) -> OwnOptions:
        """Return options by their names in Python; `flags` are those that the command line calls otherwise."""
        return cls(of, {name: f"--{name.replace('_', '-')}" for name in names} | flags)


@dataclass(frozen=True)
class Written:
    """What `octavo predict` wrote.

    Attributes:
        count: images with a prediction.
        errors: files without one.
        errors_file: where the reasons are.
        verb: what could not be done with those.
        lines: what else there is to say of the predictions.
        notes: what a user must know of how they were made.
    """

    count: int
    errors: int
    errors_file: Path
    verb: str = "read"
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Checked(Protocol):
    """What `octavo check` found."""

    @property
    def ok(self) -> bool:
        """Whether training would start."""
        ...

    def show(self, console: Console) -> None:
        """Show it on the terminal."""
        ...
