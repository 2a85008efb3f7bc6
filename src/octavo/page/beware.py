"""What a reader of a run must be warned of, and what was looked for and not found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from octavo.looks.names import without_machine
from octavo.looks.subject import ClassifySubject, SegmentSubject
from octavo.numbers.exact import SURE, paired_p
from octavo.numbers.power import beats_commonest
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


def beware(subject: ClassifySubject | SegmentSubject) -> Beware:
    """Return what to beware of in a finished run; images are compared only where its data are still there."""
    of_task = _of_masks(subject) if isinstance(subject, SegmentSubject) else _of_labels(subject)
    found = [*_flattered(subject), *_same(subject), *_broken(subject), *of_task, *_few(subject)]
    # What is in order is a phrase without a full stop; what isn't is a sentence.
    warnings = [_sentence(text) for wrong, text in found if wrong]
    return Beware(tuple(dict.fromkeys(warnings)), tuple(text for wrong, text in found if not wrong))


_Found = Iterable[tuple[bool, str]]
"""(Whether it is wrong, what was found)."""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _flattered(subject: ClassifySubject | SegmentSubject) -> _Found:
    report = subject.report
    yield from ((True, text) for text in report.warnings)
    if not report.flattered:
        yield False, "by the recipe, nothing was chosen or trained on the scored images"
    elif not report.warnings:
        yield True, "Flattered: something was chosen or trained on the very images that are scored"


def _same(subject: ClassifySubject | SegmentSubject) -> _Found:
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


def _broken(subject: ClassifySubject | SegmentSubject) -> _Found:
    count = int(subject.manifest["data"]["broken"])
    if not count:
        yield False, "no broken files"
        return
    names = [subject.named[row["file"]] for row in subject.rows if row["part"] == "broken"]
    such = f", such as {names[0]}" if names else ""
    yield True, f"{counted(count, 'file')} could not be decoded and {'was' if count == 1 else 'were'} left out{such}"


def _few(subject: ClassifySubject | SegmentSubject) -> _Found:
    n = subject.report.n
    if n < FEW:
        power = f". {subject.report.power}" if isinstance(subject, ClassifySubject) else ""
        yield True, f"Only {counted(n, 'validation image')}: every number here is rough, as its interval says{power}"


def _of_labels(subject: ClassifySubject) -> _Found:
    report = subject.report
    supports = {c.name: c.support for c in report.per_class}
    absent = [name for name, count in supports.items() if not count]
    told = any("no image among those scored" in text for text in report.warnings)
    if absent and not told:
        yield True, f"{_some(absent, len(supports))} no validation image"
    thin = [name for name, count in supports.items() if 0 < count < FEW_OF_CLASS]
    if thin:
        yield True, f"{_some(thin, len(supports))} fewer than {FEW_OF_CLASS} validation images"
    if not absent and not thin:
        yield False, f"every class has {FEW_OF_CLASS} validation images or more"
    accuracy = report.ensemble.metrics["accuracy"]
    sure = beats_commonest(report.per_class, accuracy)
    wrong, words = _above(accuracy, report.majority, sure, "naming the commonest class")
    if not wrong:  # where it is, that stands among the report's own warnings
        yield False, words


def _of_masks(subject: SegmentSubject) -> _Found:
    report = subject.report
    empty = [c.name for c in report.per_class if c.scored and not c.truth]
    told = any("no pixel in the masks" in text for text in report.warnings)
    if empty and not told:
        yield True, f"{_some(empty, len(report.classes))} no validation pixel"
    if not empty:
        yield False, "every scored class has validation pixels"
    found = report.metrics.get("pixel_accuracy")
    if found:
        most = max(c.truth for c in report.per_class)
        yield _above(found, most, _beats_painting(subject), "painting all in the commonest class")


def _some(names: list[str], total: int) -> str:
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    verb = "has" if len(names) == 1 else "have"
    return f"{len(names)} of {total} classes ({shown}) {verb}"


def _beats_painting(subject: SegmentSubject) -> bool:
    """Whether masks are better than one class everywhere on so many more images, or groups of them, than worse."""
    counts, groups = subject.counts[:, :-1], subject.run.groups("val")
    right = np.diagonal(counts, axis1=1, axis2=2).sum(axis=1)
    common = counts.sum(axis=(0, 2)).argmax()
    gap = right - counts[:, common].sum(axis=1)
    gap = gap if groups is None else np.bincount(groups, weights=gap)
    return paired_p(gap, np.zeros_like(gap)) < SURE


def _above(found: Interval, base: float, sure: bool, what: str) -> tuple[bool, str]:
    if found.low is None:
        return True, f"Without an interval nobody can say whether it is better than always {what} ({percent(base)})"
    if found.low > base and sure:
        return False, f"surely better than always {what} ({percent(base)})"
    return True, f"Not surely better than always {what}, which would give {percent(base)}"
