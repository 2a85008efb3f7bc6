"""What makes a run's answers cheaper, and what that costs: its cascade, bfloat16, and the student that it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeVar

from octavo.engine.cascaded import cascade_of
from octavo.errors import UserError
from octavo.looks.look import Cell, Drawing, Look, Table
from octavo.looks.subject import ClassifySubject
from octavo.numbers.results import Interval, Result
from octavo.numbers.speed_results import CascadeReport, DistilReport, PrecisionReport
from octavo.words import counted

R = TypeVar("R", bound=Result)
_SYSTEM = ("system", "accuracy", "low", "high")
_SYSTEM_KINDS = ("text", "share", "share", "share")


def speed(subject: ClassifySubject) -> Drawing | None:
    """List what was done to answer faster, each with its accuracy; None where nothing was."""
    run = subject.run
    found: list[tuple[str, str, list[Table], str]] = []
    if run.cascade and _fits(subject):
        cascade = _read(CascadeReport, run.cascade["report"], "cascade.json")
        found.append((_of_cascade(cascade), "cascade.json", _cascade(cascade), cascade.beware))
    half = _read(PrecisionReport, run.bf16, "precision.json") if run.bf16 else None
    if half and _used(half.members, subject):
        found.append((_of_half(half), "precision.json", [_half(half)], half.beware))
    if student := run.distil:
        found.append((_of_student(student), "distil.json", [_student(student)], ""))
    if not found:
        return None
    sees, sources, tables, beware = zip(*found, strict=True)
    look = Look(
        name="speed",
        title="Faster answers",
        sees=" ".join(sees),
        source=", ".join(sources),
        tables=tuple(table for own in tables for table in own),
        warnings=tuple(filter(None, beware)),
    )
    return Drawing(look)


def _fits(subject: ClassifySubject) -> bool:
    """Tell whether the cascade is of the ensemble as it is now."""
    try:
        cascade_of(subject.run)
    except UserError:
        return False
    return True


def _used(members: Sequence[str], subject: ClassifySubject) -> bool:
    """Tell whether members have a weight still, each of them."""
    return all(name in subject.run.ensemble.used for name in members)


def _read(kind: type[R], kept: object, where: str) -> R:
    return kind.from_json(json.dumps(kept), where)


def _points(lost: Interval) -> str:
    ends = "" if lost.low is None or lost.high is None else f" [{100 * lost.low:+.2f}, {100 * lost.high:+.2f}]"
    return f"{100 * lost.value:+.2f}{ends} points".replace("-", "−")


def _row(name: str, accuracy: Interval) -> tuple[Cell, ...]:
    return name, accuracy.value, accuracy.low, accuracy.high


def _of_cascade(report: CascadeReport) -> str:
    return (
        f"A cascade answers {report.speedup:.1f} times as fast as the whole ensemble by its members' times "
        f"({report.device}), and loses {_points(report.loss)} of accuracy on {counted(report.scored, 'image')} that it "
        "was not fitted on: octavo predict --cascade uses it."
    )


def _cascade(report: CascadeReport) -> list[Table]:
    rows = (
        (*_row("whole ensemble", report.whole), report.whole_milliseconds, 1.0),
        (*_row("cascade", report.accuracy), report.milliseconds, report.speedup),
    )
    steps = tuple((s.member, s.milliseconds, s.accuracy.value, s.threshold, s.stopped) for s in report.steps)
    return [
        Table(
            title=f"The cascade, within {100 * report.budget:g} points",
            columns=(*_SYSTEM, "time [ms per image]", "times as fast"),
            rows=rows,
            kinds=(*_SYSTEM_KINDS, "number", "number"),
            caption=report.rule,
        ),
        Table(
            title="Where images stop",
            columns=("members up to", "time [ms per image]", "accuracy", "confidence to stop", "stop here"),
            rows=steps,
            kinds=("text", "number", "share", "number", "share"),
        ),
    ]


def _of_half(report: PrecisionReport) -> str:
    return (
        f"On a {report.device} its members answer in bfloat16, {report.speedup:.1f} times as fast: "
        f"{report.changed:.2%} of the answers change, and accuracy falls by {_points(report.loss)}."
    )


def _half(report: PrecisionReport) -> Table:
    before, after = report.milliseconds
    return Table(
        title="Members in bfloat16",
        columns=(*_SYSTEM, "time [ms per image]"),
        rows=((*_row("as trained", report.float32), before), (*_row("in bfloat16", report.bfloat16), after)),
        kinds=(*_SYSTEM_KINDS, "number"),
        caption=report.rule,
    )


def _of_student(report: DistilReport) -> str:
    return (
        f"This run learned from the answers of an ensemble: it is {_points(report.gain)} from the ensemble's best "
        f"member, {report.best}; {report.kept}."
    )


def _student(report: DistilReport) -> Table:
    rows = [
        _row(f"{report.best}, best single", report.best_accuracy),
        _row("ensemble that taught", report.ensemble_accuracy),
        _row(f"{report.student}, student", report.student_accuracy),
    ]
    if report.untaught:
        rows.insert(2, _row(f"{report.student}, as a member", report.untaught))
    return Table(
        title="The student beside its teacher",
        columns=_SYSTEM,
        rows=tuple(rows),
        kinds=_SYSTEM_KINDS,
        caption=report.rule,
    )
