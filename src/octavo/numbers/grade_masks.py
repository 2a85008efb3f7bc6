"""Confusions of images → a report: mIoU by a named rule, what is told beside it, and every class, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from octavo.errors import UserError, lookup
from octavo.numbers.averages import Confusions, Doubles, Flags, Means, ratio
from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.draws import Draws, ends
from octavo.numbers.gap import Gap, permutation_p
from octavo.numbers.mask_results import MaskClass, RuleValue, SegmentReport
from octavo.numbers.results import Interval
from octavo.numbers.rules import BESIDE, NOTHING, RULES, Rule
from octavo.words import counted

HEADLINE, PIXELS = "miou", "pixel_accuracy"

_FLATTERED = {
    "train": "flattered: the segmenter was trained on the images that are scored",
    "holdout": "flattered: the epoch may have been chosen on the images that are scored",
}


def grade_masks(
    confusions: Confusions,
    names: Sequence[str],
    scored: Flags,
    *,
    rule: str,
    split: str,
    seed: int = 0,
    replicates: int = 2000,
    level: float = 0.95,
    groups: NDArray[np.integer] | None = None,
) -> SegmentReport:
    """Return the report of a segmenter on one set of images.

    Args:
        confusions: int64 [n,C+1,C+1], one an image (see `confusion`).
        names: the C trained classes, in the order of channels.
        scored: bool [C], which of them the table of classes scores; only the rule `course` asks.
        rule: of the headline, a key of `RULES`.
        split: what the images are: `val`, `test`, `holdout`, `train`, or a name of the caller's.
        seed: of the resamples.
        replicates: how many resamples.
        level: of all intervals.
        groups: int [n], images that are resampled together, as tiles of one scene.

    Raises:
        UserError: unknown rule, or no images.
        ValueError: shapes that do not belong together.
    """
    chosen = lookup(RULES, rule, "measure.rule")
    if not len(confusions):
        raise UserError("evaluate: no images to score; expected at least one image with a mask")
    boot = Bootstrap(np.zeros(len(confusions), np.int64), replicates, seed, level, stratify=False, groups=groups)
    rules = {HEADLINE: chosen, **BESIDE}
    drawn = {key: _Drawn.of(r.means(confusions, scored), boot) for key, r in rules.items()}
    total = confusions.sum(axis=0)
    flattery = (_FLATTERED[split],) if split in _FLATTERED else ()
    at_all = {key: float(one.at_all.value[0]) for key, one in drawn.items()}
    constant = _constant_warning(confusions, names, scored, chosen, at_all)
    warnings = (*flattery, *constant, *_warnings(confusions, names, chosen, drawn[HEADLINE].at_all))
    return SegmentReport(
        split=split,
        n=len(confusions),
        pixels=int(total[:-1].sum()),
        classes=tuple(names),
        rule_name=chosen.name,
        rule_title=chosen.title,
        rule=_sentence(chosen, split, boot),
        rules={key: f"{r.text} ({r.source})" for key, r in rules.items()},
        level=level,
        replicates=replicates,
        seed=seed,
        flattered=bool(flattery),
        metrics={key: d.interval(boot) for key, d in drawn.items()},
        per_class=_classes(total, names, drawn[HEADLINE], boot),
        confusion=tuple(tuple(row) for row in total.tolist()),
        warnings=warnings,
    )


def mask_gap(
    confusions: Confusions, held: int, units: NDArray[np.integer], scored: Flags, rule: str, seed: int = 0
) -> Gap:
    """Return the gap in mIoU between the first `held` images and the others, from counts int64 [n,C+1,C+1] of both.

    Where a class occurs in one of the two alone and the rule then has no number, it is a gap in pixel accuracy.
    `units` int [n] are images or groups of them, see `permutation_p`.
    """
    first = np.zeros((1, len(confusions)))
    first[0, :held] = 1

    for chosen in (RULES[rule], BESIDE["pixel_accuracy"]):
        means = chosen.means(confusions, scored)
        numbers = [float(means(weight).value[0]) for weight in (first, 1 - first)]
        if not np.isnan(numbers).any():
            break
    return Gap(numbers[0], numbers[1], permutation_p(lambda weight: means(weight).value, held, units, seed))


def present_in(confusions: Confusions) -> Flags:
    """Return which classes have a pixel in the true masks of images, bool [C], from counts [n,C+1,C+1]."""
    return confusions.sum(axis=(0, 2))[:-1] > 0


def mask_card(confusions: Confusions, names: Sequence[str], scored: Flags, headline: str) -> tuple[RuleValue, ...]:
    """Return what every rule makes of the same predictions: the headline, the other rules, what is told beside.

    Args:
        confusions: int64 [n,C+1,C+1], one an image.
        names: the C trained classes.
        scored: bool [C].
        headline: a key of `RULES`.
    """
    first = lookup(RULES, headline, "measure.rule")
    rows = []
    for rule in (first, *(r for r in RULES.values() if r is not first), *BESIDE.values()):
        value, note = rule.score(confusions, scored).value, _note(rule, confusions, names, scored)
        rows.append(RuleValue(rule=rule.name, title=rule.title, source=rule.source, value=value, note=note))
    return tuple(rows)


def _note(rule: Rule, confusions: Confusions, names: Sequence[str], scored: Flags) -> str:
    """Say what became of classes that don't occur, if there are any and the rule does something with them."""
    if rule.absent == NOTHING:
        return ""
    union = rule.count(confusions).union
    if rule.by_image:
        empty = int(np.count_nonzero(union == 0))
        return f"{empty} of {union.size} pairs of image and class are empty: {rule.absent}" if empty else ""
    absent = (union.sum(axis=0) == 0) & (scored | (not rule.scored_alone))
    return f"absent {_named(names, absent)}: {rule.absent}" if absent.any() else ""


