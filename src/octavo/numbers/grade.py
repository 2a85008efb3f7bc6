"""The members' logits → a report: every system's metrics, what each member adds, and every class, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from octavo.errors import UserError
from octavo.numbers.bootstrap import Bootstrap, Draws, same_system
from octavo.numbers.ensemble import CHOSEN, Ensemble, fit_weights
from octavo.numbers.exact import paired_p
from octavo.numbers.grade_rule import OPTIMISM_RULE, calibration_warning, member_warning, rule_of
from octavo.numbers.metrics import METRICS, Doubles, Labels, Statistic, log_probabilities, metrics_for
from octavo.numbers.power import majority_warning, members_below_majority
from octavo.numbers.results import ClassResult, Contribution, Optimism, Report, SystemResult, wilson
from octavo.progress import Progress, silent

HEADLINE = "accuracy"
ENSEMBLE = "ensemble"
RESCALED = ("nll", "ece", "brier")
"""Metrics that calibration changes."""

Fit = tuple[ArrayLike, ArrayLike]


def grade(
    names: Sequence[str],
    logits: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str],
    combination: Ensemble,
    *,
    split: str,
    fit: Fit | None = None,
    fitted_on: str = "none",
    rounds: int = 50,
    rival: Ensemble | None = None,
    groups: Labels | None = None,
    seed: int = 0,
    replicates: int = 2000,
    level: float = 0.95,
    progress: Progress | None = None,
) -> Report:
    """Return the report of an ensemble and its members on one set of images.

    Args:
        names: the members, in the order of `logits` and of `combination`.
        logits: [M,N,C], finite.
        labels: int [N], class ids 0..C-1.
        classes: C names.
        combination: the ensemble to grade.
        split: what the images are: `val`, `test`, `holdout`, `train`, or a name of the caller's.
        fit: (logits [M,n,C], labels [n]) that weights were chosen on; ensembles without one member choose theirs anew
            on it. If absent their weights are those of the others, scaled.
        fitted_on: what `fit` is: `holdout`, `out-of-fold`, `val` or `none`.
        rounds: of greedy selection, where weights are `caruana`'s.
        rival: the same members with weights and calibration chosen on the scored images, to tell how much that
            flatters; or, where `combination` was so chosen, those of an honest ensemble.
        groups: int [N], images that are resampled together, as those of one patient.
        seed: of the resamples.
        replicates: how many resamples.
        level: of all intervals.
        progress: told how far it is.

    Raises:
        UserError: no images, a label that is no class, or a member whose logits are not all finite.
        ValueError: shapes or names that do not belong together.
    """
    stack, truth = _checked(names, logits, labels, classes, combination)
    boot = Bootstrap(truth, replicates, seed, level, groups=groups)
    graded = _Graded(stack, truth, combination, rival, boot, fit, rounds, progress or silent)
    said = rule_of(split, truth, classes, combination, fitted_on, rounds, boot)
    results = graded.results(bool(said["flattered"]))
    behind = results.pop("behind")
    own, behind_p = results["systems"][-1].metrics[HEADLINE], results.pop("behind_p")
    per_class = class_results(combination.logits(stack).argmax(axis=1), truth, classes, level)
    alone = {one.name: one.metrics[HEADLINE].value for one in results["systems"][:-1]} if len(names) > 1 else {}
    fitted = 0 if fit is None else len(np.asarray(fit[1]))
    worse = (
        majority_warning(per_class, own),
        members_below_majority(np.bincount(truth, minlength=len(classes)), alone),
        member_warning(behind, behind_p, results["best_member"], split, combination.combine),
        calibration_warning(results["systems"], split, str(said["calibrated_on"]), fitted),
    )
    return Report.model_validate(
        said
        | results
        | {
            "warnings": (*said["warnings"], *filter(None, worse)),
            "headline": HEADLINE,
            "level": level,
            "replicates": replicates,
            "seed": seed,
            "per_class": per_class,
        }
    )


def _checked(
    names: Sequence[str], logits: ArrayLike, labels: ArrayLike, classes: Sequence[str], combination: Ensemble
) -> tuple[NDArray[np.floating], Labels]:
    stack, truth = np.asarray(logits), np.asarray(labels, np.int64)
    if tuple(names) != combination.names or stack.shape != (len(names), len(truth), len(classes)):
        raise ValueError(
            f"expected logits [{len(combination.names)},{len(truth)},{len(classes)}] of {list(combination.names)}, "
            f"got {list(stack.shape)} of {list(names)}"
        )
    if not len(truth):
        raise UserError("evaluate: no images to score; expected at least one labelled image")
    if truth.min() < 0 or truth.max() >= len(classes):
        raise UserError(f"evaluate: label {truth.min() if truth.min() < 0 else truth.max()} is none of {len(classes)} "
                        "classes; score labelled images of known classes only")  # fmt: skip
    for name, member in zip(names, stack, strict=True):
        if not np.isfinite(member).all():
            raise UserError(f"member {name}: its outputs are not all finite, so its training diverged; lower train.lr")
    return stack, truth


@dataclass(frozen=True, eq=False)
class _Graded:
    """What goes into the numbers of a report; `results` gives them."""

    stack: NDArray[np.floating]
    truth: Labels
    combination: Ensemble
    rival: Ensemble | None
    boot: Bootstrap
    fit: Fit | None
    rounds: int
    progress: Progress

    def results(self, flattered: bool) -> dict[str, Any]:
        """Return the systems, the contributions, the gain over the best member, that member, and the optimism.

        `behind` is that gain once more, its interval wide enough for a member that was found the best of all, and
        `behind_p` its exact p, corrected likewise.
        """
        names, size = self.combination.names, len(self.stack)
        metrics = metrics_for(self.stack.shape[2])
        # Only numbers per image are kept of each system, so that 1,000 classes fit in memory.
        statistics: dict[tuple[str, int], Statistic] = {}
        for i in range(size + 1 + (self.rival is not None)):
            logprobs = log_probabilities(self._answer(i))
            statistics |= {(key, i): metric.prepare(logprobs, self.truth) for key, metric in metrics.items()}
        for i in range(size + 1) if self._calibrated else ():
            logprobs = log_probabilities(self._answer(i, raw=True))
            statistics |= {(f"raw {key}", i): metrics[key].prepare(logprobs, self.truth) for key in RESCALED}
        whole, same = log_probabilities(self.combination.combined(self.stack)), dict[int, bool]()
        statistics["combined", size] = METRICS[HEADLINE].prepare(whole, self.truth)
        for i, others in self._without_each():
            statistics["without", i] = METRICS[HEADLINE].prepare(others, self.truth)
            same[i] = same_system(whole, others)
        draws = self.boot.draw(statistics, lambda done, of: self.progress("intervals", done, of))
        best = int(np.argmax([draws[HEADLINE, i].value for i in range(size)]))
        pair = draws[HEADLINE, size], draws[HEADLINE, best]
        best_same = same_system(log_probabilities(self._answer(size)), log_probabilities(self._answer(best)))
        return {
            "systems": tuple(self._system(i, draws) for i in range(size + 1)),
            "contributions": self._contributions(draws, draws["combined", size], same),
            "gain": self.boot.difference(*pair, same=best_same),
            "behind": self.boot.difference(*pair, same=best_same, best_of=size),
            "behind_p": min(
                1.0, size * paired_p(*(self._answer(i).argmax(axis=1) == self.truth for i in (size, best)))
            ),
            "best_member": names[best],
            "optimism": self._optimism(draws, flattered),
        }

    @property
    def _calibrated(self) -> bool:
        return self.combination.calibration.method != "none"

    def _answer(self, i: int, *, raw: bool = False) -> NDArray[np.floating]:
        """Return the logits [N,C] of system `i`: a member, the ensemble, the rival; `raw`: before calibration."""
        names = self.combination.names
        if i < len(names):
            return self.stack[i] if raw else self.combination.member_logits(names[i], self.stack[i])
        if i == len(names):
            return self.combination.combined(self.stack) if raw else self.combination.logits(self.stack)
        assert self.rival is not None
        return self.rival.logits(self.stack)

    def _system(self, i: int, draws: dict[tuple[str, int], Draws]) -> SystemResult:
        names, metrics = self.combination.names, metrics_for(self.stack.shape[2])
        own = i == len(names)
        calibration = self.combination.calibration if own else self.combination.own_of(names[i])
        return SystemResult(
            name=ENSEMBLE if own else names[i],
            kind="ensemble" if own else "member",
            metrics={key: self.boot.interval(draws[key, i], metric) for key, metric in metrics.items()},
            temperature=calibration.temperature if self._calibrated else None,
            uncalibrated={key: self.boot.interval(draws[f"raw {key}", i], metrics[key]) for key in RESCALED}
            if self._calibrated
            else {},
        )

    def _optimism(self, draws: dict[tuple[str, int], Draws], flattered: bool) -> Optimism | None:
        """Return how the ensemble and its rival compare, one of which was chosen on the scored images."""
        if self.rival is None:
            return None
        metrics, mine, other = metrics_for(self.stack.shape[2]), len(self.stack), len(self.stack) + 1
        honest, tuned = (other, mine) if flattered else (mine, other)
        chosen = self.combination if flattered else self.rival
        same = same_system(log_probabilities(self._answer(mine)), log_probabilities(self._answer(other)))
        return Optimism(
            honest={key: self.boot.interval(draws[key, honest], metric) for key, metric in metrics.items()},
            flattered={key: self.boot.interval(draws[key, tuned], metric) for key, metric in metrics.items()},
            gap={key: self.boot.difference(draws[key, tuned], draws[key, honest], same=same) for key in metrics},
            weights=dict(zip(chosen.names, chosen.weights, strict=True)),
            rule=OPTIMISM_RULE,
        )

    def _contributions(
        self, draws: dict[tuple[str, int], Draws], ours: Draws, same: dict[int, bool]
    ) -> tuple[Contribution, ...]:
        pairs = zip(self.combination.names, self.combination.weights, strict=True)
        return tuple(
            Contribution(
                member=name,
                weight=weight,
                leave_one_out=self.boot.difference(ours, draws["without", i], same=same[i]) if i in same else None,
            )
            for i, (name, weight) in enumerate(pairs)
        )

    def _without_each(self) -> Iterator[tuple[int, Doubles]]:
        """Give, for each member without which something is left, the log-probabilities [N,C] of the others."""
        members = len(self.stack)
        for i, name in enumerate(self.combination.names if members > 1 else ()):
            self.progress("leave-one-out", i, members)
            kept = np.delete(np.arange(members), i)
            others = self.combination.without(name)
            combine = self.combination.combine
            if combine in CHOSEN and self.fit is not None:
                logits, labels = np.asarray(self.fit[0])[kept], self.fit[1]
                weights = fit_weights(combine, logits, labels, self.rounds)
                rest = tuple(n for n in self.combination.names if n != name)
                others = Ensemble(rest, combine, tuple(weights.tolist()))
            if others is not None:
                yield i, log_probabilities(others.logits(self.stack[kept]))


def class_results(
    predicted: Labels, truth: Labels, classes: Sequence[str], level: float = 0.95
) -> tuple[ClassResult, ...]:
    """Return how each class came out, in the order of ids, from class ids int [N]; a prediction below 0 is none."""
    size = len(classes)
    support = np.bincount(truth, minlength=size)
    called = np.bincount(predicted[predicted >= 0], minlength=size)
    hits = np.bincount(truth[predicted == truth], minlength=size)

    def share(part: int, of: int) -> float | None:
        return part / of if of else None

    return tuple(
        ClassResult(
            name=name,
            support=n,
            predicted=c,
            accuracy=wilson(h, n, level) if n else None,
            precision=share(h, c),
            recall=share(h, n),
            f1=share(2 * h, n + c),
        )
        for name, n, c, h in zip(classes, support.tolist(), called.tolist(), hits.tolist(), strict=True)
    )
