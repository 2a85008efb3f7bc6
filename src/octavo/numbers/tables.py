"""Reports and scores as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from octavo.numbers.metrics import METRICS
from octavo.numbers.results import ClassResult, Interval, Optimism, Report, Score, Sets
from octavo.numbers.speed_results import CascadeReport, DistilReport, PrecisionReport, PruneReport
from octavo.words import counted

SHOWN = ("top5", "macro_f1", "nll", "ece")
"""Metrics beside the headline; the others stand in `metrics.json`."""
UNEVEN = ("balanced_accuracy", "macro_f1", "nll", "ece")
"""The same where classes are uneven."""
ENDS = 10
"""How many of the best and of the worst classes are shown, unless all are asked for."""


def report_tables(report: Report, *, every_class: bool = False) -> list[Table]:
    """Return the tables of a report: systems; what each member adds, if there are several; classes."""
    tables = [_systems(report)]
    if len(report.contributions) > 1:
        tables.append(_contributions(report))
    if report.calibration != "none":
        tables.append(_calibration(report))
    if report.optimism:
        tables.append(_optimism(report.optimism, report.level))
    if report.sets:
        tables.append(_sets(report.sets))
    title = "Classes (ensemble)" if len(report.different) > 1 else "Classes"
    return [*tables, class_table(report.per_class, title, report.level, every_class=every_class)]


def score_tables(score: Score, *, level: float = 0.95, every_class: bool = False) -> list[Table]:
    """Return the tables of a score: its numbers, and the classes."""
    table = titled(f"{score.correct} of {score.n} right", ("metric", f"value [{100 * level:g} %]"))
    for title, value in (
        ("accuracy", score.accuracy),
        ("macro F1", score.macro_f1),
        ("balanced accuracy", score.balanced_accuracy),
    ):
        table.add_row(title, with_ends(value))
    table.add_row("accuracy of the commonest class", f"{score.majority:.4f}")
    return [table, class_table(score.per_class, "Classes", level, every_class=every_class)]


def with_ends(interval: Interval | None, *, signed: bool = False) -> str:
    """Return `0.8272 [0.8120, 0.8416]`, the value alone without an interval, and a dash for nothing."""
    if interval is None:
        return "–"
    form = "+.4f" if signed else ".4f"
    if interval.low is None or interval.high is None:
        return f"{interval.value:{form}}"
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def titled(title: str, columns: Sequence[str]) -> Table:
    """Return an empty table: the first column folds, the others, of numbers, never wrap."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=i > 0)
    return table


def plain(name: str) -> Text:
    """Return a name of the user's as it is: no markup, and nothing that steers a terminal."""
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name), overflow="fold")


def _systems(report: Report) -> Table:
    shown = [name for name in (UNEVEN if report.uneven else SHOWN) if name in report.ensemble.metrics]
    headline = f"{METRICS[report.headline].title} [{100 * report.level:g} %]"
    flattered = ", flattered" if report.flattered else ""
    title = f"{counted(report.n, 'image')} of {report.split}{flattered}"
    table = titled(title, ("system", headline, *(METRICS[name].title for name in shown)))
    for system in report.different:
        own = system.kind == "ensemble"
        if own:
            table.add_section()
        values = (f"{system.metrics[name].value:.4f}" for name in shown)
        table.add_row(
            plain(system.name), with_ends(system.metrics[report.headline]), *values, style="bold" if own else None
        )
    return table


def _contributions(report: Report) -> Table:
    gain = with_ends(report.gain, signed=True)
    table = titled("What each member adds", ("member", "weight", f"adds to accuracy [{100 * report.level:g} %]"))
    for part in report.contributions:
        table.add_row(plain(part.member), f"{part.weight:.3f}", with_ends(part.leave_one_out, signed=True))
    table.add_section()
    best = plain(f"ensemble − {report.best_member}")
    table.add_row(best, "", gain, style="bold")
    return table


def _calibration(report: Report) -> Table:
    table = titled(f"Calibration, fitted on {report.calibrated_on}", ("system", "temperature", "NLL", "ECE", "Brier"))
    for system in report.different:
        values = (
            f"{system.uncalibrated[k].value:.4f} → {system.metrics[k].value:.4f}" for k in ("nll", "ece", "brier")
        )
        warmth = "by class" if system.temperature is None else f"{system.temperature:.3f}"
        table.add_row(plain(system.name), warmth, *values, style="bold" if system.kind == "ensemble" else None)
    return table


def _optimism(optimism: Optimism, level: float) -> Table:
    title = "Honest, and as it would be with weights and calibration chosen on the scored images"
    table = titled(title, ("metric", "honest", "chosen on the score", f"optimism gap [{100 * level:g} %]"))
    for key in ("accuracy", "nll", "ece"):
        honest, flattered = optimism.honest[key], optimism.flattered[key]
        gap = with_ends(optimism.gap[key], signed=True)
        table.add_row(METRICS[key].title, f"{honest.value:.4f}", f"{flattered.value:.4f}", gap)
    return table


