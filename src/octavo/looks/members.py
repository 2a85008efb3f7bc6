"""What each member adds to the ensemble."""

from __future__ import annotations

import numpy as np

from octavo.looks.look import Cell, Drawing, Look, Shown, Table
from octavo.looks.subject import ClassifySubject
from octavo.numbers.disagreement import Agreement, agreement, both_wrong, disagreement
from octavo.numbers.results import Report
from octavo.pictures.members import disagreements, gains


def members(subject: ClassifySubject) -> Drawing | None:
    """Draw each member's accuracy and gain, and how far members disagree; None for a run of one member."""
    if len(subject.members) < 2:
        return None
    report = subject.report
    predicted = np.stack([*(subject.alone(i).argmax(1) for i in range(len(subject.members))), subject.predicted])
    differ, wrong = disagreement(predicted), both_wrong(predicted, subject.labels)
    names = [*subject.members, "ensemble"]
    adding = {entry.member: entry.leave_one_out for entry in report.contributions}
    accuracy = [system.metrics["accuracy"] for system in report.systems]
    look = Look(
        name="members",
        title="What each member adds",
        sees=_sees(report, agreement(predicted[:-1], subject.labels), len(subject.members)),
        source="metrics.json",
        shown=_shown(report),
        tables=(_table(report), _pairs(names[:-1], differ, wrong)),
    )
    figures = {
        "members.png": gains(names, accuracy, [*(adding.get(name) for name in subject.members), None]),
        "disagreement.png": disagreements(names, differ, wrong),
    }
    return Drawing(look, figures)


def _shown(report: Report) -> tuple[Shown, ...]:
    idle = sum(entry.weight == 0 for entry in report.contributions)
    return (
        Shown(
            file="members.png",
            caption="Left the accuracy of every system, right what the ensemble would lose without the member, with "
            f"{100 * report.level:g} % intervals: a member whose interval on the right holds zero may be dispensable"
            + (f"; {idle} without weight add nothing." if idle else "."),
            alt="Accuracy of every system, and the ensemble's gain from each member",
        ),
        Shown(
            file="disagreement.png",
            caption="Members help one another where they differ and are not wrong on the same images: dark squares on "
            "the left, pale ones on the right.",
            alt="How often two systems differ, and how often both are wrong",
        ),
    )


def _sees(report: Report, found: Agreement, count: int) -> str:
    gain = report.gain
    ends = "" if gain.low is None or gain.high is None else f" [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
    every = "Both" if count == 2 else f"All {count}"
    return (
        f"The ensemble's accuracy is {100 * gain.value:+.1f}{ends} points from that of its best member, "
        f"{report.best_member}. {every} members name the same class on {100 * found.unanimous:.1f} % of the images "
        f"({100 * found.unanimous_wrong:.1f} % of all: the same wrong one), and on {100 * found.any_right:.1f} % at "
        "least one of them is right."
    )


def _table(report: Report) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for system, own in zip(report.systems, report.contributions, strict=False):
        accuracy, gain = system.metrics["accuracy"], own.leave_one_out
        numbers = (gain.value, gain.low, gain.high) if gain else (None, None, None)
        rows.append((own.member, own.weight, accuracy.value, accuracy.low, accuracy.high, *numbers))
    whole = report.ensemble.metrics["accuracy"]
    rows.append(("ensemble", 1.0, whole.value, whole.low, whole.high, None, None, None))
    return Table(
        title="Members and what they add",
        columns=("system", "weight", "accuracy", "low", "high", "adds", "adds: low", "adds: high"),
        rows=tuple(rows),
        kinds=("text", "share", "share", "share", "share", "share", "share", "share"),
        caption="What a member adds is the ensemble's accuracy less that of the ensemble without it, on the same "
        "resamples, in points of accuracy.",
    )


def _pairs(names: list[str], differ: np.ndarray, wrong: np.ndarray) -> Table:
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    pairs.sort(key=lambda pair: -differ[pair])
    return Table(
        title="Pairs of members",
        columns=("member", "other member", "differ", "both wrong", "both wrong if their mistakes were unrelated"),
        rows=tuple(
            (names[i], names[j], float(differ[i, j]), float(wrong[i, j]), float(wrong[i, i] * wrong[j, j]))
            for i, j in pairs
        ),
        kinds=("text", "text", "share", "share", "share"),
        caption="Shares of all images, the pairs that differ most first.",
    )
