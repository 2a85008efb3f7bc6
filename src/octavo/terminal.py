"""What the verbs of the command line share: options, tables, progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from octavo.numbers.results import Report
    from octavo.progress import Progress

RecipeArgument = Annotated[str, typer.Argument(help="Name of a recipe, or a TOML file.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.")]
DataOption = Annotated[str | None, typer.Option("--data", help="Folder of images, CSV file, or torchvision:NAME.")]
LayoutOption = Annotated[str | None, typer.Option("--layout", help="Layout of the data, where looking can't decide.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change the recipe: train.epochs=3, members[2].lr=1e-4.")
]
WeightsOption = Annotated[Path | None, typer.Option("--weights-dir", help="Folder of weight files, searched first.")]
CacheOption = Annotated[Path | None, typer.Option("--cache", help="Folder for decoded pixels and features.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Misuse: Any = typer.BadParameter.__mro__[2]
"""Click's ClickException, by way of Typer, newer versions of which carry a Click of their own."""
SkipOption = Annotated[bool, typer.Option("--skip-broken", help="Go on without files that can't be decoded.")]


def line_of(error: Any) -> str:
    """Return an error in one line (several where a recipe has several mistakes)."""
    if isinstance(error, Misuse):
        context = getattr(error, "ctx", None)
        return error.format_message() + (f" (see {context.command_path} --help)" if context else "")
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def show(report: Report, all_classes: bool) -> None:
    """Print the tables of a report, the rule by which they were made, and what to beware of."""
    from octavo.numbers.tables import report_tables

    print_tables(report_tables(report, every_class=all_classes))
    for line in (report.rule, *(f"beware: {warning}" for warning in report.warnings)):
        console().print(line, markup=False, soft_wrap=False)


def print_tables(tables: Iterable[Table]) -> None:
    """Print tables, one below the other."""
    out = console()
    for table in tables:
        out.print(table)


def writable(out: Path | None) -> None:
    """Refuse at once what could not be written at the end; None is nothing to write.

    Raises:
        UserError: `out` is a folder, or lies in no folder that can be written or made.
    """
    if out is None:
        return
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; expected the name of a file")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UserError(f"--out {out}: {above} is a file, not a folder")
    if not os.access(above, os.W_OK):
        raise UserError(f"--out {out}: {above} can't be written; choose another place")


def console() -> Console:
    """Return where tables go: as wide as the terminal, or 120 columns in a file or pipe (COLUMNS sets another)."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 120
    return Console(width=width, highlight=False)


@contextmanager
def progress_shown() -> Iterator[Progress]:
    """Give a `Progress` that draws bars on a terminal, and writes a line now and then elsewhere."""
    from octavo.bars import Bars

    bars = Bars()
    try:
        yield bars
    finally:
        bars.close()
