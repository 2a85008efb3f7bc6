"""How many of the labels that Octavo flags first were flipped, beside cleanlab's own ways on the same images.

    python bench/label_errors.py DATA [--recipe quick] [--flips 0.05] [--folds 5] [--epochs 10] [--seed 1 2 3]

DATA is a folder of classes that `octavo train` reads. Of its training labels a share is flipped, each to another class
at random, by a CSV file for `--labels`; the data stay as they are. Then the recipe is trained in folds, and every
training image is judged by networks that did not see it. Flagged first are as many images as were flipped, so that
precision among them and recall are one number. Rows:

    octavo          the run's own list (explained/suspects.csv): its ensemble, confident learning, ranked
    cleanlab, same  cleanlab's label quality scores of all images, from the very same probabilities
    cleanlab, own   cleanlab's documented way: scikit-learn's logistic regression, cross-validated in 5 folds, on the
                    features of the first member's frozen extractor, and the same scores
    random          images in any order

With one network each the members follow. The weights are found as always; features lie in the cache, so that a second
seed needs minutes only. OCTAVO_CACHE names the cache.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path

import numpy as np
from cleanlab.rank import get_label_quality_scores
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from octavo.cache import cache_dir, caches
from octavo.data import torchvision_data
from octavo.engine.folder import RunFolder
from octavo.files import read_csv
from octavo.numbers.suspects import label_suspects
from octavo.options import Options
from octavo.progress import silent
from octavo.recipe import load
from octavo.verbs.explain import explain
from octavo.verbs.training import train


def main() -> None:
    """Flip, train, rank, and print precision for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--flips", type=float, default=0.05)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    given = parser.parse_args()
    for seed in given.seed:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            labels = Path(folder) / "flipped.csv"
            count = flip(given.data, given.flips, seed, labels)
            changes = [f"data.folds={given.folds}", f"train.epochs={given.epochs}", f"seed={seed}"]
            options = Options(out=Path(folder) / "run", labels=labels, leaks=False)
            run = train(load(given.recipe, changes), given.data, (), options, progress=silent, say=print)
            rows = ranked(run, seed)
        print(
            f"seed {seed}: {count:,} labels flipped; precision among the first {count:,} ({time.perf_counter() - start:.0f} s)"
        )
        for name, hits, flagged in rows:
            print(f"  {name:32} {hits / count:6.1%}   {hits:,} right of {flagged:,} flagged")


def flip(data: str, share: float, seed: int, out: Path) -> int:
    """Write which training images get another class, drawn at random; return how many."""
    samples, draw = torchvision_data.read(data), np.random.default_rng(seed)
    train = samples.splits["train"]
    chosen = draw.choice(train, round(share * len(train)), replace=False)
    others = (samples.labels[chosen] + draw.integers(1, len(samples.classes), len(chosen))) % len(samples.classes)
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "corrected"])
        writer.writerows((samples.files[i], samples.classes[j]) for i, j in zip(chosen, others, strict=True))
    return len(chosen)


def ranked(run: RunFolder, seed: int) -> list[tuple[str, int, int]]:
    """Return for each way its name, how many of those flagged first were flipped, and how many it flagged."""
    rows = [row for row in run.samples() if row["part"] == "holdout"]
    flipped = np.array([bool(row["given"]) for row in rows])
    labels, first = run.labels("holdout"), int(flipped.sum())
    logits = {name: run.member(name).outputs()["holdout"] for name in run.ensemble.names}
    together = softmax(run.ensemble.logits(np.stack(list(logits.values()))), axis=1)

    def counted(name: str, order: np.ndarray) -> tuple[str, int, int]:
        return name, int(flipped[order[:first]].sum()), min(len(order), first)

    place = {row["file"]: i for i, row in enumerate(rows)}
    explain(run, looks=["suspects"], progress=silent, say=lambda _: None)
    listed = [place[row["file"]] for row in read_csv(run.explained("suspects.csv")) if row["part"] == "holdout"]
    found = [counted("octavo", np.array(listed))]
    found += [
        counted(f"cleanlab, same, {m}", scores(labels, together, m)) for m in ("self_confidence", "normalized_margin")
    ]
    own = cross_validated(run, labels, len(labels), seed)
    if own is not None:
        found += [
            counted(f"cleanlab, own, {m}", scores(labels, own, m)) for m in ("self_confidence", "normalized_margin")
        ]
    for name, one in logits.items():
        answer = softmax(run.ensemble.member_logits(name, one), axis=1)
        found.append(counted(f"octavo, {name} alone", label_suspects(labels, answer).indices))
    return [*found, counted("random", np.random.default_rng(seed).permutation(len(labels)))]


def scores(labels: np.ndarray, probabilities: np.ndarray, method: str) -> np.ndarray:
    """Return all images, the lowest label quality first."""
    return np.argsort(get_label_quality_scores(labels, probabilities, method=method), kind="stable")


def cross_validated(run: RunFolder, labels: np.ndarray, count: int, seed: int) -> np.ndarray | None:
    """Return probabilities [n,C] of logistic regressions on the first member's features; None where none are cached."""
    backbone = run.member(run.ensemble.names[0]).facts()["backbone"]
    places = [i for i, row in enumerate(run.samples()) if row["part"] == "holdout"]
    entries = [e for e in caches(cache_dir()) if e.kind == "features" and e.what.startswith(backbone)]
    entries = [e for e in entries if (e.path / "features.npy").is_file() and e.images == len(run.samples())]
    if not entries:
        return None
    newest = max(entries, key=lambda entry: entry.used)
    features = np.array(np.load(newest.path / "features.npy", mmap_mode="r")[0][places])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, C=0.01))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return cross_val_predict(model, features, labels, cv=folds, method="predict_proba")


if __name__ == "__main__":
    main()
