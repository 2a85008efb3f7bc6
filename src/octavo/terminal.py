"""What the verbs of the command line share: options, tables, progress."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.errors import UserError
from octavo.progress import Terminated
from octavo.words import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from octavo.cache import CacheEntry
    from octavo.looks.look import Look
    from octavo.numbers.mask_results import MaskScore, SegmentReport
    from octavo.numbers.results import Report, Score
    from octavo.numbers.speed_results import DistilReport
    from octavo.progress import Progress
    from octavo.tasks.base import Task

RecipeArgument = Annotated[str, typer.Argument(help="Name of a recipe, or a TOML file.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.")]
DataOption = Annotated[str | None, typer.Option("--data", help="Folder of images, CSV file, or torchvision:NAME.")]
LayoutOption = Annotated[str | None, typer.Option("--layout", help="Layout of the data, where looking can't decide.")]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", help="Columns of the data's table: image=COLUMN,label=COLUMN (or mask=…).")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change the recipe: train.epochs=3, members[2].lr=1e-4.")
]
WeightsOption = Annotated[Path | None, typer.Option("--weights-dir", help="Folder of weight files, searched first.")]
CacheOption = Annotated[Path | None, typer.Option("--cache", help="Folder for decoded pixels and features.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Misuse: Any = typer.BadParameter.__mro__[2]
"""Click's ClickException, by way of Typer, newer versions of which carry a Click of their own."""
LabelsOption = Annotated[Path | None, typer.Option("--labels", help="CSV file of corrected labels: file,corrected.")]
LeaksOption = Annotated[
    bool | None,
    typer.Option("--leaks/--no-leaks", help="Look for images that two parts share; by default unless it takes long."),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is there, though Octavo didn't write it.")
]
SkipOption = Annotated[bool, typer.Option("--skip-broken", help="Go on without files that can't be decoded.")]


def line_of(error: Any) -> str:
    """Return an error in one line (several where a recipe has several mistakes)."""
    if isinstance(error, Misuse):
        context = getattr(error, "ctx", None)
        return error.format_message() + (f" (see {context.command_path} --help)" if context else "")
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def show(report: Report | SegmentReport, all_classes: bool) -> None:
    """Print the tables of a report, the rule by which they were made, and what to beware of."""
    from octavo.registry import task_named

    print_tables(task_named(report.task).tables(report, all_classes))
    show_rule(f"{report.rule} {report.power}".strip(), report.warnings)


def show_score(task: Task, score: Score | MaskScore) -> None:
    """Print the tables of a score, the rule by which they were made, and what to beware of."""
    print_tables(task.score_tables(score))
    show_rule(score.rule, score.warnings)


def show_student(report: DistilReport) -> None:
    """Print how a student does beside its teacher, and the rule."""
    from octavo.numbers.tables import distil_table

    print_tables([distil_table(report)])
    show_rule(report.rule)


def show_rule(rule: str, warnings: Iterable[str] = ()) -> None:
    """Print the rule by which numbers were made, and what to beware of; empty warnings are none."""
    warnings = filter(None, warnings)
    for line in (rule, *(f"beware: {warning}" for warning in warnings)):
        console().print(line, markup=False, soft_wrap=False)


def print_tables(tables: Iterable[Table]) -> None:
    """Print tables, one below the other."""
    out = console()
    for table in tables:
        out.print(table)


def show_caches(root: Path) -> None:
    """Print what lies in the cache folder `root`, from which data and how large, and how to clear it."""
    from rich.table import Column, Table
    from rich.text import Text

    from octavo.cache import KINDS, caches

    entries, out = caches(root), console()
    if not entries:
        out.print(f"{root}: empty", markup=False, soft_wrap=True)
        return
    right = {"justify": "right", "no_wrap": True}
    made_from = Column("made from", overflow="fold")
    table = Table(
        "kind", Column("MiB", **right), Column("images", **right), Column("used", no_wrap=True), made_from, box=None
    )
    for entry in entries:
        used = datetime.fromtimestamp(entry.used).date().isoformat()
        images = "" if entry.images is None else f"{entry.images:,}"
        table.add_row(entry.kind, _mebibytes(entry.bytes), images, used, Text(_made_from(entry)))
    out.print(table)
    total = _mebibytes(sum(entry.bytes for entry in entries))
    lines = (
        f"{root}: {counted(len(entries), 'entry', 'entries')}, {total} MiB",
        f"--clear {', '.join(KINDS)} or all removes them; all is remade.",
    )
    out.print("\n".join(lines), markup=False, soft_wrap=True)


def _made_from(entry: CacheEntry) -> str:
    """Return in words what an entry of the cache was made from."""
    home = str(Path.home())
    source = "~" + entry.source.removeprefix(home) if entry.source.startswith(home + os.sep) else entry.source
    words = " — ".join(filter(None, (source, entry.what)))
    return (
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words) or f"unknown ({entry.path.name})"
    )


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f}"


def sized(path: Path) -> str:
    """Return a file and its size in words."""
    return f"{path} ({_mebibytes(path.stat().st_size)} MiB)"


def show_look(look: Look) -> None:
    """Print the tables of a look at a run, and what it sees."""
    from rich.markup import escape

    from octavo.numbers.tables import plain, titled
    from octavo.page.cells import columns_of

    for table in look.tables:
        columns = columns_of(table)
        shown = titled(table.title, [escape(column.title) for column in columns])
        for row in zip(*(column.cells for column in columns), strict=True):
            shown.add_row(*(plain(text) for text, _ in row))
        print_tables([shown])
    show_rule(look.sees)


def refuse(options: Mapping[str, object], what: str) -> None:
    """Refuse options that mean nothing for what is at hand.

    Raises:
        UserError: the first that was given.
    """
    for name, value in options.items():
        if value:
            raise UserError(f"{name}: means nothing for {what}; leave it away")


def given_options(context: typer.Context, command: str) -> dict[str, Any]:
    """Return those options of a command that not every task has and that were given, as Python names them."""
    from octavo.tasks.known import flags_of

    given = {name for name in flags_of(command) if name in context.params}
    return {name: context.params[name] for name in given if _source(context, name) != "DEFAULT"}


def _source(context: typer.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return source.name if source else "DEFAULT"


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


@contextmanager
def terminating() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, once: a second one ends the process at once.

    Python drops an exception that is raised in a destructor or a weakref callback, so a signal that arrives there is
    sent once more.
    """

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    def resend(dropped: sys.UnraisableHookArgs) -> None:
        number = {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}.get(dropped.exc_type)
        if number is None:
            return report_dropped(dropped)
        if number == signal.SIGTERM:
            signal.signal(signal.SIGTERM, end)
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    before, report_dropped = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    sys.unraisablehook = resend
    if before is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        sys.unraisablehook = report_dropped
        if before is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
