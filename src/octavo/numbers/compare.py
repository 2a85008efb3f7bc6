"""How runs differ on the same images: McNemar's test, a paired bootstrap, and Holm's correction for many pairs.

What is tested is whether two trained runs differ on images such as these. Whether one recipe is better than another is
another question: a second training with another seed differs too, and none of these numbers knows by how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student

from octavo.errors import UserError
from octavo.numbers.averages import Confusions, Flags, Means
from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.compare_results import BestMember, ClassSides, Fourfold, Pair
from octavo.numbers.draws import Draws
from octavo.numbers.exact import sign_test
from octavo.numbers.grade_masks import interval_of
from octavo.numbers.metrics import METRICS, Labels, mean_of
from octavo.numbers.results import Interval
from octavo.numbers.rule import Rule

FEWEST = 10
"""Images that a bootstrap needs to test anything: of a handful, resamples are too much alike."""
_ROUNDING = 1e-12
_MOST = 20_000


@dataclass(frozen=True)
class Compared:
    """What comes of a comparison of K runs.

    Attributes:
        headlines: each run's, with its interval.
        pairs: every pair of runs, in their order.
        per_class: every class, in the order of ids.
        best: the best member of each run; empty of segmenters.
    """

    headlines: tuple[Interval, ...]
    pairs: tuple[Pair, ...]
    per_class: tuple[ClassSides, ...]
    best: tuple[BestMember, ...] = ()


def replicates_for(runs: int) -> int:
    """Return how many resamples a comparison needs: 2,000 a pair, so that Holm's factor leaves p below 5 % in reach."""
    return min(2000 * max(1, runs * (runs - 1) // 2), _MOST)


def fourfold(first: Flags, second: Flags) -> Fourfold:
    """Count images by which of two runs is right on them; bool [n] each."""
    both, neither = int(np.count_nonzero(first & second)), int(np.count_nonzero(~(first | second)))
    first_only = int(np.count_nonzero(first)) - both
    return Fourfold(
        both=both, first_only=first_only, second_only=len(first) - both - neither - first_only, neither=neither
    )


def mcnemar(table: Fourfold) -> float:
    """Return McNemar's exact p: of so uneven a split of the images on which one run alone is right (two-sided).

    McNemar, Psychometrika 12, 1947, with the binomial distribution itself in place of chi-square, whatever their
    number. It is 1 where there are no such images.
    """
    return sign_test(table.first_only, table.second_only)


def bootstrap_p(differences: ArrayLike, level: float, freedom: int | None = None) -> float | None:
    """Return the smallest 1 - level at which a percentile interval of resampled differences [R] leaves out zero.

    With `freedom`, Student's degrees of freedom, that of the interval which is widened by them (`Draws.percentiles`).
    One is added to either count, as a p from resamples is never zero (Phipson and Smyth, Statistical Applications in
    Genetics and Molecular Biology 9, 2010). Resamples without a number don't count; `None` where more than
    1 − `level` of them have none, so that there is no interval either, and where all are equal, but not zero.
    """
    drawn = np.asarray(differences, np.float64)
    known = drawn[~np.isnan(drawn)]
    if not len(known) or len(known) < level * len(drawn) or (np.ptp(known) < _ROUNDING and abs(known[0]) >= _ROUNDING):
        return None
    tail = min(np.count_nonzero(known < _ROUNDING), np.count_nonzero(known > -_ROUNDING))
    p = min(1.0, 2 * (tail + 1) / (len(known) + 1))
    return p if freedom is None else float(2 * student.sf(norm.isf(p / 2), freedom))


def holm(values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Return p-values corrected for their number (Holm, Scandinavian Journal of Statistics 6, 1979), in their order.

    The smallest is multiplied by their number, the next by one less and so on; none falls below the one before it.
    SciPy has no such function (1.15). `None` stays, and counts as a test.
    """
    corrected: list[float | None] = [None] * len(values)
    largest, left = 0.0, len(values)
    known = [(p, place) for place, p in enumerate(values) if p is not None]
    for p, place in sorted(known):
        largest = max(largest, min(1.0, p * left))
        corrected[place] = largest
        left -= 1
    return tuple(corrected)


def compare_answers(
    names: Sequence[str],
    right: Flags,
    members: Sequence[Mapping[str, Flags]],
    labels: Labels,
    classes: Sequence[str],
    boot: Bootstrap,
) -> Compared:
    """Compare K runs of classifiers.

    Args:
        names: of the runs.
        right: bool [K,n], whether the run's ensemble is right on an image.
        members: for each run, its members' names with the same, bool [n].
        labels: int [n], class ids.
        classes: names of the classes, in the order of ids.
        boot: resamples of the n images.
    """
    best = [max(own, key=lambda name, own=own: int(own[name].sum())) for own in members]
    flags = [*right, *(own[name] for own, name in zip(members, best, strict=True))]
    draws = boot.draw({i: mean_of(flag) for i, flag in enumerate(flags)})
    runs, accuracy = len(names), METRICS["accuracy"]
    tables = [fourfold(right[a], right[b]) for a, b in combinations(range(runs), 2)]
    gaps = [boot.difference(draws[a], draws[b]) for a, b in combinations(range(runs), 2)]
    return Compared(
        headlines=tuple(boot.interval(draws[i], accuracy) for i in range(runs)),
        pairs=_pairs(names, gaps, [mcnemar(table) for table in tables], boot.level, tables),
        per_class=_recognised(right, labels, classes),
        best=tuple(
            BestMember(
                name=name,
                headline=boot.interval(draws[runs + i], accuracy),
                gain=boot.difference(draws[i], draws[runs + i], same=len(members[i]) == 1),
            )
            for i, name in enumerate(best)
        ),
    )


def compare_masks(
    names: Sequence[str],
    confusions: Sequence[Confusions],
    classes: Sequence[str],
    scored: Flags,
    rule: Rule,
    boot: Bootstrap,
) -> Compared:
    """Compare K runs of segmenters by the mIoU of one rule.

    Args:
        names: of the runs.
        confusions: for each run int64 [n,C+1,C+1], one an image (see `confusion`).
        classes: names of the C classes.
        scored: bool [C], which of them the table of classes scores.
        rule: of the headline.
        boot: resamples of the n images.

    Nothing is tested on fewer than `FEWEST` images.

    Raises:
        UserError: the rule has no number on these images.
    """
    functions = [rule.means(counts, scored) for counts in confusions]
    whole = [function(np.ones((1, len(boot.labels)))) for function in functions]
    _need_numbers(whole, rule)
    parts = [[function(weight).value for function in functions] for weight in boot.weights()]
    draws = [
        Draws(float(means.value[0]), np.concatenate(drawn))
        for means, drawn in zip(whole, zip(*parts, strict=True), strict=True)
    ]
    gaps = [draws[a] - draws[b] for a, b in combinations(range(len(names)), 2)]
    enough = boot.units >= FEWEST
    chances = [bootstrap_p(gap.replicates, boot.level, boot.freedom) if enough else None for gap in gaps]
    return Compared(
        headlines=tuple(_interval(d, boot) for d in draws),
        pairs=_pairs(names, [_interval(gap, boot, difference=True) for gap in gaps], chances, boot.level),
        per_class=_class_means(classes, confusions[0], whole),
    )


def _class_means(classes: Sequence[str], confusions: Confusions, whole: Sequence[Means]) -> tuple[ClassSides, ...]:
    present = (confusions[:, :-1].sum(axis=2) > 0).sum(axis=0).tolist()
    values = [[_known(means.per_class[0, i]) for means in whole] for i in range(len(classes))]
    return tuple(
        ClassSides(name=name, images=count, values=tuple(own))
        for name, count, own in zip(classes, present, values, strict=True)
    )


def _need_numbers(whole: Sequence[Means], rule: Rule) -> None:
    if any(np.isnan(means.value[0]) for means in whole):
        raise UserError(
            f'report: rule "{rule.name}" has no number on the images that the runs share, as a class occurs in neither '
            "their truth nor a prediction; compare runs whose recipes name a rule that leaves it out, such as "
            '"mmsegmentation"'
        )


def _interval(draws: Draws, boot: Bootstrap, *, difference: bool = False) -> Interval:
    found = interval_of(draws.value, draws.replicates, boot.level, boot.freedom, difference=difference)
    assert found is not None  # its value is a number
    return found


def _known(number: float) -> float | None:
    return None if np.isnan(number) else float(number)


def _pairs(
    names: Sequence[str],
    gaps: Sequence[Interval],
    chances: Sequence[float | None],
    level: float,
    tables: Sequence[Fourfold] | None = None,
) -> tuple[Pair, ...]:
    corrected = holm(chances)
    return tuple(
        Pair(
            first=names[a],
            second=names[b],
            difference=gaps[i],
            p=chances[i],
            p_holm=corrected[i],
            told_apart=(p := corrected[i]) is not None and p < 1 - level,
            fourfold=tables[i] if tables else None,
        )
        for i, (a, b) in enumerate(combinations(range(len(names)), 2))
    )


def _recognised(right: Flags, labels: Labels, classes: Sequence[str]) -> tuple[ClassSides, ...]:
    """Return the share of each class's images that each run [K,n] recognises."""
    support: NDArray[np.int64] = np.bincount(labels, minlength=len(classes))
    hits = np.array([np.bincount(labels[flags], minlength=len(classes)) for flags in right])
    return tuple(
        ClassSides(
            name=name,
            images=int(support[i]),
            values=tuple(int(h) / int(support[i]) if support[i] else None for h in hits[:, i]),
        )
        for i, name in enumerate(classes)
    )
