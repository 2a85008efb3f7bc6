"""How often prediction sets hold the true class, on images that they were not fitted on.

    python bench/conformal_coverage.py RUN [--coverage 0.8 0.9 0.95] [--splits 200] [--calibrate temperature] [--same]

RUN is a run of a classifier with outputs for validation images and for a held-out share of the training images. On that
share, where its ensemble's weights were chosen, the calibration is fitted. The validation images are split at random in
two halves, class by class; the threshold is fitted on one, sets are made for the other, and that is repeated. `--same`
fits the calibration on the threshold's half instead, which costs coverage. The range beside the measured one is what
theory gives: thresholds and halves both vary (Vovk, ACML 2012: beta-binomial).
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
from scipy.special import softmax
from scipy.stats import betabinom
from sides import guarded
from sklearn.model_selection import StratifiedShuffleSplit

from octavo.engine.folder import RunFolder
from octavo.numbers.calibration import CALIBRATIONS, Calibration
from octavo.numbers.conformal import METHODS, coverage_of, fit_sets
from octavo.numbers.metrics import METRICS


def main() -> None:
    """Print the mean and the range of the coverage over splits, and the sizes of the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--coverage", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--calibrate", choices=list(CALIBRATIONS), default="temperature")
    parser.add_argument("--same", action="store_true")
    given = parser.parse_args()
    run = RunFolder.open(given.run)
    labels, logits = run.labels("val"), outputs(run, "val")
    held = None if given.same else Calibration.fit(given.calibrate, outputs(run, "holdout"), run.labels("holdout"))
    splits = list(
        StratifiedShuffleSplit(given.splits, test_size=0.5, random_state=0).split(np.zeros(len(labels)), labels)
    )
    print(f"{run.path.name}: {len(labels)} validation images, {len(splits)} splits in halves, {given.calibrate}")
    half = fitted(logits, labels, splits, given.calibrate, held)
    print("sets   asked    mean   lowest highest    95 % of splits     theory's 95 %    mean size   empty  size 1")
    for method in METHODS:
        for coverage in given.coverage:
            print(row(half, method, coverage))


def outputs(run: RunFolder, part: str) -> np.ndarray:
    """Return the ensemble's logits [n,C] of one part."""
    ensemble = run.ensemble
    return ensemble.logits([run.member(name).outputs()[part] for name in ensemble.names])


def fitted(
    logits: np.ndarray, labels: np.ndarray, splits: list, method: str, held: Calibration | None
) -> list[tuple[np.ndarray, ...]]:
    """Return probabilities and labels of both halves of each split, calibrated; print NLL and ECE."""
    halves, scores, start = [], [], time.perf_counter()
    for one, other in splits:
        calibration = held or Calibration.fit(method, logits[one], labels[one])
        after = calibration.apply(logits[other])
        scores.append([METRICS[name](z, labels[other])[0] for name in ("nll", "ece") for z in (logits[other], after)])
        halves.append(
            (softmax(calibration.apply(logits[one]), axis=1), labels[one], softmax(after, axis=1), labels[other])
        )
    nll, nll_after, ece, ece_after = np.mean(scores, axis=0)
    print(f"on the other halves: NLL {nll:.4f} -> {nll_after:.4f}, ECE {ece:.4f} -> {ece_after:.4f}")
    print(f"{1e3 * (time.perf_counter() - start) / len(splits):.0f} ms a split")
    return halves


def row(halves: list[tuple[np.ndarray, ...]], method: str, coverage: float) -> str:
    """Return a line of the table."""
    found = []
    for known, truth, new, answers in halves:
        made = fit_sets(known, truth, coverage, method)
        sets = made.sets(new)
        empty = float((~made.sets(new, empty=True).any(axis=1)).mean())
        share = coverage_of(sets, answers)
        found.append((share.coverage.value, share.mean_size, empty, float((sets.sum(axis=1) == 1).mean())))
    shares, sizes, empties, ones = np.array(found).T
    n, m = len(halves[0][1]), len(halves[0][3])
    k = math.ceil((n + 1) * coverage - 1e-9)
    low, high = betabinom.ppf([0.025, 0.975], m, k, n + 1 - k) / m
    inner = np.quantile(shares, [0.025, 0.975])
    return (
        f"{method:5}  {coverage:.3f}  {shares.mean():.4f}  {shares.min():.4f}  {shares.max():.4f}  "
        f"{inner[0]:.4f} to {inner[1]:.4f}  {low:.4f} to {high:.4f}  {sizes.mean():8.2f}  {empties.mean():6.2%}  "
        f"{ones.mean():6.2%}"
    )


if __name__ == "__main__":
    guarded(main)
