"""Tables of masks fit the terminal and say what the results hold."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from octavo.numbers.grade_masks import grade_masks, mask_card
from octavo.numbers.mask_results import MaskScore, SegmentReport
from octavo.numbers.mask_tables import card_table, mask_score_tables, segment_tables
from octavo.numbers.rules import BESIDE, RULES


def printed(tables: list[Table], width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    for table in tables:
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def graded(
    classes: int = 7, split: str = "val", absent: bool = False, seed: int = 0
) -> tuple[SegmentReport, MaskScore]:
    random = np.random.default_rng(seed)
    confusions = random.integers(0, 50, (9, classes + 1, classes + 1)) * 1000
    confusions += np.eye(classes + 1, dtype=np.int64) * random.integers(1000, 900_000, classes + 1)
    if absent:
        confusions[:, 1, :] = confusions[:, :, 1] = 0
    names = ["traffic light", "[red]water\x1b", *(f"agriculture{i}" for i in range(classes - 2))]
    scored = np.arange(classes) < classes - 1
    report = grade_masks(confusions, names, scored, rule="course", split=split, replicates=50)
    rows = mask_card(confusions, names, scored, "course")
    return report, MaskScore(report=report, rows=rows, missing=0, read_as="colours", table="course")


@pytest.mark.parametrize("width", [80, 120])
def test_a_report_fits_and_shows_every_class(width: int) -> None:
    report, _ = graded()
    text = printed(segment_tables(report), width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text and "\x1b" not in text
    interval = report.metrics["miou"]
    assert interval is not None
    assert f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]" in text
    for part in (
        "mIoU by the rule course",
        "pixel accuracy",
        "mean accuracy",
        "frequency-weighted IU",
        "9 images of val",
    ):
        assert part in text
    for c in report.per_class:
        name = c.name.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
        line = next(x for x in text.splitlines() if name in x)
        assert c.iou is not None and f"{c.iou.value:.3f} [{c.iou.low:.3f}, {c.iou.high:.3f}]" in line
        assert f"{100 * c.truth:.1f} %" in line and "█" in line
        assert (f"({name})" in line) is not c.scored
    assert "in brackets those that are not in the mean" in " ".join(text.split())


def test_a_longer_bar_is_a_higher_iou() -> None:
    report, _ = graded()
    lines = printed(segment_tables(report), 120).splitlines()
    ious = [c.iou.value for c in report.per_class if c.iou]
    bars = [sum(line.count(c) for c in "█▉▊▋▌▍▎▏") for line in lines if "█" in line]
    assert [bars[i] for i in np.argsort(ious)] == sorted(bars) and bars[int(np.argmax(ious))] > min(bars)


def test_absent_classes_and_flattery_are_seen() -> None:
    report, score = graded(split="train", absent=True)
    text = " ".join(printed(mask_score_tables(score, every_class=True), 120).split())
    assert "flattered" in text and "none" in text and "absent [red]water" in text
    assert "water" not in printed(segment_tables(report), 120)


def test_of_many_classes_the_ends_are_shown_unless_all_are_asked_for() -> None:
    report, _ = graded(40)
    few, whole = printed(segment_tables(report), 80), printed(segment_tables(report, every_class=True), 80)
    assert "10 worst and 10 best of 40 by IoU" in few
    assert few.count("█") and whole.count(" %") == few.count(" %") + 20
    assert "worst" not in printed(segment_tables(graded(21)[0]), 80)


@pytest.mark.parametrize("width", [80, 120])
def test_the_card_shows_every_rule_with_its_source(width: int) -> None:
    _, score = graded(absent=True)
    text = printed([card_table(score)], width)
    assert all(len(line) <= width for line in text.splitlines()) and "…" not in text and "\x1b" not in text
    flat = "".join(text.split()).replace("│", "")
    assert len(score.rows) == len(RULES) + len(BESIDE)
    for row in score.rows:
        value = "none" if row.value is None else f"{row.value:.4f}"
        assert any(value in line for line in text.splitlines())
        assert row.source.split(",")[0].split()[0] in flat
    lines = [line for line in text.splitlines() if "course" in line or "PASCAL" in line]
    assert "course" in lines[0]
