"""Cascades: cheap members answer first, and an image stops at the first prefix that is sure enough of it.

Members are ordered by cost. Prefix k is the ensemble of the first k of them, with their own weights scaled to sum to
one, and calibrated by itself. An image stops at the first prefix whose most probable class reaches the prefix's
threshold; the last prefix, the whole ensemble, takes the rest. (Viola and Jones, CVPR 2001, for detectors; of ensembles
with calibrated confidence: Wang et al., "Wisdom of Committees", ICLR 2022.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from octavo.errors import UserError
from octavo.numbers.calibration import Calibration
from octavo.numbers.ensemble import Ensemble
from octavo.progress import Progress, silent

Labels = NDArray[np.integer]
CANDIDATES = 60
"""Thresholds of a prefix that are tried: quantiles of its confidence."""
NEVER = 2.0
"""A threshold that no confidence reaches."""
FOLDS = 5
"""Parts of the images in the cross-validation that tells how far thresholds have to be raised."""
TIGHTER = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02)
"""What the distance of thresholds to 1 is multiplied by, each tried after the one before."""


@dataclass(frozen=True)
class Cascade:
    """Prefixes of an ensemble, and where an image stops.

    Attributes:
        prefixes: ensembles of the first 1, 2, … K members, the cheapest first; the last is the whole one.
        thresholds: K - 1 confidences, 0–1, from which an image stops; `NEVER`.
    """

    prefixes: tuple[Ensemble, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        if not self.prefixes or len(self.thresholds) != len(self.prefixes) - 1:
            raise ValueError(f"{len(self.prefixes)} prefixes need one threshold less, got {len(self.thresholds)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The members in the order in which they answer."""
        return self.prefixes[-1].names

    def stops(self, answers: ArrayLike) -> NDArray[np.int64]:
        """Return at which prefix each image stops, int [N], from 0, by the logits of all prefixes, [K,N,C]."""
        return stopped(confidences(answers), self.thresholds)

    def to_dict(self) -> dict[str, object]:
        """Return it as a JSON-able dict; `from_dict` gives it back exactly."""
        return {"prefixes": [prefix.to_dict() for prefix in self.prefixes], "thresholds": list(self.thresholds)}

    @classmethod
    def from_dict(cls, data: Mapping[str, object], where: str = "cascade.json") -> Cascade:
        """Return the cascade that `to_dict` gave.

        Raises:
            UserError: `data` has another form; `where` names its file.
        """
        prefixes, thresholds = data.get("prefixes"), data.get("thresholds")
        if not isinstance(prefixes, Sequence) or not isinstance(thresholds, Sequence):
            raise UserError(f'{where}: expected {{"prefixes": […], "thresholds": […]}}; fit the cascade again')
        try:
            return cls(
                tuple(Ensemble.from_dict(prefix, where) for prefix in prefixes), tuple(float(t) for t in thresholds)
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{where}: {error}; fit the cascade again") from None


def prefixes_of(
    ensemble: Ensemble, order: Sequence[str], logits: ArrayLike | None = None, labels: ArrayLike | None = None
) -> tuple[Ensemble, ...]:
    """Return the ensembles of the first 1, 2, … K members of `order`, each calibrated as the whole one is.

    Args:
        ensemble: the whole one.
        order: its members with weight, K of them.
        logits: [M,N,C] of its members on images to calibrate by; without them prefixes before the last are not.
        labels: int [N].

    Raises:
        ValueError: `order` is not those members.
    """
    used = ensemble.used
    if sorted(order) != sorted(used):
        raise ValueError(f"expected an order of {sorted(used)}, got {list(order)}")
    found, stack = [], None if logits is None else np.asarray(logits)
    for count in range(1, len(order) + 1):
        names = tuple(order[:count])
        total = sum(used[name] for name in names)
        prefix = Ensemble(names, ensemble.combine, tuple(used[name] / total for name in names))
        if count == len(order):
            prefix = Ensemble(names, ensemble.combine, prefix.weights, ensemble.calibration)
        elif stack is not None and labels is not None:
            own = stack[[ensemble.names.index(name) for name in names]]
            fitted = Calibration.fit(ensemble.calibration.method, prefix.combined(own), labels)
            prefix = Ensemble(names, ensemble.combine, prefix.weights, fitted)
        found.append(prefix)
    return tuple(found)


def answers_of(prefixes: Sequence[Ensemble], names: Sequence[str], logits: ArrayLike) -> NDArray[np.float64]:
    """Return the logits of all prefixes, [K,N,C], from those of the members `names`, [M,N,C]."""
    stack = np.asarray(logits)
    return np.stack([prefix.logits(stack[[list(names).index(name) for name in prefix.names]]) for prefix in prefixes])


def confidences(answers: ArrayLike) -> NDArray[np.float64]:
    """Return the probability of the most probable class, [K,N], from logits [K,N,C]."""
    return softmax(np.asarray(answers, np.float64), axis=2).max(axis=2)


def stopped(sure: ArrayLike, thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Return the first prefix whose confidence, of [K,N], reaches its threshold, int [N]; the last takes the rest."""
    reached = np.asarray(sure) >= np.array([*thresholds, -np.inf])[:, None]
    return reached.argmax(axis=0)


def expected(answers: ArrayLike) -> NDArray[np.float64]:
    """Return the probability that each prefix's class is right, as the last prefix has it, [K,N], from logits [K,N,C].

    To judge by it takes no labels, and so few images don't decide by luck which prefix is right. It is as good as the
    last prefix's calibration: one that is too modest lets images stop too early, so labels are to have a say as well.
    """
    logits = np.asarray(answers, np.float64)
    return np.take_along_axis(softmax(logits[-1], axis=1), logits.argmax(axis=2).T, axis=1).T


def fit_thresholds(sure: ArrayLike, right: ArrayLike, costs: ArrayLike, budget: float) -> tuple[float, ...]:
    """Return thresholds [K-1] that make images cheap while accuracy falls by no more than a budget on these images.

    Starting from never, one threshold at a time is lowered, each time the one that saves most among those that keep
    the budget, until none does.

    Args:
        sure: confidences [K,N].
        right: how probably each prefix is right, [K,N], 0–1 (see `expected`), or whether it is; several ways to judge
            it, [R,K,N], have to keep the budget each.
        costs: of each prefix in all, [K], ascending.
        budget: share of the images by which accuracy may fall below the last prefix's, 0–1.

    Raises:
        ValueError: shapes that do not belong together, or no images.
    """
    sure, hits, cost = (np.asarray(numbers, np.float64) for numbers in (sure, right, costs))
    if sure.ndim != 2 or sure.shape != hits.shape[-2:] or len(cost) != len(sure) or not sure.shape[1]:
        raise ValueError(f"expected [K,N], [K,N] and [K], got {sure.shape}, {hits.shape}, {cost.shape}")
    hits, images = hits.reshape(-1, *sure.shape), np.arange(sure.shape[1])
    least = hits[:, -1].mean(1) - budget - 1e-12
    steps = np.linspace(0, 1, CANDIDATES)
    tried = [np.unique(np.quantile(row, steps)) for row in sure[:-1]]
    thresholds = [NEVER] * (len(sure) - 1)
    best = float(cost[-1])
    while True:
        moves = []
        for k, candidates in enumerate(tried):
            for value in candidates[candidates < thresholds[k]]:
                moved = [*thresholds[:k], float(value), *thresholds[k + 1 :]]
                stops = stopped(sure, moved)
                spent = float(cost[stops].mean())
                if spent < best - 1e-12 and (hits[:, stops, images].mean(1) >= least).all():
                    moves.append((spent, moved))
        if not moves:
            return tuple(thresholds)
        best, thresholds = min(moves)


def folds_of(images: int, seed: int, groups: ArrayLike | None = None) -> NDArray[np.int64]:
    """Return in which of `FOLDS` parts each image is, int [N]; those of a group are in one.

    Parts have as many images, or groups, give or take one.

    Args:
        images: N.
        seed: of the draw.
        groups: int [N].
    """
    _, members = np.unique(np.arange(images) if groups is None else np.asarray(groups), return_inverse=True)
    count = int(members.max()) + 1
    return np.random.default_rng(seed).permutation(np.arange(count) % FOLDS)[members]


def raised(thresholds: Sequence[float], factor: float) -> tuple[float, ...]:
    """Return thresholds whose distance to 1 is `factor` times what it was; those that are never reached stay so."""
    return tuple(t if t >= NEVER else 1 - factor * (1 - t) for t in thresholds)


def fit_cautiously(
    sure: ArrayLike,
    right: ArrayLike,
    correct: ArrayLike,
    costs: ArrayLike,
    budget: float,
    folds: ArrayLike,
    groups: ArrayLike | None = None,
    progress: Progress = silent,
) -> tuple[tuple[float, ...], float]:
    """Return thresholds that should keep the budget on other images too, and the factor by which they were raised.

    Thresholds that are fitted to few images fit their luck as well. So they are raised as far as it takes for images
    that they were not fitted to, in cross-validation, to keep the budget by one standard error (the rule of Breiman et
    al., "Classification and regression trees", 1984, section 3.4.3, taken to the safer side). A quarter of a loss more
    than there is goes into the variance, so that none among few images doesn't pass for certainty: where N images
    lose and gain nothing, the bound is 1/(2N). Where nothing keeps the budget no image stops early, and the factor
    is 0.

    Args:
        sure: as in `fit_thresholds`, as are `right`, `costs` and `budget`.
        right: R ways to judge it, [R,K,N].
        correct: whether each prefix is right, bool [K,N].
        costs: [K].
        budget: 0–1.
        folds: which part of the images each is in, int [N]; two parts or more.
        groups: int [N], images that are alike, such as those of one patient; the standard error is of groups then.
        progress: told after every part.

    Raises:
        ValueError: as `fit_thresholds`.
    """
    confident, judged, hits = np.asarray(sure), np.asarray(right), np.asarray(correct, np.float64)
    parts = np.asarray(folds)
    lost, there = np.zeros((len(TIGHTER), len(parts))), np.unique(parts)
    for done, part in enumerate(there, 1):
        own = parts == part
        found = fit_thresholds(confident[:, ~own], judged[:, :, ~own], costs, budget)
        for place, factor in enumerate(TIGHTER):
            stops = stopped(confident[:, own], raised(found, factor))
            lost[place, own] = hits[-1, own] - hits[:, own][stops, np.arange(own.sum())]
        progress("fit thresholds", done, len(there) + 1)
    kept = np.flatnonzero(_bounds(lost, groups) <= budget + 1e-12)
    found = fit_thresholds(confident, judged, costs, budget) if len(kept) else (NEVER,) * (len(hits) - 1)
    progress("fit thresholds", len(there) + 1, len(there) + 1)
    factor = TIGHTER[kept[0]] if len(kept) else 0.0
    return raised(found, factor), factor


def _bounds(lost: NDArray[np.float64], groups: ArrayLike | None) -> NDArray[np.float64]:
    """Return the mean of rows [F,N] and one standard error of it, [F], by groups of columns where there are any."""
    images, mean = lost.shape[1], lost.mean(1)
    _, group = np.unique(np.arange(images) if groups is None else np.asarray(groups), return_inverse=True)
    apart = np.stack([np.bincount(group, row) for row in lost - mean[:, None]])
    return mean + np.sqrt((apart**2).sum(1) + 0.25) / images
