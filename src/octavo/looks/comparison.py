"""A comparison of runs as looks: which is better, where, what all get wrong, and how they were trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from octavo.looks.look import Cell, Drawing, Look, Shown, Table
from octavo.numbers.compare_results import ClassSides, Comparison, Pair
from octavo.numbers.metrics import METRICS
from octavo.numbers.results import Interval
from octavo.numbers.rules import BESIDE
from octavo.pictures.compare import MOST, Gap, class_sides, runs_and_gaps
from octavo.pictures.style import short
from octavo.words import counted

_Column = tuple[str, Literal["text", "count", "number", "share"]]

WHAT = {"accuracy": "accuracy", "miou": "mIoU"}
"""Headline → how it is called."""
_BY_CLASS = {"accuracy": "recognised", "miou": "IoU"}
_FOURFOLD = ("both right", "first alone", "second alone", "neither")
_PLAIN = ("nll", "brier")  # that are no shares
_CLASSES = 20  # drawn
_PAIRS = 15  # drawn


def looks_of(comparison: Comparison, source: str) -> tuple[Drawing, ...]:
    """Return the looks at a comparison whose numbers lie in the file `source`."""
    found = (
        _runs(comparison, source),
        _classes(comparison, source),
        _hardest(comparison, source),
        _trainings(comparison, source),
    )
    return tuple(drawing for drawing in found if drawing)


def verdict(pair: Pair, level: float) -> str:
    """Return in words what was found of a pair."""
    if pair.p is None:
        return "not tested"
    if not pair.told_apart:
        return f"not told apart at {100 * (1 - level):.3g} %"
    return f"told apart: {pair.first if pair.difference.value > 0 else pair.second} is better"


def _runs(comparison: Comparison, source: str) -> Drawing:
    what, runs = WHAT[comparison.headline], comparison.runs
    drawn = comparison.pairs
    if len(drawn) > _PAIRS:
        drawn = tuple(pair for pair in drawn if pair.first == runs[0].name)
    members = [run.best_member.headline for run in runs if run.best_member]
    gaps = [
        Gap(f"{short(pair.first, 20)} − {short(pair.second, 20)}", pair.difference, pair.told_apart) for pair in drawn
    ]
    figure = runs_and_gaps([run.name for run in runs], [run.headline for run in runs], gaps, what, members)
    some = "" if len(drawn) == len(comparison.pairs) else f" Only the differences from {runs[0].name} are drawn."
    shown = Shown(
        file="compare_runs.png",
        caption="Look at the differences, not at whether the intervals of the runs overlap: two runs are scored on the "
        f"same images and are wrong on many of the same, so that their difference is mostly surer than either.{some}",
        alt=f"{what} of each run and their differences, with intervals",
    )
    best = (_best_members(comparison),) if members else ()
    look = Look(
        name="compare_runs",
        title="Which run is better",
        sees=f"The {what} of each run on the same images, with {100 * comparison.level:g} % intervals, and the "
        "difference of every pair. It is about these trained runs: how much a training with another seed would differ "
        "is in none of these numbers.",
        source=source,
        shown=(shown,),
        tables=(_pair_table(comparison), _run_table(comparison), *best, _origin_table(comparison)),
    )
    return Drawing(look, {shown.file: figure})


def _run_table(comparison: Comparison) -> Table:
    titles = {key: metric.title for key, metric in METRICS.items()} | {key: rule.title for key, rule in BESIDE.items()}
    beside = tuple(dict.fromkeys(key for run in comparison.runs for key in run.metrics))
    columns: list[_Column] = [("run", "text"), (WHAT[comparison.headline], "share"), *_ends(comparison)]
    columns.extend((titles[key], "number" if key in _PLAIN else "share") for key in beside)
    rows = [(run.name, *_cells(run.headline), *(run.metrics.get(key) for key in beside)) for run in comparison.runs]
    return _table(f"The numbers of each run, on the same {counted(comparison.n, 'image')}", columns, rows)


def _origin_table(comparison: Comparison) -> Table:
    columns: list[_Column] = [
        ("run", "text"), ("recipe", "text"), ("networks", "text"), ("data", "text"), ("validation images", "count"),
    ]  # fmt: skip
    rows = [(run.name, run.recipe, _listed(run.networks), run.data, run.validation) for run in comparison.runs]
    return _table("What the runs are", columns, rows)


def _pair_table(comparison: Comparison) -> Table:
    many, fourfold = len(comparison.pairs) > 1, comparison.pairs[0].fourfold is not None
    columns: list[_Column] = [("first", "text"), ("second", "text"), ("difference", "share"), *_ends(comparison)]
    columns.extend((title, "number") for title in (("p", "p, Holm") if many else ("p",)))
    columns.append(("verdict", "text"))
    columns.extend((title, "count") for title in (_FOURFOLD if fourfold else ()))
    rows: list[tuple[Cell, ...]] = []
    for pair in comparison.pairs:
        table = pair.fourfold
        chances = (pair.p, pair.p_holm) if many else (pair.p,)
        counts = (table.both, table.first_only, table.second_only, table.neither) if table else ()
        said = verdict(pair, comparison.level)
        rows.append((pair.first, pair.second, *_cells(pair.difference), *chances, said, *counts))
    test = "McNemar's exact test on the images that one run alone gets right" if fourfold else "paired bootstrap"
    caption = f"Difference: the first less the second. p: {test}."
    if many:
        caption += (
            " Verdicts go by p after Holm's correction for the number of pairs; intervals are of each pair alone."
        )
    return _table("The differences", columns, rows, caption)


def _best_members(comparison: Comparison) -> Table:
    rows = [
        (run.name, best.name, *_cells(best.headline), *_cells(best.gain))
        for run in comparison.runs
        if (best := run.best_member)
    ]
    columns: list[_Column] = [("run", "text"), ("best member", "text"), ("its accuracy", "share"), *_ends(comparison)]
    columns.extend([("the ensemble's gain", "share"), *_ends(comparison)])
    caption = "Chosen on the very images that are scored, so that its own accuracy is slightly flattered."
    return _table("The best member of each run", columns, rows, caption)


def _table(title: str, columns: Sequence[_Column], rows: Sequence[tuple[Cell, ...]], caption: str = "") -> Table:
    titles, kinds = zip(*columns, strict=True)
    return Table(title=title, columns=titles, rows=tuple(rows), kinds=kinds, caption=caption)


def _ends(comparison: Comparison) -> tuple[_Column, _Column]:
    return (f"{100 * comparison.level:g} % from", "share"), ("to", "share")


def _cells(interval: Interval) -> tuple[Cell, Cell, Cell]:
    return interval.value, interval.low, interval.high


def _classes(comparison: Comparison, source: str) -> Drawing | None:
    names = [run.name for run in comparison.runs]
    ordered = sorted(comparison.per_class, key=lambda sides: -sides.spread)
    apart = [sides for sides in ordered if sides.spread > 0]
    if not apart:
        return None
    what = _BY_CLASS[comparison.headline]
    drawn = sorted(apart[:_CLASSES], key=_lead)
    values = np.array([[np.nan if v is None else v for v in sides.values[:MOST]] for sides in drawn], np.float64).T
    axis = "IoU" if comparison.headline == "miou" else "share of the class's images that is recognised"
    figure = class_sides(
        [sides.name for sides in drawn], names[:MOST], values, axis, [sides.images for sides in drawn]
    )  # fmt: skip
    some = f"The {len(drawn)} classes that differ most" if len(drawn) < len(apart) else "The classes that differ"
    few = "" if len(names) <= MOST else f" The first {MOST} runs are drawn; the table has all."
    shown = Shown(
        file="compare_classes.png",
        caption=f"{some}, from those where {names[0]} leads most to those where it trails most; images in brackets. "
        f"A long line is a large difference.{few}",
        alt=f"{what} of each run, class by class",
    )
    look = Look(
        name="compare_classes",
        title="Where the runs differ",
        sees="Class by class. Nothing is tested here: among many classes some differ by chance, the more so the fewer "
        "images they have.",
        source=source,
        shown=(shown,),
        tables=(_class_table(names, ordered, what),),
    )
    return Drawing(look, {shown.file: figure})


def _class_table(names: Sequence[str], ordered: Sequence[ClassSides], what: str) -> Table:
    columns: list[_Column] = [("class", "text"), ("images", "count")]
    columns.extend((f"{name}: {what}", "share") for name in names)
    columns.append(("spread", "share"))
    rows = [(sides.name, sides.images, *sides.values, sides.spread) for sides in ordered]
    caption = "Spread: the highest of the runs less the lowest."
    return _table("Every class, by how much the runs differ", columns, rows, caption)


def _lead(sides: ClassSides) -> float:
    """Return minus the lead of the first run over the mean of the others, so that its best class comes first."""
    first, others = sides.values[0], [value for value in sides.values[1:] if value is not None]
    return float(np.mean(others)) - first if first is not None and others else 0.0


def _hardest(comparison: Comparison, source: str) -> Drawing | None:
    if not comparison.hardest:
        return None
    names, images = [run.name for run in comparison.runs], comparison.hardest
    columns: list[_Column] = [("image", "text")]
    if comparison.none_right is None:
        title, sees = "What every run segments badly", "The images of which even the best run gets the least right."
        columns.extend((f"{name}: pixels right", "share") for name in names)
        rows = [(image.file, *image.shares) for image in images]
        table = _table(f"The {len(images)} hardest images", columns, rows)
    else:
        title, share = "What no run gets right", comparison.none_right / comparison.n
        sees = (
            f"{comparison.none_right:,} of {comparison.n:,} images ({100 * share:.1f} %) are wrong in every run: too "
            "hard, or labelled wrongly. Choosing the right run for each image could at best reach "
            f"{100 * (1 - share):.1f} %."
        )
        columns.extend([("truth", "text"), *((name, "text") for name in names)])
        rows = [(image.file, image.truth, *image.answers) for image in images]
        caption = "Sorted by the probability that the runs give to the truth, the least first."
        table = _table(f"{len(images)} of them, the surest mistakes first", columns, rows, caption)
    return Drawing(Look(name="compare_hardest", title=title, sees=sees, source=source, tables=(table,)))


def _trainings(comparison: Comparison, source: str) -> Drawing:
    rows = [(row.key, *row.values) for row in comparison.differences]
    columns: list[_Column] = [("key", "text"), *((run.name, "text") for run in comparison.runs)]
    sees = (
        "What is different in the recipes, and in the versions, weights and data that the runs were trained with; all "
        "else is equal. A dash stands where a run has no such thing."
        if rows
        else "Nothing differs in the recipes, versions, weights and sizes of the data."
    )
    tables = (_table("What differs", columns, rows),) if rows else ()
    look = Look(name="compare_trainings", title="How the trainings differ", sees=sees, source=source, tables=tables)
    return Drawing(look)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f", … ({len(names)})" if len(names) > 8 else "")
