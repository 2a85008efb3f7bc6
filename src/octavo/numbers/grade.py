"""The members' logits → a report: every system's metrics, what each member adds, and every class, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from octavo.errors import UserError
from octavo.numbers.bootstrap import Bootstrap, Draws, same_system
from octavo.numbers.ensemble import Ensemble, fit_weights
from octavo.numbers.metrics import METRICS, Doubles, Labels, Statistic, log_probabilities, metrics_for
from octavo.numbers.results import ClassResult, Contribution, Interval, Report, SystemResult, wilson
from octavo.progress import Progress, silent
from octavo.words import counted

HEADLINE = "accuracy"
ENSEMBLE = "ensemble"

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
        fit: (logits [M,n,C], labels [n]) that greedy weights were chosen on; ensembles without one member choose theirs
            anew on it. If absent their weights are those of the others, scaled.
        fitted_on: what `fit` is: `holdout`, `val` or `none`.
        rounds: of greedy selection.
        seed: of the resamples.
        replicates: how many resamples.
        level: of all intervals.
        progress: told how far it is.

    Raises:
        UserError: no images, a label that is no class, or a member whose logits are not all finite.
        ValueError: shapes or names that do not belong together.
    """
    stack, truth = _checked(names, logits, labels, classes, combination)
    boot = Bootstrap(truth, replicates, seed, level)
    chosen = fitted_on if combination.combine == "greedy" and len(names) > 1 else "none"
    graded = _Graded(stack, truth, combination, boot, fit, rounds, progress or silent)
    systems, contributions, gain, best = graded.results()
    words = _words(split, truth, classes, combination, chosen, rounds, boot)
    return Report.model_validate(
        words
        | {
            "headline": HEADLINE,
            "level": level,
            "replicates": replicates,
            "seed": seed,
            "systems": systems,
            "best_member": best,
            "gain": gain,
            "contributions": contributions,
            "per_class": class_results(combination.logits(stack).argmax(axis=1), truth, classes, level),
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
    boot: Bootstrap
    fit: Fit | None
    rounds: int
    progress: Progress

    def results(self) -> tuple[tuple[SystemResult, ...], tuple[Contribution, ...], Interval, str]:
        """Return the systems, the contributions, the gain over the best member, and that member's name."""
        names, metrics = self.combination.names, metrics_for(self.stack.shape[2])
        whole = log_probabilities(self.combination.logits(self.stack))
        # Only numbers per image are kept of each system, so that 1,000 classes fit in memory.
        statistics: dict[tuple[str, int], Statistic] = {}
        for i in range(len(names) + 1):
            logprobs = whole if i == len(names) else log_probabilities(self.stack[i])
            statistics |= {(key, i): metric.prepare(logprobs, self.truth) for key, metric in metrics.items()}
        same: dict[int, bool] = {}
        for i, others in self._without_each():
            statistics["without", i] = METRICS[HEADLINE].prepare(others, self.truth)
            same[i] = same_system(whole, others)
        draws = self.boot.draw(statistics, lambda done, of: self.progress("intervals", done, of))
        systems = tuple(
            SystemResult(
                name=ENSEMBLE if i == len(names) else names[i],
                kind="ensemble" if i == len(names) else "member",
                metrics={key: self.boot.interval(draws[key, i], metric) for key, metric in metrics.items()},
            )
            for i in range(len(names) + 1)
        )
        best = int(np.argmax([draws[HEADLINE, i].value for i in range(len(names))]))
        ours = draws[HEADLINE, len(names)]
        best_same = same_system(whole, log_probabilities(self.stack[best]))
        gain = self.boot.difference(ours, draws[HEADLINE, best], same=best_same)
        return systems, self._contributions(draws, ours, same), gain, names[best]

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
            if self.combination.combine == "greedy" and self.fit is not None:
                logits, labels = np.asarray(self.fit[0])[kept], self.fit[1]
                weights = fit_weights("greedy", logits, labels, self.rounds)
                rest = tuple(n for n in self.combination.names if n != name)
                others = Ensemble(rest, "greedy", tuple(weights.tolist()))
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


def absent_classes(counts: NDArray[np.integer], classes: Sequence[str]) -> tuple[str, ...]:
    """Return a warning if classes have no image among those scored; `counts` [C]."""
    absent = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if not absent:
        return ()
    shown = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
    return (f"{len(absent)} of {len(classes)} classes have no image among those scored: {shown}",)


def _flattery(split: str, chosen: str) -> tuple[str, ...]:
    """Return why the numbers are flattered, if they are."""
    if split == "train":
        return ("flattered: the members were trained on the images that are scored",)
    if split == "holdout":
        return ("flattered: weights and epochs may have been chosen on the images that are scored",)
    if chosen == split:
        return (f"flattered: the ensemble's weights were chosen on the images that are scored ({split})",)
    return ()


_COMBINED = {
    "mean_probability": "the mean of the members' probabilities",
    "mean_logit": "the mean of the members' logits",
    "weighted": "a sum of the members' logits with the recipe's weights",
    "greedy": "a weighted sum of the members' logits",
}
_PLACES = {"holdout": "a held-out share of the training images", "val": "the validation images"}


def _words(
    split: str,
    truth: Labels,
    classes: Sequence[str],
    combination: Ensemble,
    chosen: str,
    rounds: int,
    boot: Bootstrap,
) -> dict[str, object]:
    """Return the fields of a Report that say what was scored, how the ensemble came about, and what to beware of."""
    how = _COMBINED[combination.combine]
    if chosen != "none":
        how += (
            f", with weights from greedy selection with replacement (Caruana et al., ICML 2004), at most {rounds} "
            f"rounds, by accuracy on {_PLACES.get(chosen, chosen)}"
        )
    counts = np.bincount(truth, minlength=len(classes))
    flattery = _flattery(split, chosen)
    return {
        "split": split,
        "n": len(truth),
        "classes": tuple(classes),
        "rule": f"Scored on {counted(len(truth), 'image')} of split {split}. The ensemble is {how}. {boot.rule}",
        "rules": {name: metric.rule for name, metric in metrics_for(len(classes)).items()},
        "combine": combination.combine,
        "fitted_on": chosen,
        "flattered": bool(flattery),
        "majority": counts.max() / len(truth),
        "warnings": (*flattery, *absent_classes(counts, classes)),
    }
