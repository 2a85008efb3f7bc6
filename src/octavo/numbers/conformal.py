"""Split-conformal prediction sets: for each image the classes among which the true one lies as often as was asked.

The threshold is fitted on images that nothing else was fitted on. If those and the new images are exchangeable, as
draws from one population are, a new image's set holds its class with probability at least the coverage asked (Vovk,
Gammerman and Shafer, 2005; Papadopoulos et al., ECML 2002): on average over fits and images, not for each class, nor
for each image. Images that come in groups, and new images from elsewhere, are not exchangeable.

Written here, though MAPIE has it: what MAPIE fits can be kept only as a pickle, and a run keeps numbers in JSON; and
its adaptive sets draw random numbers, so that an image's set depends on its place among the others. MAPIE is the
reference of the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from octavo.errors import UserError, lookup
from octavo.numbers.results import Interval, wilson

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Labels = NDArray[np.integer]


def least_ambiguous(probabilities: Doubles) -> Doubles:
    """Return each class's score [N,C], 1 - its probability (Sadinle, Lei and Wasserman, JASA 114, 2019).

    Of all sets of one coverage these are smallest on average, at the cost of hard images, whose sets are too small.
    """
    return 1 - probabilities


def adaptive(probabilities: Doubles) -> Doubles:
    """Return each class's score [N,C]: the sum of the probabilities greater than its own.

    Romano, Sesia and Candès, NeurIPS 2020, with 1 for their random number, so that one image always gets one set, and
    the most probable class, which scores 0, is always in it. Sets are larger where the model is unsure. Of equal
    probabilities the lower class id comes first.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    before = np.concatenate([np.zeros((len(ranked), 1)), np.cumsum(ranked, axis=1)[:, :-1]], axis=1)
    scores = np.empty_like(probabilities)
    np.put_along_axis(scores, order, before, axis=1)
    return scores


METHODS: dict[str, Callable[[Doubles], Doubles]] = {"lac": least_ambiguous, "aps": adaptive}
"""Name → score of each class from probabilities [N,C]; a set holds the classes that score no more than a threshold."""
_ROUNDING = 1e-12  # sums of probabilities differ in their last bits where they would be equal


