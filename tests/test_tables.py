"""Tables say what the results hold."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console
from rich.table import Table

from octavo.numbers.ensemble import Ensemble
from octavo.numbers.grade import class_results, grade
from octavo.numbers.results import Interval
from octavo.numbers.tables import class_table, report_tables, with_ends

NAMES = ("one", "[red]two")


def printed(tables: list[Table], width: int = 80) -> str:
    """What a terminal of this width shows."""
    console = Console(file=io.StringIO(), width=width)
    for table in tables:
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def tables(classes: int, split: str = "val", members: int = 2, every_class: bool = False) -> list[Table]:
    """Tables of a report of `members` members on 200 images."""
    random = np.random.default_rng(0)
    labels = np.arange(200) % classes
    logits = random.normal(size=(members, 200, classes))
    logits[:, np.arange(200), labels] += 2
    ensemble = Ensemble.fit(NAMES[:members], "mean_logit")
    names = [f"class\x1b{i}" for i in range(classes)]
    report = grade(NAMES[:members], logits, labels, names, ensemble, split=split, replicates=50)
    return report_tables(report, every_class=every_class)


def test_intervals_as_text() -> None:
    assert with_ends(Interval(value=0.82719, low=0.8, high=0.85)) == "0.8272 [0.8000, 0.8500]"
    assert with_ends(Interval(value=0.01, low=-0.02, high=0.04), signed=True) == "+0.0100 [-0.0200, +0.0400]"
    assert with_ends(Interval(value=1, low=None, high=None)) == "1.0000"
    assert with_ends(None) == "–"


def test_report_fits_eighty_columns_and_shows_every_system() -> None:
    text = printed(tables(8))
    assert all(len(line) <= 80 for line in text.splitlines())
    for part in (
        "one",
        "[red]two",
        "ensemble",
        "accuracy [95 %]",
        "top-5",
        "macro F1",
        "NLL",
        "ECE",
        "200 images of val",
    ):
        assert part in text
    assert "…" not in text
    assert "\x1b" not in text


def test_flattered_is_in_the_title() -> None:
    assert "flattered" in printed(tables(8, split="train"))
    assert "flattered" not in printed(tables(8))


def test_few_classes_have_no_top5_column() -> None:
    assert "top-5" not in printed(tables(4))


def test_a_single_member_adds_nothing() -> None:
    assert len(tables(8, members=1)) == len(tables(8)) - 1
    text = printed(tables(8, members=1))
    assert "ensemble" not in text and text.count("one") == 1


def test_of_many_classes_the_ends_are_shown_unless_all_are_asked_for() -> None:
    truth = np.repeat(np.arange(30), 30)
    predicted = np.where(np.arange(900) % 30 < truth, truth, (truth + 1) % 30)  # class i has i of 30 right
    results = class_results(predicted, truth, [f"c{i:02}" for i in range(30)])
    text = printed([class_table(results, "Classes", 0.95)])
    shown = {f"c{i:02}" for i in range(30) if f"c{i:02}" in text}
    order = sorted(results, key=lambda r: r.f1 or 0)
    assert shown == {r.name for r in (*order[:10], *order[-10:])}
    whole = printed([class_table(results, "Classes", 0.95, every_class=True)])
    places = [whole.index(f"c{i:02}") for i in range(30)]
    assert places == sorted(places)
