"""How far the ensemble's probabilities can be believed."""

from __future__ import annotations

from octavo.looks.look import Cell, Drawing, Table
from octavo.looks.subject import ClassifySubject
from octavo.numbers.reliability import Reliability
from octavo.numbers.reliability import reliability as binned
from octavo.numbers.results import Report
from octavo.pictures.reliability import reliability_diagram


def reliability(subject: ClassifySubject) -> Drawing:
    """Draw accuracy by confidence of the ensemble on the validation images, its members thin behind it."""
    report = subject.report
    whole = binned(subject.answer, subject.labels, report.level)
    members = [binned(subject.alone(i), subject.labels, report.level) for i in range(len(subject.members))]
    several = len(members) > 1
    caption = (
        "Points below the dashed line are overconfident, points above it could be surer; the vertical lines are "
        f"{100 * report.level:g} % intervals (Wilson), and below is where the confidences lie."
    )
    return Drawing.single(
        reliability_diagram(whole, members if several else ()),
        name="reliability",
        title="Can its confidence be believed?",
        sees=_sees(report, whole),
        source="metrics.json",
        caption=caption,
        alt="Reliability diagram",
        wide=False,
        tables=(_table(report, [*members, whole]), _bins(whole)),
    )


def _sees(report: Report, whole: Reliability) -> str:
    gap = 100 * (whole.mean_confidence - whole.mean_accuracy)
    words = f"{abs(gap):.1f} points too {'sure' if gap > 0 else 'unsure'}" if abs(gap) >= 0.05 else "just sure enough"
    ece = report.ensemble.metrics["ece"]
    ends = "" if ece.low is None else f" [{ece.low:.3f}, {ece.high:.3f}]"
    return (
        f"On average it names its class with a confidence of {100 * whole.mean_confidence:.1f} % and is right for "
        f"{100 * whole.mean_accuracy:.1f} %: {words}. Its ECE is {ece.value:.3f}{ends}. {report.rules['ece']}"
    )


def _table(report: Report, found: list[Reliability]) -> Table:
    """Return a row a system, those that differ; `found` are all."""
    rows: list[tuple[Cell, ...]] = [
        (
            system.name,
            own.mean_accuracy,
            own.mean_confidence,
            *(system.metrics[key].value for key in ("ece", "nll", "brier")),
        )
        for system, own in zip(report.different, found, strict=False)
    ]
    return Table(
        title="Calibration of every system",
        columns=("system", "accuracy", "mean confidence", "ECE", "NLL [nats]", "Brier (0 to 2)"),
        rows=tuple(rows),
        kinds=("text", "share", "share", "number", "number", "number"),
        caption="For ECE, NLL and Brier score the lower is the better.",
    )


def _bins(whole: Reliability) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for k in (k for k, count in enumerate(whole.count.tolist()) if count):
        numbers = (whole.confidence[k], whole.accuracy[k], whole.low[k], whole.high[k])
        rows.append((_bin(whole, k), int(whole.count[k]), *(float(number) for number in numbers)))
    return Table(
        title=f"Bins of the ECE, {len(whole.count)} of equal width, that hold images",
        columns=("confidence above … up to", "images", "mean confidence", "accuracy", "low", "high"),
        rows=tuple(rows),
        kinds=("text", "count", "share", "share", "share", "share"),
    )


def _bin(whole: Reliability, k: int) -> str:
    return f"{100 * whole.edges[k]:.1f} … {100 * whole.edges[k + 1]:.1f} %"
