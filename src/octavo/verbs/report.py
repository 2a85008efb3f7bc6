"""A run → one page of its numbers and pictures: `report.html`, which opens anywhere and loads nothing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from octavo.engine.folder import RunFolder
from octavo.errors import UserError, lookup
from octavo.looks.look import Look
from octavo.looks.looks import Way, looks_at
from octavo.looks.subject import Subject, subject_of
from octavo.page.beware import beware, plain_reason
from octavo.page.page import Section, render
from octavo.page.summary import page_of
from octavo.progress import Interrupted, Progress, Say, silent, unsaid
from octavo.verbs.explain import explain, take_all, told
from octavo.words import counted

PATIENCE = 60
"""Seconds that a report lets networks run for one look; what takes longer is left to `octavo explain`."""


def report(
    run: RunFolder,
    *,
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
        refresh: take all the looks anew that are not thorough.
        device: where networks run, if a look needs them: `auto`, `cpu`, `cuda` or `mps`.
        progress: told after every look.
        say: told what the report lacks.

    Raises:
        UserError: the run isn't finished, or the disk is full.
    """
    subject = subject_of(run, device, progress=progress, say=say)
    ways = looks_at(subject)
    due = {name: way for name, way in ways.items() if not way.thorough and (refresh or not _taken(run, name, way))}
    slow = {name: seconds for name, way in due.items() if (seconds := _patience(subject, way)) > PATIENCE}
    failed = take_all(subject, {name: way for name, way in due.items() if name not in slow}).failed
    for name, why in failed.items():
        say(f"note: the report goes without {name}: {why}")
    notes = [f"Left out: {name}. {plain_reason(why, subject)}." for name, why in failed.items()]
    notes += _lacking(run, ways, slow)
    # What was kept of a look that fails now may not fit the run any more.
    sections = [section_of(run, name) for name, way in ways.items() if _taken(run, name, way) and name not in failed]
    page = page_of(subject, beware(subject), sections, notes)
    progress("report", 1, 1)
    return run.write_page(render(page))


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
    ways = looks_at(subject_of(run))
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
    shown = section_of(run, name).look.shown if _taken(run, name, way) else ()
    return run.plot(shown[0].file) if shown else None


def section_of(run: RunFolder, name: str) -> Section:
    """Return a look that was taken at a run, with those of its files that are still there."""
    path = run.explained(f"{name}.json")
    look = Look.from_json(path.read_text(encoding="utf-8"), str(path))
    pictures = {shown.file: run.plot(shown.file) for shown in look.shown}
    thumbs = run.explained(look.points.thumbs) if look.points else None
    return Section(
        look,
        {file: place.read_bytes() for file, place in pictures.items() if place.is_file()},
        thumbs.read_bytes() if thumbs and thumbs.is_file() else None,
    )


def _taken(run: RunFolder, name: str, way: Way) -> bool:
    """Return whether a look was taken of the run as it is now, in a form that this version can read."""
    try:
        look = Look.from_json(run.explained(f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, UserError):
        return False
    return not way.of or look.state == run.state(way.of)


def _patience(subject: Subject, way: Way) -> float:
    """Return how many seconds a look would run networks; 0 where nobody can say, as the look then says why."""
    try:
        return way.seconds(subject)
    except (UserError, OSError):
        return 0.0


def _lacking(run: RunFolder, ways: Mapping[str, Way], slow: Mapping[str, float]) -> list[str]:
    """Return a note of the looks that weren't taken of the run as it is, because they are thorough or slow."""
    missing = [name for name, way in ways.items() if (way.thorough or name in slow) and not _taken(run, name, way)]
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
