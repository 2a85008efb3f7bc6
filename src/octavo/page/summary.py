"""The first screen of a run's report: how good, on what, how sure; best and worst classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.looks.names import displayable
from octavo.looks.subject import ClassifySubject, SegmentSubject
from octavo.numbers.results import Interval
from octavo.page.beware import Finding, beware
from octavo.page.cells import percent
from octavo.page.page import Fact, Headline, Page, Ranked, Ranking, Section
from octavo.recipe import Network, Recipe
from octavo.words import counted

_SHOWN = 3  # classes at either end
_NAMED = 8  # networks by name
_PARTS = {"fit": "training", "holdout": "held out of it", "val": "validation", "test": "test"}
_NO_INTERVAL = "No honest interval can be had."
Written = Callable[[float], str]
"""How a share (0–1) is written."""


@dataclass(frozen=True)
class Summary:
    """What a task says on the first screen of a report.

    Attributes:
        purpose: what was trained, as an infinitive: `to tell 10 classes apart`.
        headline: the number to quote.
        rankings: best and worst classes.
        findings: what was checked.
    """

    purpose: str
    headline: Headline
    rankings: tuple[Ranking, ...]
    findings: tuple[Finding, ...]


def page_of(
    subject: ClassifySubject | SegmentSubject, summary: Summary, sections: Sequence[Section], notes: Sequence[str] = ()
) -> Page:
    """Return the page of a finished run."""
    found = beware(subject, summary.findings)
    return Page(
        title=displayable(subject.run.path.resolve().name),
        lead=_lead(subject, summary.purpose),
        headlines=(summary.headline,),
        rankings=summary.rankings,
        facts=_facts(subject),
        warnings=found.warnings,
        checked=found.checked,
        notes=tuple(notes),
        sections=tuple(sections),
    )


def _lead(subject: ClassifySubject | SegmentSubject, purpose: str) -> str:
    recipe = subject.recipe
    count = len(recipe.networks)
    who = _network(recipe.networks[0]) if count == 1 else f"An ensemble of {_of_them(subject)}"
    parts = subject.manifest["data"]["parts"]
    folds = f" in {recipe.folds} folds" if recipe.folds else ""
    fit = counted(parts["holdout"] if recipe.folds else parts["fit"], "image") + folds
    scored = counted(subject.report.n, "validation image")
    return f"{who}, trained on {fit} of {_data(subject)} {purpose}, and scored on {scored}."


def _of_them(subject: ClassifySubject | SegmentSubject) -> str:
    """Return how many networks there are, and how many have a weight where not all do."""
    size, idle = len(subject.recipe.networks), len(subject.idle)
    has = "has" if size - idle == 1 else "have"
    return f"{size} networks, {size - idle} of which {has} a weight" if idle else f"{size} networks"


def _facts(subject: ClassifySubject | SegmentSubject) -> tuple[Fact, ...]:
    manifest, recipe = subject.manifest, subject.recipe
    data = manifest["data"]
    called = _PARTS | ({"holdout": f"training, in {recipe.folds} folds"} if recipe.folds else {})
    parts = ", ".join(f"{data['parts'][part]:,} {words}" for part, words in called.items() if data["parts"].get(part))
    split = "split as the data are" if data["own_split"] else f"{percent(recipe.data.val)} drawn at random to validate"
    named = [_network(network) if len(recipe.networks) == 1 else network.name for network in recipe.networks[:_NAMED]]
    if more := len(recipe.networks) - len(named):
        named.append(f"and {more} more")
    idle, before = subject.idle, subject.run.unpruned
    kept = before.used if before else {}
    by = {"without a weight": [n for n in idle if n not in kept], "pruned": [n for n in idle if n in kept]}
    silent = "".join(f"; {how}: {', '.join(who)}" for how, who in by.items() if who)
    hardware = manifest["hardware"]
    return (
        Fact("data", _data(subject)),
        Fact("images", f"{parts}; {split}"),
        Fact("classes", _listed(subject.classes)),
        Fact("networks", f"{', '.join(named)}{silent}"),
        Fact("training", _training(recipe)),
        Fact("recipe", f"{recipe.name}, seed {recipe.seed}; Octavo {manifest['octavo']} on {hardware['device']}"),
    )  # fmt: skip


def _data(subject: ClassifySubject | SegmentSubject) -> str:
    root = str(subject.manifest["data"]["root"])
    return root if root.startswith("torchvision:") else displayable(Path(root).name) or root


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names) if len(names) <= 7 else f"{', '.join(names[:3])}, … {names[-1]}"
    return f"{len(names):,}: {shown}"


def _network(network: Network) -> str:
    """Return a network's name, and what it is if the name doesn't say."""
    backbone, own = getattr(network, "backbone", network.name), getattr(network, "network", "fcn")
    if own != "fcn":
        return own
    what = f"FCN-{stride}s on {backbone}" if (stride := getattr(network, "stride", None)) else backbone
    return network.name if network.name == what else what if stride else f"{network.name} ({what})"


def _training(recipe: Recipe) -> str:
    """Return how the networks were trained: from what, which layers, how long."""
    trained = [recipe.train_of(network) for network in recipe.networks]
    start = {"from scratch" if n.weights == "none" else "from pretrained weights" for n in recipe.networks}
    modes = {"heads alone, extractors frozen" if t.mode == "frozen" else "all layers" for t in trained}
    epochs = sorted({t.epochs for t in trained})
    span = f"{epochs[0]} to {epochs[-1]} epochs" if len(epochs) > 1 else counted(epochs[0], "epoch", "epochs")
    return f"{_both(start)}; {_both(modes)}; {span}"


def _both(words: set[str]) -> str:
    return " or ".join(sorted(words))


def points(gain: Interval) -> str:
    """Return a difference of two shares in words, with its interval."""
    more = "higher" if gain.value >= 0 else "lower"
    ends = "" if gain.low is None or gain.high is None else f" ({_signed(gain.low)} to {_signed(gain.high)})"
    return f"{abs(100 * gain.value):.1f} points{ends} {more}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def decimal(share: float) -> str:
    """Return an IoU as it is written in the field, with three decimals."""
    return f"{share:.3f}"


def interval_text(found: Interval, level: float, written: Written) -> str:
    """Return an interval in words, with its level; a sentence where there is none."""
    return f"{100 * level:g} % interval: {ends_text(found, written)}" if ends_text(found, written) else _NO_INTERVAL


def ends_text(found: Interval, written: Written) -> str:
    """Return the ends of an interval in words; empty where it has none."""
    if found.low is None or found.high is None:
        return ""
    return f"{written(found.low).removesuffix(' %')} to {written(found.high)}"


def rankings_of(
    classes: Sequence[tuple[str, Interval]], measure: str = "accuracy", written: Written = percent
) -> tuple[Ranking, ...]:
    """Return the best and the worst classes; all of them in one ranking where they are few."""
    order = sorted(classes, key=lambda pair: -pair[1].value)
    rows = tuple(Ranked(name, found.value, written(found.value), ends_text(found, written)) for name, found in order)
    if len(rows) <= 2 * _SHOWN - 1:
        return (Ranking(f"Classes by {measure}, best first", rows),) if rows else ()
    return (
        Ranking(f"Best classes by {measure}", rows[:_SHOWN]),
        Ranking(f"Worst classes by {measure}", rows[: -_SHOWN - 1 : -1]),
    )
