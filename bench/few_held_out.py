"""What an ensemble gets from few held-out images: weights and temperatures fitted on draws of them, tried on others.

    python bench/few_held_out.py RUN [RUN …] [--draws 200] [--sizes 10 20 40 80 160 320 640] [--made]

RUN is a run of several classifiers with held-out images; `--made` adds members that are made up, whose truth is known.
For each size so many of the held-out images are drawn, `--draws` times over. On them weights and temperatures are
fitted as training fits them, and scored on the validation images. Told are, in the mean over the draws:

    greedy       points of accuracy over the plain mean of the members' logits, by combine = "greedy" (shrunken weights)
    caruana      the same by plain greedy selection, as earlier versions chose weights
    alone        how often one member alone is left by each
    temperature  NLL less that without calibration: of the members in the mean, of the ensemble (equal weights)
    unshrunk     the same by the temperature with the least NLL on the drawn images, as earlier versions fitted it
    vector       the same by vector scaling

Exit code 1 if `greedy` lost more than 0.3 points anywhere, or was below `caruana` by more than 0.1 at the largest size.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sides import guarded, machine

from octavo.engine.folder import RunFolder
from octavo.numbers.calibration import Calibration
from octavo.numbers.ensemble import CHOSEN, Ensemble

LOST, BEHIND = 0.3, 0.1
"""Points that may be lost against the plain mean, and against plain greedy selection at the largest size."""
Set = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Logits [M,n,C] and labels [n] of held-out images, then those of others."""


def main() -> None:
    """Print a table for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 40, 80, 160, 320, 640])
    parser.add_argument("--made", action="store_true")
    given = parser.parse_args()
    print(machine("scipy"), flush=True)
    sets = {str(path): stored(RunFolder.open(path)) for path in given.runs} | (made_up() if given.made else {})
    worse = [table(name, one, given.draws, given.sizes) for name, one in sets.items()]
    sys.exit(int(any(worse)))


def stored(run: RunFolder) -> Set:
    """Return the stored outputs of a run's members."""
    return run.outputs("holdout"), run.labels("holdout"), run.outputs("val"), run.labels("val")


def table(name: str, one: Set, draws: int, sizes: list[int]) -> bool:
    """Print what draws of each size gave, and return whether it was worse than allowed."""
    pick, truth, score, answer = one
    names = [str(m) for m in range(len(pick))]
    plain = accuracy(score.mean(0, dtype=np.float64), answer)
    alone = ", ".join(f"{accuracy(member, answer):.3f}" for member in score)
    before = [nll(member, answer) for member in score], nll(score.mean(0), answer)
    print(f"{name}: plain mean {plain:.4f} on {len(answer):,} images, NLL {before[1]:.4f}; members {alone}")
    print("images  greedy (alone)  caruana (alone)  temperature: members, mean  unshrunk  vector")
    worse = False
    for n in (size for size in sizes if size <= len(truth)):
        found: dict[str, list[float]] = defaultdict(list)
        for seed in range(draws):
            rows = np.random.default_rng(seed).choice(len(truth), n, replace=False)
            logits, labels = pick[:, rows], truth[rows]
            for combine in CHOSEN:
                weights = Ensemble.fit(names, combine, logits, labels).weights
                mixed = np.tensordot(weights, score, 1)
                found[combine].append(100 * (accuracy(mixed, answer) - plain))
                found[f"{combine} alone"].append(sum(w > 0 for w in weights) == 1)
            for way, scale in WAYS.items():
                changes = [nll(scale(*pair, labels), answer) for pair in zip(logits, score, strict=True)]
                found[way].append(float(np.mean(changes) - np.mean(before[0])))
                found[f"{way} of mean"].append(nll(scale(logits.mean(0), score.mean(0), labels), answer) - before[1])
        mean = {key: float(np.mean(values)) for key, values in found.items()}
        print(
            f"{n:6d}  {mean['greedy']:+6.2f} ({mean['greedy alone']:4.0%})  "
            f"{mean['caruana']:+7.2f} ({mean['caruana alone']:4.0%})  "
            + "  ".join(f"{mean[way]:+10.4f}, {mean[way + ' of mean']:+7.4f}" for way in WAYS),
            flush=True,
        )
        behind = mean["greedy"] < mean["caruana"] - BEHIND and n == max(s for s in sizes if s <= len(truth))
        worse |= mean["greedy"] < -LOST or behind
    return worse


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of right answers."""
    return float((logits.argmax(1) == labels).mean())


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean NLL."""
    return -float(log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels].mean())


def unshrunk(fitted: np.ndarray, scored: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return scored logits by the temperature with the least NLL on fitted ones; 1 where all of those are right."""
    if (fitted.argmax(1) == labels).all():
        return scored
    loss = minimize_scalar(lambda log: nll(fitted / np.exp(log), labels), bounds=(-4.6, 4.6), method="bounded")
    return scored / np.exp(loss.x)


def _calibrated(method: str, fitted: np.ndarray, scored: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return Calibration.fit(method, fitted, labels).apply(scored)


WAYS = {
    "temperature": lambda *given: _calibrated("temperature", *given),
    "unshrunk": unshrunk,
    "vector": lambda *given: _calibrated("vector", *given),
}
"""Name → (fitted logits, scored logits, fitted labels) → scored logits, rescaled."""


def made_up(classes: int = 10, held: int = 3000, scored: int = 5000) -> dict[str, Set]:
    """Return members whose logits are truth and noise, of which a share is that of all of them."""
    found = {}
    for name, (strengths, alike, scales) in MADE.items():
        random = np.random.default_rng(len(found))
        halves: list[np.ndarray] = []
        for n in (held, scored):
            labels = random.integers(0, classes, n)
            truth = np.eye(classes)[labels] * random.exponential(1, n)[:, None]
            shared, own = random.normal(size=(n, classes)), random.normal(size=(len(strengths), n, classes))
            logits = 2 * np.array(strengths)[:, None, None] * truth
            logits += np.sqrt(alike) * shared + np.sqrt(1 - alike) * own
            halves += [(logits * np.array(scales)[:, None, None]).astype(np.float32), labels]
        found[f"made up, {name}"] = (halves[0], halves[1], halves[2], halves[3])
    return found


MADE: dict[str, tuple[list[float], float, list[float]]] = {
    "2 alike": ([1.0] * 2, 0.5, [1.0] * 2),
    "3 alike": ([1.0] * 3, 0.5, [1.0] * 3),
    "8 alike": ([1.0] * 8, 0.5, [1.0] * 8),
    "8 correlated": ([1.2, 1.2, 1.1, 1.1, 1.0, 1.0, 0.9, 0.9], 0.9, [1.0] * 8),
    "1 of 3 much better": ([2.5, 1.0, 1.0], 0.3, [1.0] * 3),
    "1 of 8 much better": ([2.5, *[1.0] * 7], 0.3, [1.0] * 8),
    "1 of 3 terrible": ([1.5, 1.5, 0.0], 0.2, [1.0, 1.0, 6.0]),
    "1 of 2 terrible": ([1.5, 0.0], 0.2, [1.0, 4.0]),
    "nearly perfect": ([6.0, 5.5, 5.0], 0.4, [1.0] * 3),
    "1 of 3 overconfident": ([1.3, 1.2, 1.1], 0.4, [5.0, 1.0, 1.0]),
}
"""Name → what each member knows, share of noise that is common to all, and what its logits are multiplied by."""


if __name__ == "__main__":
    guarded(main)
