"""The page of a comparison of runs."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.looks.comparison import WHAT, verdict
from octavo.looks.look import Drawing
from octavo.numbers.compare_results import Comparison, Pair, RunSide
from octavo.numbers.results import Interval
from octavo.page.cells import percent
from octavo.page.page import Fact, Headline, Page, Ranked, Ranking, Section
from octavo.pictures.style import drawn
from octavo.words import counted


def page_of(comparison: Comparison, drawings: Sequence[Drawing], source: str) -> Page:
    """Return the page of a comparison, its drawings in their order; its numbers lie in the file `source`."""
    runs = comparison.runs
    kind = {"classify": "classifiers", "segment": "segmenters"}[comparison.task]
    return Page(
        title=" and ".join(run.name for run in runs) if len(runs) == 2 else f"{len(runs)} runs",
        kind="Octavo comparison",
        lead=f"{len(runs)} {kind} side by side on the {counted(comparison.n, 'validation image')} that all of them "
        "were scored on.",
        headlines=(_headline(comparison, source),),
        rankings=(_ranking(comparison),),
        facts=_facts(comparison),
        warnings=comparison.warnings,
        checked=_checked(comparison),
        sections=tuple(_section(drawing) for drawing in drawings),
    )


def _section(drawing: Drawing) -> Section:
    pictures = {
        name: figure if isinstance(figure, bytes) else drawn(figure) for name, figure in drawing.figures.items()
    }
    return Section(drawing.look, pictures)


def _headline(comparison: Comparison, source: str) -> Headline:
    """Return the difference of the two best runs."""
    first, second = _by_value(comparison)[:2]
    pair = next(pair for pair in comparison.pairs if {pair.first, pair.second} == {first.name, second.name})
    what, level = WHAT[comparison.headline], 100 * comparison.level
    turned = pair.first != first.name
    low, high = pair.difference.low, pair.difference.high
    ends = None if low is None or high is None else (-high, -low) if turned else (low, high)
    apart = verdict(pair, comparison.level)
    said = apart if pair.p is None else f"{apart} (p {_chance(pair, comparison.replicates)})"
    return Headline(
        label=f"{what} of {first.name} less that of {second.name}",
        value=f"{_points(abs(pair.difference.value))} points",
        interval=(f"{level:g} % interval: {_points(ends[0])} to {_points(ends[1])} points; " if ends else "") + said,
        rule="Both runs on the same images; an interval of the difference, not a difference of intervals.",
        details=comparison.rule,
        beside=_beside(comparison),
        source=source,
    )


def _beside(comparison: Comparison) -> tuple[str, ...]:
    pairs = comparison.pairs
    if len(pairs) == 1:
        return ()
    apart = sum(pair.told_apart for pair in pairs)
    return (f"Of all {len(pairs)} pairs, {apart} {'is' if apart == 1 else 'are'} told apart (Holm's correction).",)


def _by_value(comparison: Comparison) -> list[RunSide]:
    return sorted(comparison.runs, key=lambda run: -run.headline.value)


def _ranking(comparison: Comparison) -> Ranking:
    rows = tuple(
        Ranked(run.name, run.headline.value, percent(run.headline.value), _ends(run.headline))
        for run in _by_value(comparison)[:10]
    )
    title = {"accuracy": "Accuracy of each run's ensemble", "miou": "mIoU of each run"}[comparison.headline]
    return Ranking(title, rows)


def _ends(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f"{100 * interval.low:.1f}–{percent(interval.high)}"


def _facts(comparison: Comparison) -> tuple[Fact, ...]:
    runs = comparison.runs
    data = dict.fromkeys(run.data for run in runs)
    recipes = dict.fromkeys(run.recipe for run in runs)
    found = [
        Fact("images", f"{comparison.n:,} for validation, in all runs"),
        Fact("classes", f"{len(comparison.classes):,}"),
        Fact("data", ", ".join(data)),
        Fact("recipes", ", ".join(recipes)),
    ]
    if comparison.none_right is not None:
        share = percent(comparison.none_right / comparison.n)
        found.append(Fact("no run right", f"{comparison.none_right:,} images ({share})"))
    return tuple(found)


def _checked(comparison: Comparison) -> tuple[str, ...]:
    truth = {"classify": "label", "segment": "number of true pixels of each class"}[comparison.task]
    found = [f"every image that is compared has the same {truth} in all runs"]
    if not any(run.flattered for run in comparison.runs):
        found.append("nothing was chosen on the images that are scored")
    if all(run.validation == comparison.n for run in comparison.runs):
        found.append("no image is left out")
    return tuple(found)


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _chance(pair: Pair, replicates: int) -> str:
    p = 1.0 if pair.p is None or pair.p_holm is None else pair.p_holm
    if p < 1e-4:
        return "< 0.0001"
    least = pair.fourfold is None and pair.p is not None and pair.p < 2.5 / (replicates + 1)
    return f"{'≤' if least else '='} {p:.2g}"
