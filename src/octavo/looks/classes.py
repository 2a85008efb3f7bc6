"""How well each class is recognised."""

from __future__ import annotations

import numpy as np

from octavo.looks.look import Cell, Drawing, Table
from octavo.looks.subject import ClassifySubject
from octavo.numbers.confusions import confusion_counts, taken_for
from octavo.numbers.results import ClassResult, Interval, Report
from octavo.pictures.classes import interval_dots

_MOST = 200
"""Classes that are drawn at most: the worst; the table has all."""


def classes(subject: ClassifySubject) -> Drawing | None:
    """Draw the ensemble's accuracy on each class, the worst first; None where no class has images."""
    report = subject.report
    scored = [(entry, entry.accuracy) for entry in report.per_class if entry.accuracy is not None]
    if not scored:
        return None
    scored.sort(key=lambda pair: (pair[1].value, -pair[0].support))
    shown = scored[:_MOST]
    figure = interval_dots(
        [entry.name for entry, _ in shown],
        np.array([accuracy.value for _, accuracy in shown]),
        np.array([_ends(accuracy) for _, accuracy in shown]),
        what="accuracy on the class",
        lines={
            "accuracy on all images": report.ensemble.metrics["accuracy"].value,
            "always the commonest class": report.majority,
        },
    )
    absent = [entry for entry in report.per_class if entry.accuracy is None]
    return Drawing.single(
        figure,
        name="classes",
        title="Class by class",
        sees=_sees(report, [entry for entry, _ in scored]),
        source="metrics.json",
        caption=_caption(report, len(shown)),
        alt="Accuracy by class",
        tables=(_table(subject, [*(entry for entry, _ in scored), *absent]),),
        warnings=(f"{len(absent)} of {len(report.per_class)} classes have no validation image.",) if absent else (),
    )


def _ends(interval: Interval) -> tuple[float, float]:
    low, high = interval.low, interval.high
    return (interval.value if low is None else low, interval.value if high is None else high)


def _sees(report: Report, scored: list[ClassResult]) -> str:
    """Return the classes at both ends, from those sorted by accuracy."""
    worst, best = scored[0], scored[-1]
    assert worst.accuracy is not None and best.accuracy is not None
    return (
        f"Accuracy on each class (the share of its images that were recognised) with its {100 * report.level:g} % "
        f"interval (Wilson). Worst is {worst.name} "
        f"({100 * worst.accuracy.value:.1f} % of {worst.support:,}), best {best.name} "
        f"({100 * best.accuracy.value:.1f} % of {best.support:,})."
    )


def _caption(report: Report, shown: int) -> str:
    which = f"The {shown} worst of {len(report.per_class)} classes" if shown < len(report.per_class) else "Classes"
    return (
        f"{which} from the worst to the best: triangles have intervals that lie wholly to one side of the accuracy on "
        f"all images; about {100 * (1 - report.level):.0f} in 100 classes do so by chance."
    )


def _table(subject: ClassifySubject, ordered: list[ClassResult]) -> Table:
    names = subject.classes
    taken = taken_for(confusion_counts(subject.labels, subject.predicted, len(names)))
    others = {id(entry): other for entry, other in zip(subject.report.per_class, taken, strict=True)}
    rows: list[tuple[Cell, ...]] = []
    for entry in ordered:
        found, other = entry.accuracy, others[id(entry)]
        numbers = (found.value, found.low, found.high) if found else (None, None, None)
        mistaken = f"{names[other[0]]} ({other[1]:,})" if other else None
        rows.append((entry.name, entry.support, *numbers, entry.precision, entry.f1, mistaken))
    return Table(
        title="Classes from the worst to the best",
        columns=("class", "images", "accuracy", "low", "high", "precision", "F1", "most often taken for (images)"),
        rows=tuple(rows),
        kinds=("text", "count", "share", "share", "share", "share", "number", "text"),
        caption="Precision is the share of the images called so that are of the class.",
    )
