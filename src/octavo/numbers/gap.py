"""Gaps between held-out training images and others that sampling can't explain: exact and permutation tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from octavo.numbers.averages import Doubles, Flags
from octavo.words import counted

LEVEL = 0.002
"""A p up to this is a gap that sampling can't explain; choosing epochs on held-out images uses up some of it."""
LEAST = 0.02
"""Gaps below this matter to nobody, however certain."""
_PERMUTATIONS = 4999
_AT_ONCE = 200
_STREAM = 0x6A9

Statistic = Callable[[Doubles], Doubles]
"""Weights of the images of both sets together, [R,n] → a number for each row, [R]; NaN for none."""


@dataclass(frozen=True)
class Gap:
    """One number on held-out training images and on others.

    Attributes:
        held: on the held-out ones.
        other: on the others.
        p: two-sided, of so large a gap were all of them drawn from one population.
    """

    held: float
    other: float
    p: float

    @property
    def unexplained(self) -> bool:
        """Whether sampling can't explain it."""
        return self.p <= LEVEL and abs(self.held - self.other) >= LEAST


def share_gap(held: Flags, other: Flags, groups: tuple[NDArray[np.integer], NDArray[np.integer]] | None = None) -> Gap:
    """Return the gap of two shares, from bool [h] and [o]: whether each image is right.

    p is Fisher's exact one. With `groups`, a number for each image that is equal within a group, whole groups are
    permuted instead, as their images are alike; those of the two sets are never one group.
    """
    first, second = float(held.mean()), float(other.mean())
    if groups is None:
        hits = [[int(flags.sum()), int((~flags).sum())] for flags in (held, other)]
        return Gap(first, second, float(fisher_exact(hits).pvalue))  # pyright: ignore[reportAttributeAccessIssue]
    right = np.concatenate([held, other]).astype(np.float64)
    p = permutation_p(lambda weight: weight @ right / weight.sum(axis=1), len(held), apart(*groups))
    return Gap(first, second, p)


def apart(held: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return groups of two sets of images as those of one, int64 [h+o]."""
    return np.concatenate([np.asarray(held, np.int64), np.asarray(other, np.int64) + int(held.max(initial=0)) + 1])


def permutation_p(statistic: Statistic, held: int, units: NDArray[np.integer], seed: int = 0) -> float:
    """Return the two-sided p of a statistic's gap between the first `held` images and the others, by permutations.

    Which of the `units` int [n], single images or groups of them, are held out is drawn anew, as many as there are.
    That is exact for any statistic; one is added to either count (Phipson and Smyth, Statistical Applications in
    Genetics and Molecular Biology 9, 2010). A permutation without a number counts as one with a larger gap.
    """
    numbers = np.unique(units, return_inverse=True)[1]
    first = np.zeros(int(numbers.max()) + 1, bool)
    first[numbers[:held]] = True

    def gaps(chosen: NDArray[np.bool_]) -> Doubles:
        weight = chosen[:, numbers].astype(np.float64)
        return np.abs(statistic(weight) - statistic(1 - weight))

    observed = float(gaps(first[None])[0])
    if np.isnan(observed):
        return 1.0
    random, larger = np.random.default_rng((seed, _STREAM)), 0
    for done in range(0, _PERMUTATIONS, _AT_ONCE):
        rows = min(_AT_ONCE, _PERMUTATIONS - done)
        found = gaps(random.permuted(np.tile(first, (rows, 1)), axis=1))
        larger += int((~(found < observed - 1e-12)).sum())
    return (1 + larger) / (1 + _PERMUTATIONS)


def gap_warning(gap: Gap, what: str, held: int, other: int, split: str) -> str | None:
    """Return a warning if sampling can't explain a gap.

    Args:
        gap: between held-out training images and those of `split`.
        what: the number, such as `accuracy`.
        held: how many held-out images there are.
        other: how many of `split`.
        split: what these are called.
    """
    if not gap.unexplained:
        return None
    if gap.held > gap.other:
        cause = (
            "held-out images share scenes, patients or series with the training images (name these in a column "
            "`group`), which flatters whatever was chosen on them"
        )
    else:
        cause = f"images of {split} are among the training images, nearly or as they are (octavo check looks for them)"
    return (
        f"{what} is {gap.held:.3f} on {counted(held, 'held-out training image')} and {gap.other:.3f} on the "
        f"{counted(other, 'image')} of {split}, more of a gap than sampling explains (p {_written(gap.p)}): either "
        f"{split} comes from another distribution, or {cause}"
    )


def _written(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
