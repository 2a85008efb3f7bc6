"""First screen of a segmentation report: the mIoU to quote, best and worst classes, what was checked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from octavo.looks.subject import SegmentSubject
from octavo.numbers.exact import SURE, paired_p
from octavo.page.beware import Finding, above, some_of
from octavo.page.cells import percent
from octavo.page.page import Headline
from octavo.page.summary import Summary, decimal, interval_text, rankings_of
from octavo.words import counted


def summary_of(subject: SegmentSubject) -> Summary:
    """Return what the first screen says of a run of a segmenter."""
    classes = [(c.name, c.iou) for c in subject.report.per_class if c.iou and c.scored]
    purpose = f"to label every pixel as one of {counted(len(subject.classes), 'class')}"
    return Summary(purpose, _headline(subject), rankings_of(classes, "IoU", decimal), tuple(_findings(subject)))


def _headline(subject: SegmentSubject) -> Headline:
    report = subject.report
    found, scored = report.metrics[report.headline], sum(c.scored for c in report.per_class)
    pixels = report.metrics.get("pixel_accuracy")
    beside = (
        [f"Right pixels: {percent(pixels.value)} ({interval_text(pixels, report.level, percent)})."] if pixels else []
    )
    return Headline(
        label=f"mIoU of {counted(scored, 'class', 'classes')} on {counted(report.n, 'validation image')}",
        value=decimal(found.value) if found else "no number",
        interval=interval_text(found, report.level, decimal) if found else "See what is wrong.",
        rule=f"{report.rule_title}. {report.rules[report.headline]}",
        details=report.rule,
        beside=tuple(beside),
        source="metrics.json",
    )


def _findings(subject: SegmentSubject) -> Iterable[Finding]:
    report = subject.report
    empty = [c.name for c in report.per_class if c.scored and not c.truth]
    told = any("no pixel in the masks" in text for text in report.warnings)
    if empty and not told:
        yield True, f"{some_of(empty, len(report.classes))} no validation pixel"
    if not empty:
        yield False, "every scored class has validation pixels"
    found = report.metrics.get("pixel_accuracy")
    if found:
        most = max(c.truth for c in report.per_class)
        yield above(found, most, _beats_painting(subject), "painting all in the commonest class")


def _beats_painting(subject: SegmentSubject) -> bool:
    """Whether masks are better than one class everywhere on so many more images, or groups of them, than worse."""
    counts, groups = subject.counts[:, :-1], subject.run.groups("val")
    right = np.diagonal(counts, axis1=1, axis2=2).sum(axis=1)
    common = counts.sum(axis=(0, 2)).argmax()
    gap = right - counts[:, common].sum(axis=1)
    gap = gap if groups is None else np.bincount(groups, weights=gap)
    return paired_p(gap, np.zeros_like(gap)) < SURE
