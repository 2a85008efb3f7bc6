"""Whether a cascade keeps its budget: fitted on many random halves of the validation images, tried on the others.

    python bench/cascade_halves.py RUN [--budget 0.2] [--halves 40]

RUN is a run to which `octavo ensemble cascade` was fitted: members' order and times are taken from there. Each half is
drawn within the classes, or of whole groups. Told are points of accuracy lost on the other half (mean, nine in ten,
worst), how often it was more than half a point, and how many times faster it is by the members' times:

    fitted      thresholds that keep the budget on the images that they are fitted to
    cautious    these raised, as `octavo ensemble cascade` does, by cross-validation in the half
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sides import guarded

from octavo.engine.cascaded import cascade_of
from octavo.engine.folder import RunFolder
from octavo.engine.sets import first_half
from octavo.numbers.cascade import (
    answers_of,
    confidences,
    expected,
    fit_cautiously,
    fit_thresholds,
    folds_of,
    stopped,
)
from octavo.numbers.speed_results import CascadeReport


def main() -> None:
    """Fit and try on all halves, and print what was lost and saved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--budget", type=float, default=0.2)
    parser.add_argument("--halves", type=int, default=40)
    given = parser.parse_args()
    run = RunFolder.open(given.run)
    prefixes = cascade_of(run).prefixes  # refuses where there is none, or one of another ensemble
    steps = CascadeReport.model_validate((run.cascade or {})["report"]).steps
    costs = np.array([step.milliseconds for step in steps])
    answers, labels = answers_of(prefixes, run.ensemble.names, run.outputs("val")), run.labels("val")
    right, sure, likely = answers.argmax(2) == labels, confidences(answers), expected(answers)
    groups = run.groups("val")
    found: dict[str, list[tuple[float, float]]] = {"fitted": [], "cautious": []}
    for seed in range(given.halves):
        first = first_half(run, seed)
        own, judged = sure[:, first], np.stack([likely, right])[:, :, first]
        alike, budget = None if groups is None else groups[first], given.budget / 100
        folds = folds_of(int(first.sum()), seed, alike)
        fits = {
            "fitted": fit_thresholds(own, judged, costs, budget),
            "cautious": fit_cautiously(own, judged, right[:, first], costs, budget, folds, alike)[0],
        }
        for name, thresholds in fits.items():
            stops = stopped(sure[:, ~first], thresholds)
            kept = right[:, ~first][stops, np.arange(len(stops))].mean()
            found[name].append((100 * (right[-1, ~first].mean() - kept), costs[-1] / costs[stops].mean()))
    print(f"{given.run}: {given.halves} halves of {len(labels):,} images, budget {given.budget:g} points")
    for name, pairs in found.items():
        lost, times = np.array(pairs).T
        print(
            f"{name:9} lost {lost.mean():+.2f} points, nine in ten {np.quantile(lost, 0.9):+.2f} or less, at worst "
            f"{lost.max():+.2f}; more than 0.5: {np.mean(lost > 0.5):.0%}; × {np.median(times):.1f} (median)"
        )


if __name__ == "__main__":
    guarded(main)
