"""The mIoU card: what every rule that goes by that name makes of the same masks."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.looks.look import Drawing, Look, Table
from octavo.looks.subject import SegmentSubject
from octavo.numbers.grade_masks import mask_card
from octavo.numbers.mask_results import RuleValue
from octavo.numbers.rules import BESIDE

_COLUMNS = ("rule", "value", "source", "note")
_KINDS = ("text", "number", "text", "text")


def card(subject: SegmentSubject) -> Drawing:
    """List what every rule makes of the run's validation masks, the headline's first."""
    rows = mask_card(subject.counts, subject.classes, subject.run.table.scored, subject.report.rule_name)
    rules = [row for row in rows if row.rule not in BESIDE]
    beside = [row for row in rows if row.rule in BESIDE]
    look = Look(
        name="card",
        title="The same masks by every rule",
        sees=_sees(rules),
        source=f"members/{subject.name}/outputs.safetensors",
        tables=(
            _table("mIoU by rule, the headline's first", rules),
            _table("Beside the mIoU", beside),
        ),
    )
    return Drawing(look)


def _table(title: str, rows: Sequence[RuleValue]) -> Table:
    cells = tuple((row.title, row.value, row.source, row.note) for row in rows)
    return Table(title=title, columns=_COLUMNS, rows=cells, kinds=_KINDS)


def _sees(rules: Sequence[RuleValue]) -> str:
    """Say how far the rules are apart."""
    known = [(row.value, row.title) for row in rules if row.value is not None]
    (low, lowest), (high, highest) = min(known), max(known)
    none = len(rules) - len(known)
    without = f" {none} of {len(rules)} rules have no number: a class occurs nowhere." if none else ""
    return (
        f"The mIoU of these masks is {low:.3f} by one rule ({lowest}) and {high:.3f} by another ({highest}), "
        f"{high - low:.3f} apart: compare numbers only by the same rule.{without}"
    )
