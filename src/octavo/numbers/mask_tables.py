"""Reports and cards of masks as tables for the terminal."""

from __future__ import annotations

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from octavo.numbers.mask_results import MaskClass, MaskScore, SegmentReport
from octavo.numbers.results import Interval
from octavo.numbers.rules import BESIDE
from octavo.numbers.tables import ENDS, plain, titled, with_ends

WIDEST_BAR = 24
"""Columns of a bar of 1.0, where the terminal has the room."""
WIDEST_NAME = 15
"""Columns up to which a class's name isn't folded in a terminal of 80."""


def segment_tables(report: SegmentReport, *, every_class: bool = False) -> list[Table]:
    """Return the tables of a segmenter's report: the headline and what is told beside it, and the classes."""
    flattered = ", flattered" if report.flattered else ""
    images = "image" if report.n == 1 else "images"
    title = f"{report.n} {images} of {report.split}, {report.pixels:,} pixels{flattered}"
    table = titled(title, ("metric", f"value [{100 * report.level:g} %]"))
    table.add_row(f"mIoU by the rule {report.rule_name}", with_ends(report.metrics[report.headline]), style="bold")
    for name, rule in BESIDE.items():
        table.add_row(rule.title, with_ends(report.metrics[name]))
    return [table, _classes(report, every_class)]


def card_table(score: MaskScore) -> Table:
    """Return the mIoU card: every rule's number with its source, the headline first."""
    table = Table(title="The same masks by every rule", title_justify="left", title_style="bold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("rule", overflow="fold", max_width=21)
    table.add_column("source, and what became of absent classes", overflow="fold")
    beside = False
    for i, row in enumerate(score.rows):
        if i == 1 or (row.rule in BESIDE and not beside):
            table.add_section()
            beside = row.rule in BESIDE
        value = "none" if row.value is None else f"{row.value:.4f}"
        source = Text.assemble(row.source, *(["\n", plain(row.note)] if row.note else []))
        table.add_row(value, row.title, source, style="bold" if i == 0 else None)
    return table


def mask_score_tables(score: MaskScore, *, every_class: bool = False) -> list[Table]:
    """Return the tables of a score of masks: its report's, and the card."""
    return [*segment_tables(score.report, every_class=every_class), card_table(score)]


def _classes(report: SegmentReport, every_class: bool) -> Table:
    rows = [c for c in report.per_class if every_class or c.iou is not None]
    parts, title = [rows], "Classes"
    if not every_class and len(rows) > 2 * ENDS + 1:  # PASCAL VOC's 21 are shown whole
        rows = sorted(rows, key=lambda c: 0.0 if c.iou is None else c.iou.value)
        parts = [rows[:ENDS], rows[-ENDS:]]
        title = f"Classes: {ENDS} worst and {ENDS} best of {len(report.per_class)} by IoU"
    if not all(c.scored for part in parts for c in part):
        title += "; in brackets those that are not in the mean"
    table = titled(title, ("class", f"IoU [{100 * report.level:g} %]"))
    # Of two columns that may shrink rich takes from both; the bars are to give way to names.
    table.columns[0].no_wrap = max((len(c.name) + 2 * (not c.scored) for c in rows), default=0) <= WIDEST_NAME
    table.add_column("", max_width=WIDEST_BAR, min_width=4)
    for name in ("recall", "precision", "pixels"):
        table.add_column(name, justify="right", no_wrap=True)
    for part in parts:
        for c in part:
            name = plain(c.name if c.scored else f"({c.name})")
            shares = ("–" if x is None else f"{x:.3f}" for x in (c.accuracy, c.precision))
            table.add_row(name, _short(c.iou), _bar(c), *shares, f"{100 * c.truth:.1f} %")
        table.add_section()
    return table


def _short(interval: Interval | None) -> str:
    """Return `0.755 [0.731, 0.780]`, which leaves room for a bar."""
    if interval is None:
        return "–"
    value, *ends = ("–" if x is None else f"{x:.3f}" for x in (interval.value, interval.low, interval.high))
    return value if interval.low is None else f"{value} [{', '.join(ends)}]"


def _bar(result: MaskClass) -> Bar | str:
    return "" if result.iou is None else Bar(1.0, 0.0, max(0.0, result.iou.value))
