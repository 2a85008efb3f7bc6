"""A run → one page of its numbers and pictures: `report.html`, which opens anywhere and loads nothing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from octavo.engine.folder import RunFolder
from octavo.errors import Damaged, UserError, lookup
from octavo.files import write_atomic
from octavo.looks.look import Look, Way
from octavo.looks.subject import Subject
from octavo.overwrite import require_writable, run_of
from octavo.page.beware import plain_reason
from octavo.page.page import PAGE, Section, render
from octavo.page.summary import page_of
from octavo.progress import Interrupted, Progress, Say, silent, unsaid
from octavo.tasks.known import subject_of, task_of
from octavo.verbs.explain import again, explain, take_all, taken, told
from octavo.words import counted

PATIENCE = 60
"""Seconds that a report lets networks run for one look; what takes longer is left to `octavo explain`."""


def report(
    run: RunFolder,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    refresh: bool = False,
    device: str = "auto",
    progress: Progress = silent,
    say: Say = unsaid,
) -> Path:
    """Bind what is known of a run into its `report.html`, and return where that is.

    Looks that were never taken, or of another ensemble than now, are taken now, but for the thorough ones and those for
    which networks would run for more than a minute: `octavo explain` adds them. One that can't be taken, because the
    data are gone, say, is left out and named.

    Args:
        run: a finished run.
        out: another place for the page; of a run that can only be read, it then holds what was kept there before.
        overwrite: whether something else at `out` is replaced.
        refresh: take all the looks anew that are not thorough.
        device: where networks run, if a look needs them: `auto`, `cpu`, `cuda` or `mps`.
        progress: told after every look.
        say: told what the report lacks.

    Raises:
        UserError: the run isn't finished or can't be written, or the disk is full; something else is at `out`.
    """
    place = page_place(out, overwrite=overwrite) if out else None
    if place is None or refresh:
        run.require_writable()
    subject = subject_of(run, device, progress=progress, say=say)
    task = task_of(run.recipe)
    ways = task.sections()
    kept = _kept(run, ways, say)
    due = {name: way for name, way in ways.items() if not way.thorough and (refresh or name not in kept)}
    unkept = [] if run.writable else [name for name in due if name not in kept]
    due = due if run.writable else {}
    slow = {name: seconds for name, way in due.items() if (seconds := _patience(subject, way)) > PATIENCE}
    taken_now = {name: way for name, way in due.items() if name not in slow}
    failed = take_all(subject, taken_now).failed
    for name, why in failed.items():
        say(f"note: the report goes without {name}: {why}")
    notes = [f"Left out: {name}. {plain_reason(why, subject)}." for name, why in failed.items()]
    notes += (
        [f"Left out: {', '.join(unkept)}. The run can't be written, and sections are kept in it."] if unkept else []
    )
    kept = {name: section for name, section in kept.items() if name not in taken_now} | _kept(run, taken_now)
    notes += _lacking(run, [name for name, way in ways.items() if way.thorough and name not in kept], slow, kept)
    # What was kept of a look that fails now may not fit the run any more.
    sections = [kept[name] for name in ways if name in kept and name not in failed]
    page = page_of(subject, task.summary(subject), sections, notes)
    progress("report", 1, 1)
    html = render(page)
    if place is None:
        return run.write_page(html)
    write_atomic(place, html.encode("utf-8", "replace"))
    return place


def page_place(out: Path, *, overwrite: bool) -> Path:
    """Return where a page goes that a user named; never into a run, where it would be taken for that run's.

    Raises:
        UserError: another ending than `.html`, a place in a run, or something else there without `overwrite`.
    """
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"--out {out}: expected the name of a page that ends in .html")
    if run_of(out.resolve()):
        raise UserError(f"--out {out}: lies in a run's folder; choose another place")
    return require_writable(out, PAGE, overwrite=overwrite)


def bind(run: RunFolder, device: str, progress: Progress, say: Say) -> None:
    """Write the report that ends a training; what goes wrong with it is said, and the run is finished all the same."""
    try:
        report(run, refresh=True, device=device, progress=progress, say=say)
    except Interrupted:
        raise
    except Exception as error:  # whatever it is, the training is done and stays done
        say(f"note: no report: {told(error)}; `octavo report {shlex.quote(str(run.path))}` tries again")


def first_picture(run: RunFolder, name: str, others: Sequence[str] = (), device: str = "auto") -> Path:
    """Return the first picture of the look `name`, taken now if it wasn't.

    Raises:
        UserError: there is no such look (`others` are what may have been meant too), or it found nothing to draw.
    """
    subject_of(run)  # raises where the run isn't finished
    ways = task_of(run.recipe).sections()
    lookup(dict.fromkeys((*ways, *others)), name, f"{run.path}: figure")
    way = ways[name]
    if (path := _first(run, name, way)) is None or not path.is_file():
        explain(run, [name], device=device)
        path = _first(run, name, way)
    if path is None:
        raise UserError(f"{run.path}: the look {name} has no picture")
    return path


def _first(run: RunFolder, name: str, way: Way) -> Path | None:
    """Return where the first picture of a look should be; None where it wasn't taken, or has none."""
    kept = _kept(run, {name: way})
    shown = kept[name].look.shown if name in kept else ()
    return run.plot(shown[0].file) if shown else None


def section_of(run: RunFolder, look: Look) -> Section:
    """Return a look that was taken at a run, with those of its files that are still there."""
    pictures = {shown.file: _read(run, look, run.plot(shown.file)) for shown in look.shown}
    thumbs = _read(run, look, run.explained(look.points.thumbs)) if look.points else None
    return Section(look, {file: content for file, content in pictures.items() if content is not None}, thumbs)


def _read(run: RunFolder, look: Look, path: Path) -> bytes | None:
    """Return a file of a look; None where it is gone from a run of before files were hashed."""
    if not path.is_file() and not run.on_disk.hashed:
        return None
    return run.on_disk.read(path, look.files.get(run.on_disk.name(path)), again(run, look.name))


def _kept(run: RunFolder, ways: Mapping[str, Way], say: Say = unsaid) -> dict[str, Section]:
    """Return the looks that were taken of the run as it is now, in a form that this version can read.

    `say` is told which of them have files that aren't what was written.

    Raises:
        UserError: one names a file out of the run.
    """
    kept = {}
    for name, way in ways.items():
        try:
            look = taken(run, name)
        except (OSError, UserError) as error:
            if isinstance(error, Damaged):
                say(f"note: {error}")
            continue
        try:
            if not way.of or look.state == run.state(way.of):
                kept[name] = section_of(run, look)
        except Damaged as error:
            say(f"note: {error}")
    return kept


def _patience(subject: Subject, way: Way) -> float:
    """Return how many seconds a look would run networks; 0 where nobody can say, as the look then says why."""
    try:
        return way.seconds(subject)
    except (UserError, OSError):
        return 0.0


def _lacking(
    run: RunFolder, thorough: Sequence[str], slow: Mapping[str, float], kept: Mapping[str, Section]
) -> list[str]:
    """Return a note of the looks that weren't taken of the run as it is, because they are thorough or slow."""
    missing = [*thorough, *(name for name in slow if name not in kept)]
    if not missing:
        return []
    named = [
        f"{name} (about {counted(round(slow[name] / 60), 'minute')} of networks)" if name in slow else name
        for name in missing
    ]
    return [
        f"octavo explain {shlex.quote(run.path.resolve().name)} adds: {', '.join(named)}; octavo report then binds it "
        "again."
    ]
