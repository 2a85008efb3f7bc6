"""The first screen of a run's report: how good, on what, how sure; best and worst classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from octavo.looks.names import displayable
from octavo.looks.subject import ClassifySubject, SegmentSubject
from octavo.numbers.results import Interval
from octavo.page.beware import Beware
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


def page_of(
    subject: ClassifySubject | SegmentSubject, beware: Beware, sections: Sequence[Section], notes: Sequence[str] = ()
) -> Page:
    """Return the page of a finished run."""
    masks = isinstance(subject, SegmentSubject)
    return Page(
        title=displayable(subject.run.path.resolve().name),
        lead=_lead(subject),
        headlines=(_of_masks(subject) if masks else _of_labels(subject),),
        rankings=_rankings(_classes_of_masks(subject), "IoU", _decimal) if masks else _rankings(_classes(subject)),
        facts=_facts(subject),
        warnings=beware.warnings,
        checked=beware.checked,
        notes=tuple(notes),
        sections=tuple(sections),
    )


def _lead(subject: ClassifySubject | SegmentSubject) -> str:
    recipe, classes = subject.recipe, counted(len(subject.classes), "class")
    count = len(recipe.networks)
    who = _network(recipe.networks[0]) if count == 1 else f"An ensemble of {_of_them(subject)}"
    task = f"to label every pixel as one of {classes}" if recipe.task == "segment" else f"to tell {classes} apart"
    parts = subject.manifest["data"]["parts"]
    folds = f" in {recipe.folds} folds" if recipe.folds else ""
    fit = counted(parts["holdout"] if recipe.folds else parts["fit"], "image") + folds
    scored = counted(subject.report.n, "validation image")
    return f"{who}, trained on {fit} of {_data(subject)} {task}, and scored on {scored}."


def _of_them(subject: ClassifySubject | SegmentSubject) -> str:
    """Return how many networks there are, and how many have a weight where not all do."""
    size, idle = len(subject.recipe.networks), len(_idle(subject))
    has = "has" if size - idle == 1 else "have"
    return f"{size} networks, {size - idle} of which {has} a weight" if idle else f"{size} networks"


def _idle(subject: ClassifySubject | SegmentSubject) -> list[str]:
    """Return the members without a weight."""
    if isinstance(subject, SegmentSubject):
        return []
    used = subject.run.ensemble.used
    return [name for name in subject.members if name not in used]


def _facts(subject: ClassifySubject | SegmentSubject) -> tuple[Fact, ...]:
    manifest, recipe = subject.manifest, subject.recipe
    data = manifest["data"]
    called = _PARTS | ({"holdout": f"training, in {recipe.folds} folds"} if recipe.folds else {})
    parts = ", ".join(f"{data['parts'][part]:,} {words}" for part, words in called.items() if data["parts"].get(part))
    split = "split as the data are" if data["own_split"] else f"{percent(recipe.data.val)} drawn at random to validate"
    named = [_network(network) if len(recipe.networks) == 1 else network.name for network in recipe.networks[:_NAMED]]
    if more := len(recipe.networks) - len(named):
        named.append(f"and {more} more")
    idle, before = _idle(subject), subject.run.unpruned
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


def _of_labels(subject: ClassifySubject) -> Headline:
    report = subject.report
    found, many = report.ensemble.metrics[report.headline], len(subject.members) > 1
    who = "the ensemble" if many else subject.members[0]
    beside = [f"Always naming the commonest class would give {percent(report.majority)}."]
    if report.uneven:
        balanced, f1 = (report.ensemble.metrics[key] for key in ("balanced_accuracy", "macro_f1"))
        beside.insert(0, f"Classes are uneven: balanced accuracy {percent(balanced.value)} "
                      f"({_ends(balanced, percent)}), macro F1 {f1.value:.3f} ({_ends(f1, _decimal)}).")  # fmt: skip
    if report.optimism and not report.flattered:
        flattered, gap = report.optimism.flattered[report.headline], report.optimism.gap[report.headline]
        beside.insert(0, f"Weights chosen on these very images would make it read {percent(flattered.value)}: "
                      f"{_points(gap)}, and no better.")  # fmt: skip
    if many:
        beside.insert(0, f"{_points(report.gain)} than the best member, {report.best_member}.")
    return Headline(
        label=f"{_words(report.headline).capitalize()} of {who} on {counted(report.n, 'validation image')}",
        value=percent(found.value),
        interval=_interval(found, report.level, percent),
        rule=report.rules[report.headline],
        details=f"{report.rule} {report.power}".strip(),
        beside=tuple(beside),
        source="metrics.json",
    )


def _of_masks(subject: SegmentSubject) -> Headline:
    report = subject.report
    found, scored = report.metrics[report.headline], sum(c.scored for c in report.per_class)
    pixels = report.metrics.get("pixel_accuracy")
    beside = [f"Right pixels: {percent(pixels.value)} ({_interval(pixels, report.level, percent)})."] if pixels else []
    return Headline(
        label=f"mIoU of {counted(scored, 'class', 'classes')} on {counted(report.n, 'validation image')}",
        value=_decimal(found.value) if found else "no number",
        interval=_interval(found, report.level, _decimal) if found else "See what is wrong.",
        rule=f"{report.rule_title}. {report.rules[report.headline]}",
        details=report.rule,
        beside=tuple(beside),
        source="metrics.json",
    )


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _points(gain: Interval) -> str:
    """Return a difference of two shares in words, with its interval."""
    more = "higher" if gain.value >= 0 else "lower"
    ends = "" if gain.low is None or gain.high is None else f" ({_signed(gain.low)} to {_signed(gain.high)})"
    return f"{abs(100 * gain.value):.1f} points{ends} {more}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _decimal(share: float) -> str:
    """Return an IoU as it is written in the field, with three decimals."""
    return f"{share:.3f}"


def _interval(found: Interval, level: float, written: Written) -> str:
    return f"{100 * level:g} % interval: {_ends(found, written)}" if _ends(found, written) else _NO_INTERVAL


def _ends(found: Interval, written: Written) -> str:
    if found.low is None or found.high is None:
        return ""
    return f"{written(found.low).removesuffix(' %')} to {written(found.high)}"


def _classes(subject: ClassifySubject) -> list[tuple[str, Interval]]:
    return [(c.name, c.accuracy) for c in subject.report.per_class if c.accuracy]


def _classes_of_masks(subject: SegmentSubject) -> list[tuple[str, Interval]]:
    return [(c.name, c.iou) for c in subject.report.per_class if c.iou and c.scored]


def _rankings(
    classes: Sequence[tuple[str, Interval]], measure: str = "accuracy", written: Written = percent
) -> tuple[Ranking, ...]:
    """Return the best and the worst classes; all of them in one ranking where they are few."""
    order = sorted(classes, key=lambda pair: -pair[1].value)
    rows = tuple(Ranked(name, found.value, written(found.value), _ends(found, written)) for name, found in order)
    if len(rows) <= 2 * _SHOWN - 1:
        return (Ranking(f"Classes by {measure}, best first", rows),) if rows else ()
    return (
        Ranking(f"Best classes by {measure}", rows[:_SHOWN]),
        Ranking(f"Worst classes by {measure}", rows[: -_SHOWN - 1 : -1]),
    )
