"""What a reader of a run must be warned of, and what was looked for and not found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.looks.names import without_machine
from octavo.looks.subject import ClassifySubject, SegmentSubject
from octavo.numbers.results import Interval
from octavo.page.cells import percent
from octavo.words import counted

FEW = 100
"""Validation images below which a reader is told that they are few."""
FEW_OF_CLASS = 10
"""Validation images of one class below which it counts as thin."""


@dataclass(frozen=True)
class Beware:
    """Warnings, a sentence each, and phrases that say what was checked and found in order."""

    warnings: tuple[str, ...]
    checked: tuple[str, ...]


def beware(subject: ClassifySubject | SegmentSubject, of_task: Iterable[Finding]) -> Beware:
    """Return what to beware of in a finished run; images are compared only where its data are still there.

    `of_task` is what its task found beside.
    """
    found = [*_flattered(subject), *_same(subject), *_broken(subject), *of_task, *_few(subject)]
    # What is in order is a phrase without a full stop; what isn't is a sentence.
    warnings = [_sentence(text) for wrong, text in found if wrong]
    return Beware(tuple(dict.fromkeys(warnings)), tuple(text for wrong, text in found if not wrong))


Finding = tuple[bool, str]
"""Whether something is wrong, and what was found."""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _flattered(subject: ClassifySubject | SegmentSubject) -> Iterable[Finding]:
    report = subject.report
    yield from ((True, text) for text in report.warnings)
    if not report.flattered:
        yield False, "by the recipe, nothing was chosen or trained on the scored images"
    elif not report.warnings:
        yield True, "Flattered: something was chosen or trained on the very images that are scored"


def _same(subject: ClassifySubject | SegmentSubject) -> Iterable[Finding]:
    found = subject.report.without_twins
    if found is None:
        yield True, "Nobody looked for images that training and scoring share (--no-leaks)"
    elif not found.twins:  # where there are some, that stands among the report's own warnings
        yield False, "no scored image is among the training images, as it is or nearly"


def plain_reason(reason: str, subject: ClassifySubject | SegmentSubject) -> str:
    """Return what went wrong in a form that may travel: files by their shown names, folders by their last name."""
    options = subject.manifest["options"].values()
    folders = [str(subject.manifest["data"]["root"]), str(subject.run.path), str(subject.cache)]
    folders += [value for value in options if isinstance(value, str)]
    return without_machine(reason, subject.named, [*folders, *(str(Path(folder).absolute()) for folder in folders)])


def _broken(subject: ClassifySubject | SegmentSubject) -> Iterable[Finding]:
    count = int(subject.manifest["data"]["broken"])
    if not count:
        yield False, "no broken files"
        return
    names = [subject.named[row["file"]] for row in subject.rows if row["part"] == "broken"]
    such = f", such as {names[0]}" if names else ""
    yield True, f"{counted(count, 'file')} could not be decoded and {'was' if count == 1 else 'were'} left out{such}"


def _few(subject: ClassifySubject | SegmentSubject) -> Iterable[Finding]:
    n = subject.report.n
    if n < FEW:
        power = f". {subject.report.power}" if subject.report.power else ""
        yield True, f"Only {counted(n, 'validation image')}: every number here is rough, as its interval says{power}"


def some_of(names: Sequence[str], total: int) -> str:
    """Return in words that some of `total` classes have …, naming three at most."""
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    verb = "has" if len(names) == 1 else "have"
    return f"{len(names)} of {total} classes ({shown}) {verb}"


def above(found: Interval, base: float, sure: bool, what: str) -> Finding:
    """Return whether a number can't be said to be above `base`, which always `what` would give, and that in words."""
    if found.low is None:
        return True, f"Without an interval nobody can say whether it is better than always {what} ({percent(base)})"
    if found.low > base and sure:
        return False, f"surely better than always {what} ({percent(base)})"
    return True, f"Not surely better than always {what}, which would give {percent(base)}"