@dataclass(frozen=True)
class PredictionSets:
    """What makes sets of classes from probabilities."""

    method: str
    """A key of `METHODS`."""
    coverage: float
    """Share of images whose set should hold the true class."""
    thresholds: tuple[float, ...]
    """One for all classes, or C."""
    n: int
    """Images it was fitted on."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        lookup(METHODS, self.method, "--sets")
        if not 0 < self.coverage < 1 or not self.thresholds or self.n < 1 or not np.isfinite(self.thresholds).all():
            raise ValueError(f"expected 0 < coverage < 1, finite thresholds and n >= 1, got {self}")

    def sets(self, probabilities: ArrayLike, *, empty: bool = False) -> Flags:
        """Return bool [N,C], whether a class belongs to an image's set.

        Args:
            probabilities: [N,C].
            empty: whether a set may be empty, as of "lac" where even the most probable class scores above the
                threshold. Otherwise that class is always in it, which can only add to the coverage.

        Raises:
            ValueError: thresholds of another number of classes.
        """
        known = _probabilities(probabilities)
        if len(self.thresholds) not in (1, known.shape[1]):
            raise ValueError(f"fitted for {len(self.thresholds)} classes, got probabilities {known.shape}")
        chosen = METHODS[self.method](known) <= np.array(self.thresholds) + _ROUNDING
        if not empty:
            chosen[np.arange(len(known)), known.argmax(axis=1)] = True
        return chosen

    def to_dict(self) -> dict[str, object]:
        """Return it as a JSON-able dict; `from_dict` gives it back exactly."""
        return {"method": self.method, "coverage": self.coverage, "thresholds": list(self.thresholds), "n": self.n}

    @classmethod
    def from_dict(cls, data: Mapping[str, object], where: str = "sets") -> PredictionSets:
        """Return what `to_dict` gave.

        Raises:
            UserError: `data` has another form; `where` names its file and key.
        """
        method, coverage, thresholds, n = (data.get(key) for key in ("method", "coverage", "thresholds", "n"))
        fits = isinstance(method, str) and method in METHODS and type(coverage) in (int, float) and type(n) is int
        listed = isinstance(thresholds, list) and all(type(t) in (int, float) for t in thresholds)
        if len(data) != 4 or not fits or not listed:
            raise UserError(f'{where}: expected {{"method": {"|".join(METHODS)}, "coverage": 0.9, "thresholds": [...], '
                            '"n": 1}')  # fmt: skip
        try:
            return cls(str(method), float(str(coverage)), tuple(float(t) for t in thresholds), int(str(n)))  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None


def fit_sets(
    probabilities: ArrayLike, labels: ArrayLike, coverage: float, method: str = "lac", *, by_class: bool = False
) -> PredictionSets:
    """Return sets that hold the true class of new images with probability `coverage` at least.

    The threshold is the ⌈(n+1)·coverage⌉-th smallest score of the true classes.

    Args:
        probabilities: [n,C] of images that neither the model nor its calibration was fitted on.
        labels: int [n], class ids.
        coverage: in (0,1).
        method: a key of `METHODS`.
        by_class: a threshold for each class from its own images (Mondrian; Vovk 2012): the coverage then holds for each
            class, and each needs images enough.

    Raises:
        UserError: unknown method, a coverage out of range, or too few images for it: how many it takes.
    """
    score = lookup(METHODS, method, "--sets")
    if not 0 < coverage < 1:
        raise UserError(f"--coverage: expected a number between 0 and 1, such as 0.9, got {coverage:g}")
    known, truth = _probabilities(probabilities), np.asarray(labels, np.int64)
    if truth.shape != known.shape[:1]:
        raise ValueError(f"expected labels [{len(known)}], got {truth.shape}")
    own = score(known)[np.arange(len(truth)), truth]
    if not by_class:
        return PredictionSets(method, coverage, (_threshold(own, coverage, ""),), len(truth))
    parts = [_threshold(own[truth == i], coverage, f" of class {i}") for i in range(known.shape[1])]
    return PredictionSets(method, coverage, tuple(parts), len(truth))


def least_images(coverage: float) -> int:
    """Return the fewest images from which sets with this coverage can be fitted: n >= 1/(1 - coverage) - 1."""
    return max(1, math.ceil(1 / (1 - coverage) - 1 - 1e-9))


def _place(n: int, coverage: float) -> int:
    return math.ceil((n + 1) * coverage - 1e-9)  # (99+1)·0.9 is 90, whatever its last bit


def _threshold(scores: Doubles, coverage: float, whose: str) -> float:
    if len(scores) < (needed := least_images(coverage)):
        raise UserError(
            f"--coverage: {coverage:g} takes at least {needed} images{whose} to fit on, there are {len(scores)}; "
            "ask for less coverage or hold more images out"
        )
    place = _place(len(scores), coverage) - 1
    return float(np.partition(scores, place)[place])


def coverage_spread(n: int, coverage: float, level: float = 0.95) -> tuple[float, float]:
    """Return between which ends the true coverage of sets fitted on n images lies with probability `level`.

    Beta(k, n+1-k) with k = ⌈(n+1)·coverage⌉, exact for scores without ties (Vovk, ACML 2012).
    """
    k = _place(n, coverage)
    low, high = betaincinv(k, n + 1 - k, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class SetSize:
    """The images whose sets have one size."""

    size: int
    images: int
    coverage: Interval


@dataclass(frozen=True)
class Coverage:
    """How sets came out on images that they were not fitted on."""

    coverage: Interval
    """Share of images whose set holds the true class, with Wilson's interval."""
    mean_size: float
    empty: int
    """Images with an empty set."""
    by_class: tuple[Interval | None, ...]
    """Each class's share; `None` where it has no image."""
    by_size: tuple[SetSize, ...]
    """From the smallest size that occurs: where large sets cover less than small ones, unsure images are let down."""


def coverage_of(sets: ArrayLike, labels: ArrayLike, level: float = 0.95) -> Coverage:
    """Return the empirical coverage of sets bool [N,C] against labels int [N], N >= 1; intervals of this level."""
    chosen, truth = np.asarray(sets, bool), np.asarray(labels, np.int64)
    held, sizes = chosen[np.arange(len(truth)), truth], chosen.sum(axis=1)

    def share(part: Flags) -> Interval:
        return wilson(int(held[part].sum()), int(part.sum()), level)

    return Coverage(
        coverage=share(np.ones(len(truth), bool)),
        mean_size=float(sizes.mean()),
        empty=int(np.count_nonzero(sizes == 0)),
        by_class=tuple(share(part) if (part := truth == i).any() else None for i in range(chosen.shape[1])),
        by_size=tuple(
            SetSize(int(size), int(np.count_nonzero(sizes == size)), share(sizes == size)) for size in np.unique(sizes)
        ),
    )


def _probabilities(given: ArrayLike) -> Doubles:
    known = np.asarray(given, np.float64)
    if known.ndim != 2 or not (np.isfinite(known).all() and (known >= 0).all() and (known <= 1 + 1e-6).all()):
        raise ValueError("expected probabilities [N,C] between 0 and 1")
    return known
