"""How the members' logits [M,N,C] become one prediction [N,C]: combinations, chosen weights, calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from octavo.errors import UserError, lookup, suggest
from octavo.numbers.calibration import NONE, Calibration
from octavo.numbers.shrinkage import shrunken_weights

Floats = NDArray[np.floating]
Labels = NDArray[np.integer]
Combination = Callable[[ArrayLike, ArrayLike], NDArray[np.float64]]


def mix_logits(logits: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """Return the weighted sum over members of logits [M,N,C] as [N,C]; weights [M] sum to one."""
    stack, shares = np.asarray(logits), np.asarray(weights, np.float64)
    total = np.zeros(stack.shape[1:])
    for member in np.flatnonzero(shares):
        total += shares[member] * stack[member].astype(np.float64)
    return total


def mix_probabilities(logits: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """Return the log of the weighted mean over members of softmax(logits [M,N,C]) as [N,C]; weights [M] sum to one."""
    stack, shares = np.asarray(logits), np.asarray(weights, np.float64)
    total = np.full(stack.shape[1:], -np.inf)
    for member in np.flatnonzero(shares):
        # In logs, so that a probability too small for a float is not lost.
        np.logaddexp(total, np.log(shares[member]) + log_softmax(stack[member].astype(np.float64), axis=1), out=total)
    return total


COMBINE: dict[str, Combination] = {
    "mean_probability": mix_probabilities,
    "mean_logit": mix_logits,
    "weighted": mix_logits,
    "greedy": mix_logits,
    "caruana": mix_logits,
}
"""Name in a recipe → function (logits [M,N,C], weights [M]) → [N,C], whose softmax is the ensemble's probability.
The means take equal weights; `weighted` those of the recipe; the others those that `fit_weights` chose."""

CHOSEN: dict[str, str] = {
    "greedy": "by likelihood, shrunk towards equal weights as far as those images leave them open (a ridge, averaged "
    "over six strengths by their evidence; MacKay, Neural Computation 4, 1992)",
    "caruana": "from greedy selection with replacement by accuracy (Caruana et al., ICML 2004)",
}
"""The combinations whose weights are chosen on images → how, in words. `greedy` was the other one's name in earlier
versions, so that recipes of then get the weights that serve better now."""


def fit_weights(
    combine: str,
    logits: ArrayLike,
    labels: ArrayLike,
    rounds: int = 50,
    given: Sequence[float] | None = None,
) -> NDArray[np.float64]:
    """Return the members' weights [M], which sum to one, for a combination.

    Args:
        combine: a key of `COMBINE`.
        logits: [M,N,C] of the images to choose by; only those of `CHOSEN` look at more than M.
        labels: int [N], class ids.
        rounds: `caruana`: at most this many picks.
        given: `weighted`: a weight >= 0 per member.

    Raises:
        UserError: unknown combination; given weights of the wrong number, below zero, or all zero.
        ValueError: one of `CHOSEN` without images, `caruana` without rounds.
    """
    lookup(COMBINE, combine, "ensemble.combine")
    stack = np.asarray(logits)
    members = stack.shape[0]
    if combine == "weighted":
        return _normalised(given, members)
    if combine == "greedy" and members > 1:
        return shrunken_weights(stack, np.asarray(labels))
    if combine == "caruana" and members > 1:
        return select_greedily(stack, np.asarray(labels), rounds)
    return np.full(members, 1 / members)


def _normalised(given: Sequence[float] | None, members: int) -> NDArray[np.float64]:
    weights = np.asarray(() if given is None else given, np.float64)
    if weights.shape != (members,):
        raise UserError(f"ensemble.weights: expected {members} weights, one a member, got {weights.size}")
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
        raise UserError(f"ensemble.weights: expected weights >= 0 with one above zero, got {weights.tolist()}")
    return weights / weights.sum()


def select_greedily(logits: Floats, labels: Labels, rounds: int) -> NDArray[np.float64]:
    """Return weights [M] found by greedy selection with replacement (Caruana et al., ICML 2004, section 2).

    Each round adds to the running sum of logits [M,N,C] the member that gives the highest accuracy; of equals the one
    with the lower negative log-likelihood of the bag's mean logit, then the lower index. The result is the bag with the
    highest accuracy of all rounds, of equals the smallest; a member's weight is its share of the picks in it.

    Raises:
        ValueError: no images, or `rounds` < 1.
    """
    if logits.shape[1] == 0 or rounds < 1:
        raise ValueError(f"greedy selection needs images and rounds, got {logits.shape[1]} images, {rounds} rounds")
    members = logits.shape[0]
    total = np.zeros(logits.shape[1:])
    counts, best, most = np.zeros(members), np.zeros(members), -1
    for round_ in range(1, rounds + 1):
        hits = np.array([np.count_nonzero((total + member).argmax(axis=1) == labels) for member in logits])
        tied = np.flatnonzero(hits == hits.max())
        losses = [0.0] if len(tied) == 1 else [_nll((total + logits[m]) / round_, labels) for m in tied]
        pick = tied[int(np.argmin(losses))]
        total += logits[pick]
        counts[pick] += 1
        if hits[pick] > most:
            most, best = hits[pick], counts.copy()
        if most == len(labels):  # nothing can be better
            break
    return best / best.sum()


def _nll(logits: Floats, labels: Labels) -> float:
    return -float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, got {str(value)[:40]!r}")
    return float(value)


@dataclass(frozen=True)
class Ensemble:
    """Members by name, how they are combined, and with which weights (one a member, summing to one).

    Attributes:
        names: of the members.
        combine: a key of `COMBINE`.
        weights: one a member.
        calibration: of the combined logits.
        own: the calibration of each member where it answers alone, in the order of `names`; () is none for all. The
            combination takes the members' logits as they are.
    """

    names: tuple[str, ...]
    combine: str
    weights: tuple[float, ...]
    calibration: Calibration = NONE
    own: tuple[Calibration, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        lookup(COMBINE, self.combine, "ensemble.combine")
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"members need names of their own, got {list(self.names)}")
        fit = len(self.weights) == len(self.names) and np.isfinite(self.weights).all()
        if not fit or min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"expected {len(self.names)} weights >= 0 that sum to one, got {list(self.weights)}")
        if self.own and len(self.own) != len(self.names):
            raise ValueError(f"expected {len(self.names)} calibrations, one a member, got {len(self.own)}")

    @property
    def used(self) -> dict[str, float]:
        """The members with a weight above 0, in order, and that weight."""
        return {name: weight for name, weight in zip(self.names, self.weights, strict=True) if weight > 0}

    @classmethod
    def fit(
        cls,
        names: Sequence[str],
        combine: str,
        logits: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        *,
        rounds: int = 50,
        given: Mapping[str, float] | None = None,
        calibration: str = "none",
    ) -> Ensemble:
        """Return the ensemble of members `names` with weights from `fit_weights`, calibrated on the same images.

        Args:
            names: the members, in the order of `logits`.
            combine: a key of `COMBINE`.
            logits: [M,N,C] of the images to choose by; needed by `CHOSEN` of several members, and to calibrate.
            labels: int [N], their class ids.
            rounds: `caruana`: at most this many picks.
            given: `weighted`: member → weight; a member not named has weight 0.
            calibration: a key of `CALIBRATIONS`; without logits nothing is calibrated.

        Raises:
            UserError: unknown combination or member, or unusable given weights.
            ValueError: one of `CHOSEN` for several members without logits.
        """
        for name in given or {}:
            if name not in names:
                raise UserError(f'ensemble.weights: unknown member "{name}"{suggest(name, names)}')
        shares = None if given is None else [given.get(name, 0.0) for name in names]
        stack = np.zeros((len(names), 0, 1), np.float32) if logits is None else np.asarray(logits)
        weights = fit_weights(combine, stack, np.zeros(0, np.int64) if labels is None else labels, rounds, shares)
        fitted = cls(tuple(names), combine, tuple(float(w) for w in weights))
        return fitted.calibrated(calibration, stack, labels) if stack.shape[1] and labels is not None else fitted

    def calibrated(self, method: str, logits: ArrayLike, labels: ArrayLike) -> Ensemble:
        """Return the same ensemble with its and its members' logits scaled, fitted on logits [M,N,C], labels [N].

        Raises:
            UserError: `method` is no key of `CALIBRATIONS`.
        """
        whole = Calibration.fit(method, self.combined(logits), labels)
        own = tuple(Calibration.fit(method, member, labels) for member in np.asarray(logits))
        return replace(self, calibration=whole, own=own if method != "none" else ())

    def logits(self, member_logits: ArrayLike) -> NDArray[np.float64]:
        """Return [N,C], whose softmax is the ensemble's probability, from the members' logits [M,N,C]: calibrated.

        Raises:
            ValueError: another number of members.
        """
        return self.calibration.apply(self.combined(member_logits))

    def member_logits(self, name: str, logits: ArrayLike) -> NDArray[np.float64]:
        """Return logits [N,C] of one member as it answers alone: calibrated."""
        return self.own_of(name).apply(logits)

    def own_of(self, name: str) -> Calibration:
        """Return the calibration of one member."""
        return self.own[self.names.index(name)] if self.own else NONE

    def combined(self, member_logits: ArrayLike) -> NDArray[np.float64]:
        """Return [N,C] from the members' logits [M,N,C], before calibration.

        Raises:
            ValueError: another number of members.
        """
        stack = np.asarray(member_logits)
        if stack.ndim != 3 or len(stack) != len(self.names):
            raise ValueError(f"expected logits [{len(self.names)},N,C], got {list(stack.shape)}")
        return COMBINE[self.combine](stack, self.weights)

    def without(self, name: str) -> Ensemble | None:
        """Return the ensemble of the other members, not calibrated, their weights scaled to sum to one.

        `None` if none has weight.
        """
        rest = {n: w for n, w in zip(self.names, self.weights, strict=True) if n != name}
        total = sum(rest.values())
        if total <= 0:
            return None
        return Ensemble(tuple(rest), self.combine, tuple(w / total for w in rest.values()))

    def to_dict(self) -> dict[str, object]:
        """Return the ensemble as a JSON-able dict; `from_dict` gives it back exactly.

        Earlier versions wrote "greedy" for `caruana`, and so does this one: `shrunk` marks the weights of `greedy`.
        """
        found: dict[str, object] = {
            "combine": "greedy" if self.combine in CHOSEN else self.combine,
            "weights": dict(zip(self.names, self.weights, strict=True)),
        }
        if self.combine == "greedy":
            found["shrunk"] = True
        if self.own or self.calibration != NONE:
            found["calibration"] = self.calibration.to_dict()
            found["members"] = {name: self.own_of(name).to_dict() for name in self.names}
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, object], where: str = "ensemble.json") -> Ensemble:
        """Return the ensemble that `to_dict` gave; one without calibration, from an older run, has none.

        Raises:
            UserError: `data` has another form; `where` names its file.
        """
        combine, weights, keys = data.get("combine"), data.get("weights"), set(data) - {"shrunk"}
        whole, own = data.get("calibration", NONE.to_dict()), data.get("members", {})
        odd = keys - {"combine", "weights", "calibration", "members"} or ("calibration" in keys) != ("members" in keys)
        odd = odd or ("shrunk" in data and (data["shrunk"] is not True or combine != "greedy"))
        if combine == "greedy" and "shrunk" not in data:
            combine = "caruana"
        if odd or not isinstance(combine, str) or not all(isinstance(x, Mapping) for x in (weights, whole, own)):
            raise UserError(f'{where}: expected {{"combine": NAME, "weights": {{MEMBER: WEIGHT}}, "calibration": …}}')
        assert isinstance(weights, Mapping) and isinstance(whole, Mapping) and isinstance(own, Mapping)
        try:
            return cls(
                tuple(map(str, weights)),
                combine,
                tuple(map(_number, weights.values())),
                Calibration.from_dict(whole, f"{where}: calibration"),
                tuple(Calibration.from_dict(own[name], f"{where}: members.{name}") for name in weights) if own else (),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{where}: {error}") from None
