"""Finished runs → one page that holds them side by side, with paired statistics, and its numbers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.files import write_atomic
from octavo.looks.comparison import looks_of
from octavo.looks.names import last_parts
from octavo.numbers.compare_results import Comparison
from octavo.overwrite import parsed_by, require_writable
from octavo.page.comparison import page_of
from octavo.page.page import render
from octavo.progress import Progress, Say, silent, unsaid
from octavo.tasks.known import task_of
from octavo.verbs.report import page_place

_LEVEL = 0.95
_WRONG, _BAD = 15, 10  # hardest images that are named, of classifiers and of segmenters


def compare(
    runs: Sequence[RunFolder],
    out: Path = Path("comparison.html"),
    *,
    overwrite: bool = False,
    progress: Progress = silent,
    say: Say = unsaid,
) -> Path:
    """Write a page that compares finished runs, its numbers beside it as JSON, and return the page's path.

    Args:
        runs: two or more of one task.
        out: the page; a comparison that is there is replaced.
        overwrite: whether something else that is there is replaced too.
        progress: told after every run.
        say: told what a reader must know.

    Raises:
        UserError: fewer than two runs, one given twice, runs of different tasks or without common images, a run that
            isn't finished, or something else in the way of the files.
    """
    page, data = _files(out, overwrite)
    comparison = compared(runs, progress=progress)
    for warning in comparison.warnings:
        say(warning)
    write_atomic(data, comparison.to_json().encode())
    write_atomic(page, render(page_of(comparison, looks_of(comparison, data.name), data.name)).encode())
    return out


def compared(runs: Sequence[RunFolder], *, progress: Progress = silent) -> Comparison:
    """Return every number of a comparison of finished runs; raises as `compare`."""
    if len(runs) < 2:
        raise UserError("report: a comparison needs two runs or more")
    names = distinct([run.path for run in runs])
    recipes = [run.recipe for run in runs]
    for name, recipe in zip(names[1:], recipes[1:], strict=True):
        if recipe.task != recipes[0].task:
            raise UserError(
                f'report: {names[0]} is of task "{recipes[0].task}", {name} of "{recipe.task}"; runs of one task alone '
                "can be compared"
            )
    for run in runs:
        run.metrics  # noqa: B018 (raises where the run isn't finished)
    return task_of(recipes[0]).compare(runs, names, progress)


def distinct(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the last parts of paths, as many as it takes to tell them apart.

    Raises:
        UserError: two of them are one folder.
    """
    whole = [path.resolve() for path in paths]
    for place, path in enumerate(whole):
        if path in whole[:place]:
            raise UserError(f"report: {paths[place]} is given twice; compare different runs")
    return tuple(last_parts([str(path) for path in whole]))


def _files(out: Path, overwrite: bool) -> tuple[Path, Path]:
    """Return where the page `out` and its numbers go; never onto something else, such as a run's `metrics.json`."""
    page, numbers = page_place(out, overwrite=overwrite), parsed_by("numbers of a comparison", Comparison.from_json)
    return page, require_writable(out.with_suffix(".json"), numbers, overwrite=overwrite)
