"""A run → one page of its numbers and pictures: `report.html`, which opens anywhere and loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from octavo.engine.folder import RunFolder
from octavo.errors import UserError, lookup
from octavo.looks.look import Look
from octavo.looks.looks import Way, looks_at
from octavo.looks.subject import subject_of
from octavo.page.beware import beware, plain_reason
from octavo.page.page import Section, render
from octavo.page.summary import page_of
from octavo.progress import Interrupted, Progress, Say, silent, unsaid
from octavo.verbs.explain import explain


def report(
    run: RunFolder,
    *,
    refresh: bool = False,
    device: str = "auto",
    progress: Progress = silent,
    say: Say = unsaid,
) -> Path:
    """Bind what is known of a run into its `report.html`, and return where that is.

    Looks that were never taken are taken now, but for the thorough ones, which `octavo explain` adds. One that can't be
    taken, because the data are gone, say, is left out and named.

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
    quick = [name for name, way in ways.items() if not way.thorough and (refresh or not _taken(run, name))]
    failed = _taken_now(run, quick, device, progress, say)
    notes = [f"Left out: {name}. {why}." for name, why in failed.items()] + _lacking(run, ways)
    sections = [section_of(run, name) for name in ways if _taken(run, name) and name not in failed]
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
        say(f"note: no report: {_told(error)}; `octavo report {run.path}` tries again")


def first_picture(run: RunFolder, name: str, others: Sequence[str] = (), device: str = "auto") -> Path:
    """Return the first picture of the look `name`, taken now if it wasn't.

    Raises:
        UserError: there is no such look (`others` are what may have been meant too), or it found nothing to draw.
    """
    ways = looks_at(subject_of(run))
    lookup(dict.fromkeys((*ways, *others)), name, f"{run.path}: figure")
    if not _taken(run, name):
        explain(run, [name], device=device)
    shown = section_of(run, name).look.shown if _taken(run, name) else ()
    if not shown:
        raise UserError(f"{run.path}: the look {name} has no picture")
    return run.plot(shown[0].file)


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


def _taken(run: RunFolder, name: str) -> bool:
    """Return whether a look was taken, in a form that this version can read."""
    try:
        Look.from_json(run.explained(f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, UserError):
        return False
    return True


def _taken_now(run: RunFolder, names: list[str], device: str, progress: Progress, say: Say) -> dict[str, str]:
    """Take looks, and return why those failed that did; what was kept of one before may not fit the run any more."""
    failed = {}
    for done, name in enumerate(names, 1):
        try:
            explain(run, [name], thorough=False, device=device, progress=progress, say=say)
        except (UserError, OSError, ValueError, TypeError) as error:
            told = UserError(_told(error))
            failed[name] = plain_reason(told, run)
            say(f"note: the report goes without {name}: {told}")
        progress("look", done, len(names))
    return failed


def _told(error: Exception) -> str:
    """Return an error in one line; one that isn't a user's mistake by its kind too."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _lacking(run: RunFolder, ways: dict[str, Way]) -> list[str]:
    """Return a note of the thorough looks that weren't taken yet."""
    missing = [name for name, way in ways.items() if way.thorough and not _taken(run, name)]
    if not missing:
        return []
    return [f"octavo explain {run.path.resolve().name} adds: {', '.join(missing)}; octavo report then binds it again."]
