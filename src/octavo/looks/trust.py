"""What the flattering number would be, how probabilities were made honest, and sets of classes that keep a promise."""

from __future__ import annotations

from octavo.engine.sets import half_tried
from octavo.errors import UserError
from octavo.looks.look import Cell, Drawing, Look, Table
from octavo.looks.subject import ClassifySubject
from octavo.numbers.metrics import METRICS
from octavo.numbers.results import Interval, Optimism, Report

COVERAGES = (0.8, 0.9, 0.95)
"""Coverages that prediction sets are tried at."""
_MODE = {"temperature": "one temperature a system", "vector": "a scale and a bias a class"}


def trust(subject: ClassifySubject) -> Drawing | None:
    """List the honest ensemble beside the flattered one, the numbers before and after calibration, and sets."""
    report = subject.report
    tables = [*_gap(report), *_scaled(report), *_sets(subject)]
    if not tables:
        return None
    look = Look(
        name="trust",
        title="How honest the numbers are",
        sees=" ".join(_sees(report)),
        source="metrics.json",
        tables=tuple(tables),
    )
    return Drawing(look)


def _sees(report: Report) -> list[str]:
    words = []
    if report.optimism:
        gap = report.optimism.gap["accuracy"]
        words.append(
            f"With weights chosen on the scored images the accuracy would read "
            f"{100 * report.optimism.flattered['accuracy'].value:.1f} % instead of "
            f"{100 * report.optimism.honest['accuracy'].value:.1f} %: an optimism gap of {100 * gap.value:+.1f} "
            "points, and no better a model."
        )
    if report.calibration != "none":
        before, after = report.ensemble.uncalibrated["ece"].value, report.ensemble.metrics["ece"].value
        words.append(
            f"Calibration ({_MODE[report.calibration]}, fitted on {report.calibrated_on}) takes the ensemble's "
            f"ECE from {before:.3f} to {after:.3f}."
        )
    return words or ["A prediction set holds the classes that can't be ruled out."]


def _gap(report: Report) -> list[Table]:
    optimism = report.optimism
    if not optimism:
        return []
    rows = tuple(_gap_row(optimism, key) for key in optimism.gap)
    return [
        Table(
            title="The ensemble, honest and flattered",
            columns=("metric", "honest", "chosen on the scored images", "optimism gap", "low", "high"),
            rows=rows,
            kinds=("text", "number", "number", "number", "number", "number"),
            caption=optimism.rule,
        )
    ]


def _gap_row(optimism: Optimism, key: str) -> tuple[Cell, ...]:
    gap = optimism.gap[key]
    return METRICS[key].title, optimism.honest[key].value, optimism.flattered[key].value, gap.value, gap.low, gap.high


def _scaled(report: Report) -> list[Table]:
    if report.calibration == "none":
        return []
    pairs = [(s, [(s.uncalibrated[key], s.metrics[key]) for key in ("nll", "ece", "brier")]) for s in report.different]
    rows = tuple((s.name, s.temperature, *(x for pair in found for x in _values(pair))) for s, found in pairs)
    names = ("NLL [nats]", "ECE", "Brier (0 to 2)")
    return [
        Table(
            title="Probabilities before and after calibration",
            columns=("system", "temperature", *(f"{name} {when}" for name in names for when in ("before", "after"))),
            rows=rows,
            kinds=("text", "number", "number", "number", "number", "number", "number", "number"),
            caption="A temperature above 1 makes a system less sure, one below 1 surer. The lower the other numbers, "
            "the better.",
        )
    ]


def _values(pair: tuple[Interval, Interval]) -> tuple[float, float]:
    return pair[0].value, pair[1].value


def _sets(subject: ClassifySubject) -> list[Table]:
    """Return what prediction sets of several coverages do; nothing where there are too few images for any."""
    found = []
    for coverage in COVERAGES:
        try:
            found.append(half_tried(subject.run, coverage))
        except UserError:
            break
    if not found:
        return []
    rows = tuple((s.asked, s.coverage.value, s.coverage.low, s.coverage.high, s.mean_size, s.scored) for s in found)
    return [
        Table(
            title="Prediction sets: all classes that can't be ruled out",
            columns=("coverage asked", "coverage found", "low", "high", "classes in a set", "images"),
            rows=rows,
            kinds=("share", "share", "share", "share", "number", "count"),
            caption=f"{found[0].rule} octavo predict --coverage 0.9 writes such sets for new images.",
        )
    ]
