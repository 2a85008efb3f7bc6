"""First screen of a classification report: the accuracy to quote, best and worst classes, what was checked."""

from __future__ import annotations

from collections.abc import Iterable

from octavo.looks.subject import ClassifySubject
from octavo.numbers.power import beats_commonest
from octavo.page.beware import Finding, above, some_of
from octavo.page.cells import percent
from octavo.page.page import Headline
from octavo.page.summary import Summary, decimal, ends_text, interval_text, points, rankings_of
from octavo.words import counted

FEW_OF_CLASS = 10
"""Validation images of one class below which it counts as thin."""


def summary_of(subject: ClassifySubject) -> Summary:
    """Return what the first screen says of a run of classifiers."""
    classes = [(c.name, c.accuracy) for c in subject.report.per_class if c.accuracy]
    purpose = f"to tell {counted(len(subject.classes), 'class')} apart"
    return Summary(purpose, _headline(subject), rankings_of(classes), tuple(_findings(subject)))


def _headline(subject: ClassifySubject) -> Headline:
    report = subject.report
    found, many = report.ensemble.metrics[report.headline], len(subject.members) > 1
    who = "the ensemble" if many else subject.members[0]
    beside = [f"Always naming the commonest class would give {percent(report.majority)}."]
    if report.uneven:
        balanced, f1 = (report.ensemble.metrics[key] for key in ("balanced_accuracy", "macro_f1"))
        first = f"balanced accuracy {percent(balanced.value)} ({ends_text(balanced, percent)})"
        beside.insert(0, f"Classes are uneven: {first}, macro F1 {f1.value:.3f} ({ends_text(f1, decimal)}).")
    if report.optimism and not report.flattered:
        flattered, gap = report.optimism.flattered[report.headline], report.optimism.gap[report.headline]
        beside.insert(0, f"Weights chosen on these very images would make it read {percent(flattered.value)}: "
                      f"{points(gap)}, and no better.")  # fmt: skip
    if many:
        beside.insert(0, f"{points(report.gain)} than the best member, {report.best_member}.")
    measure = report.headline.replace("_", " ").capitalize()
    return Headline(
        label=f"{measure} of {who} on {counted(report.n, 'validation image')}",
        value=percent(found.value),
        interval=interval_text(found, report.level, percent),
        rule=report.rules[report.headline],
        details=f"{report.rule} {report.power}".strip(),
        beside=tuple(beside),
        source="metrics.json",
    )


def _findings(subject: ClassifySubject) -> Iterable[Finding]:
    report = subject.report
    supports = {c.name: c.support for c in report.per_class}
    absent = [name for name, count in supports.items() if not count]
    told = any("no image among those scored" in text for text in report.warnings)
    if absent and not told:
        yield True, f"{some_of(absent, len(supports))} no validation image"
    thin = [name for name, count in supports.items() if 0 < count < FEW_OF_CLASS]
    if thin:
        yield True, f"{some_of(thin, len(supports))} fewer than {FEW_OF_CLASS} validation images"
    if not absent and not thin:
        yield False, f"every class has {FEW_OF_CLASS} validation images or more"
    accuracy = report.ensemble.metrics["accuracy"]
    sure = beats_commonest(report.per_class, accuracy)
    wrong, words = above(accuracy, report.majority, sure, "naming the commonest class")
    if not wrong:  # where it is, that stands among the report's own warnings
        yield False, words