class _Drawn:
    """A rule's numbers on the images as they are, and on each resample."""

    def __init__(self, at_all: Means, values: Doubles, per_class: Doubles) -> None:
        self.at_all, self.values, self.per_class = at_all, values, per_class

    @classmethod
    def of(cls, means: Callable[[Doubles], Means], boot: Bootstrap) -> _Drawn:
        resampled = [means(weight) for weight in boot.weights()]
        return cls(
            means(np.ones((1, len(boot.labels)))),
            np.concatenate([m.value for m in resampled]),
            np.concatenate([m.per_class for m in resampled]),
        )

    def interval(self, boot: Bootstrap) -> Interval | None:
        return interval_of(self.at_all.value[0], self.values, boot.level, boot.freedom)

    def class_interval(self, index: int, boot: Bootstrap) -> Interval | None:
        return interval_of(self.at_all.per_class[0, index], self.per_class[:, index], boot.level, boot.freedom)


def interval_of(
    value: float, replicates: Doubles, level: float, freedom: int, *, difference: bool = False
) -> Interval | None:
    """Return a number with the interval that its resamples [R] give; `None` for no number.

    The ends are made as `Bootstrap` makes those of a metric, or of a difference. A resample may have no number, as one
    without any image of a class. Where more than 1 - `level` of them have none, or all are equal, there is no interval.
    """
    if np.isnan(value):
        return None
    known = replicates[~np.isnan(replicates)]
    if len(known) < level * len(replicates) or (draws := Draws(float(value), known)).constant:
        return Interval(value=float(value), low=None, high=None)
    low, high = draws.percentiles(level, freedom) if difference else ends(draws, level, freedom, "logit")
    return Interval(value=float(value), low=low, high=high)


def _classes(total: NDArray[np.int64], names: Sequence[str], drawn: _Drawn, boot: Bootstrap) -> tuple[MaskClass, ...]:
    """Return how each class came out, from the summed confusion [C+1,C+1]."""
    hits = np.diagonal(total)[:-1].astype(np.float64)
    truth, called = total[:-1].sum(axis=1).astype(np.float64), total[:-1, :-1].sum(axis=0).astype(np.float64)
    pixels = max(truth.sum(), 1.0)

    def known(number: float) -> float | None:
        return None if np.isnan(number) else float(number)

    return tuple(
        MaskClass(
            name=name,
            scored=bool(drawn.at_all.counted[0, i]),
            iou=drawn.class_interval(i, boot),
            accuracy=known(ratio(hits, truth)[i]),
            precision=known(ratio(hits, called)[i]),
            truth=truth[i] / pixels,
            predicted=called[i] / pixels,
        )
        for i, name in enumerate(names)
    )


def _named(names: Sequence[str], chosen: Flags) -> str:
    listed = [name for name, take in zip(names, chosen, strict=True) if take]
    return ", ".join(listed[:5]) + (f", … ({len(listed)})" if len(listed) > 5 else "")


def _warnings(confusions: Confusions, names: Sequence[str], rule: Rule, means: Means) -> tuple[str, ...]:
    total, found = confusions.sum(axis=0), []
    lacking = total[:-1].sum(axis=1) == 0
    if lacking.any():
        found.append(
            f"{int(lacking.sum())} of {len(names)} classes have no pixel in the masks that are scored: "
            f"{_named(names, lacking)}"
        )
    if np.isnan(means.value[0]):
        found.append(
            f'no mIoU: rule "{rule.name}" divides by zero where a class occurs in neither truth nor prediction; choose '
            'a rule that says what such a class is worth, such as "mmsegmentation" (it is left out)'
        )
    if blank := int(total[:-1, -1].sum()):
        found.append(f"{blank:,} of {int(total[:-1].sum()):,} pixels have no predicted class and so are wrong")
    if len(confusions) == 1:
        found.append("one image alone: no interval can be had from it")
    return tuple(found)


def _constant_warning(
    confusions: Confusions, names: Sequence[str], scored: Flags, rule: Rule, found: Mapping[str, float]
) -> tuple[str, ...]:
    """Return a warning if mIoU or pixel accuracy, of those found, is below that of naming one class everywhere."""
    truth = confusions.sum(axis=0)[:-1].sum(axis=1)
    commonest = int(truth.argmax())
    constant = np.zeros_like(confusions)
    constant[:, :, commonest] = confusions.sum(axis=2)
    below = []
    for key, one in {HEADLINE: rule, PIXELS: BESIDE[PIXELS]}.items():
        value = one.score(constant, scored).value
        if value is not None and found[key] < value - 1e-9:
            below.append(f"{'mIoU' if key == HEADLINE else one.title} {found[key]:.4f} (that: {value:.4f})")
    named = f'worse than always naming the commonest class, "{names[commonest]}": '
    return (named + ", ".join(below),) if below and truth.any() else ()


def _sentence(rule: Rule, split: str, boot: Bootstrap) -> str:
    n, grouped = len(boot.labels), boot.groups is not None
    what = f"{counted(boot.units, 'group')} of the scored images" if grouped else "scored images"
    alike = "" if grouped else (
        "Images of one scene are alike, so that intervals are too narrow where the images are tiles or frames of few "
        "scenes. "
    )  # fmt: skip
    return (
        f"Scored on {counted(n, 'image')} of split {split}. mIoU by the rule {rule.name}: {rule.text} "
        f"Intervals: {100 * boot.level:g} %, bootstrap of the {what}, {boot.replicates} resamples, seed {boot.seed}; "
        f"resampled bias and deviation with Student's t on the logit scale. {alike}They leave out the spread between "
        "trainings."
    )