def _sets(sets: Sets) -> Table:
    title = f"Prediction sets ({sets.method}): {100 * sets.asked:g} % asked, fitted on {counted(sets.fitted, 'image')}"
    table = titled(title, ("size", "images", "hold the true class [95 %]"))
    for part in sets.by_size:
        table.add_row(str(part.size), str(part.images), with_ends(part.coverage))
    table.add_section()
    table.add_row(f"{sets.mean_size:.2f} on average", str(sets.scored), with_ends(sets.coverage), style="bold")
    return table


def cascade_tables(report: CascadeReport) -> list[Table]:
    """Return what each step of a cascade scores and costs, and the cascade against the whole ensemble."""
    steps = titled(
        f"The first members, {counted(report.scored, 'image')} ({report.device})",
        ("up to", "ms an image", "accuracy [95 %]", "stops from", "stopped"),
    )
    for step in report.steps:
        sure = "–" if step.threshold is None else f"{step.threshold:.3f}"
        cost, share = f"{step.milliseconds:.2f}", f"{100 * step.stopped:.1f} %"
        steps.add_row(plain(step.member), cost, with_ends(step.accuracy), sure, share)
    whole = titled(
        f"The cascade, within {100 * report.budget:g} points on {counted(report.fitted, 'image')}, scored on others",
        ("system", "ms an image", "accuracy [95 %]", "times faster"),
    )
    whole.add_row("whole ensemble", f"{report.whole_milliseconds:.2f}", with_ends(report.whole), "1.00")
    times = f"{report.speedup:.2f}"
    whole.add_row("cascade", f"{report.milliseconds:.2f}", with_ends(report.accuracy), times, style="bold")
    whole.add_section()
    whole.add_row("lost", "", with_ends(report.loss, signed=True), "")
    return [steps, whole]


def distil_table(report: DistilReport) -> Table:
    """Return a student's accuracy beside its teacher's."""
    table = titled(
        f"{counted(report.scored, 'image')}: {report.kept}", ("system", "accuracy [95 %]", "student less it [95 %]")
    )
    gap = report.gap
    back = (None, None) if gap.low is None or gap.high is None else (-gap.high, -gap.low)
    lost = Interval(value=-gap.value, low=back[0], high=back[1])
    table.add_row(
        plain(f"{report.best}, best single"), with_ends(report.best_accuracy), with_ends(report.gain, signed=True)
    )
    table.add_row("ensemble", with_ends(report.ensemble_accuracy), with_ends(lost, signed=True))
    if report.untaught and report.taught:
        name = plain(f"{report.student}, as a member")
        table.add_row(name, with_ends(report.untaught), with_ends(report.taught, signed=True))
    table.add_row(plain(f"{report.student}, student"), with_ends(report.student_accuracy), "")
    return table


def precision_table(report: PrecisionReport) -> Table:
    """Return what an ensemble says and takes as trained, and in bfloat16."""
    table = titled(
        f"{report.changed:.2%} of {counted(report.scored, 'answer')} change; {report.allowed:.2%} may",
        ("precision", "accuracy [95 %]", "lost [95 %]", "ms per image", "×"),
    )
    before, after = report.milliseconds
    table.add_row("as trained", with_ends(report.float32), "", f"{before:.2f}", "1.00")
    lost = with_ends(report.loss, signed=True)
    table.add_row("bfloat16", with_ends(report.bfloat16), lost, f"{after:.2f}", f"{report.speedup:.2f}")
    return table


def prune_table(report: PruneReport) -> Table:
    """Return what is left of an ensemble as its members are dropped one by one."""
    flattered = ", flattered" if report.flattered else ""
    table = titled(
        f"Within {100 * report.budget:g} points on {counted(report.chosen_by, 'image')}{flattered}",
        ("members", "accuracy [95 %]", "lost [95 %]"),
    )
    for i, step in enumerate(report.steps):
        last = i == len(report.steps) - 1
        if last:
            table.add_section()
        names = plain(f"{len(step.members)}: {', '.join(step.members)}")
        table.add_row(
            names, with_ends(step.accuracy), with_ends(step.loss, signed=True), style="bold" if last else None
        )
    return table


def class_table(results: Sequence[ClassResult], title: str, level: float, *, every_class: bool = False) -> Table:
    """Return a table of classes: all in their order, or, of more than twenty, the ten worst and the ten best by F1."""
    rows = [r for r in results if every_class or r.f1 is not None]
    parts = [rows]
    if not every_class and len(rows) > 2 * ENDS:
        # Sorting keeps the order of equals, so the same report always gives the same table.
        rows = sorted(rows, key=lambda r: r.f1 or 0.0)
        parts = [rows[:ENDS], rows[-ENDS:]]
        title = f"{title}: {ENDS} worst and {ENDS} best of {len(results)} by F1"
    table = titled(title, ("class", "images", f"recognised [{100 * level:g} %]", "precision", "F1"))
    for part in parts:
        for r in part:
            shares = ("–" if x is None else f"{x:.3f}" for x in (r.precision, r.f1))
            table.add_row(plain(r.name), str(r.support), with_ends(r.accuracy), *shares)
        table.add_section()
    return table
