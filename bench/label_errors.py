"""How many of the labels that Octavo flags first were flipped, beside cleanlab's own ways on the same images.

    python bench/label_errors.py DATA [--recipe quick] [--flips 0.05] [--folds 5] [--epochs 10] [--seed 1 2 3]

DATA is a folder of classes that `octavo train` reads. Of its training labels a share is flipped, each to another class
at random, by a CSV file for `--labels`; the data stay as they are. Then the recipe is trained in folds, and every
training image is judged by networks that did not see it. Flagged first are as many images as were flipped, n of them,
so that precision among them and recall are one number, but for ways that flag fewer. Rows:

    octavo            the run's own list (explained/suspects.csv): its ensemble, confident learning, ranked
    cleanlab, same    cleanlab's label quality scores of all images, from the very same probabilities
    cleanlab, issues  its find_label_issues (pruned by noise rate, ranked by self-confidence), from the same
    cleanlab, own     its documented way: scikit-learn's logistic regression, cross-validated in 5 folds, on features of
                      a trained network, and the same scores. Features are those that the run's frozen extractors gave,
                      standardised: of the first member (one) or of all in a row (all). C=1 is scikit-learn's default,
                      as in cleanlab's tutorials; C=0.01 is ours, stronger regularisation for labels that are noisy
    random            images in any order

With one network each the members follow. A logistic regression that didn't converge in 1,000 steps is said. The weights
are found as always; features lie in the cache, so that a second seed needs no network. OCTAVO_CACHE names the cache.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from scipy.special import softmax
from sides import guarded
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from octavo.cache import cache_dir
from octavo.data import torchvision_data
from octavo.engine.embedding import _frozen
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import find
from octavo.files import read_csv
from octavo.numbers.suspects import label_suspects
from octavo.options import Options
from octavo.progress import silent
from octavo.recipe import load
from octavo.verbs.explain import explain
from octavo.verbs.training import train

WAYS = ("self_confidence", "normalized_margin")
STEPS = 1000


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
        print(f"seed {seed}: n = {count:,} labels flipped ({time.perf_counter() - start:.0f} s)")
        for name, hits, flagged in rows:
            first = min(flagged, count)
            shares = f"precision {hits / max(first, 1):6.1%}  recall {hits / count:6.1%}"
            print(f"  {name:48} {shares}   {hits:,} right among the first {first:,} of {flagged:,}", flush=True)


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
    """Return for each way its name, how many of the first n were flipped, and how many it flagged in all."""
    rows = [row for row in run.samples() if row["part"] == "holdout"]
    flipped = np.array([bool(row["given"]) for row in rows])
    labels, first = run.labels("holdout"), int(flipped.sum())
    logits = {name: run.member(name).outputs()["holdout"] for name in run.ensemble.names}
    together = softmax(run.ensemble.logits(np.stack(list(logits.values()))), axis=1)

    def counted(name: str, order: np.ndarray) -> tuple[str, int, int]:
        return name, int(flipped[order[:first]].sum()), len(order)

    place = {row["file"]: i for i, row in enumerate(rows)}
    explain(run, looks=["suspects"], progress=silent, say=lambda _: None)
    listed = [place[row["file"]] for row in read_csv(run.explained("suspects.csv")) if row["part"] == "holdout"]
    found = [counted("octavo", np.array(listed))]
    found += [counted(f"cleanlab, same, {way}", scores(labels, together, way)) for way in WAYS]
    issues = find_label_issues(
        labels, together, filter_by="prune_by_noise_rate", return_indices_ranked_by=WAYS[0], n_jobs=1
    )
    found.append(counted("cleanlab, issues", np.asarray(issues)))
    for which, names in (("one", run.ensemble.names[:1]), ("all", run.ensemble.names)):
        features = np.concatenate([features_of(run, name) for name in names], axis=1)
        for strength in (1.0, 0.01):
            own = cross_validated(features, labels, strength, seed)
            found += [
                counted(f"cleanlab, own, {which}, C={strength:g}, {way}", scores(labels, own, way)) for way in WAYS
            ]
    for name, one in logits.items():
        answer = softmax(run.ensemble.member_logits(name, one), axis=1)
        found.append(counted(f"octavo, {name} alone", label_suspects(labels, answer).indices))
    return [*found, counted("random", np.random.default_rng(seed).permutation(len(labels)))]


def scores(labels: np.ndarray, probabilities: np.ndarray, method: str) -> np.ndarray:
    """Return all images, the lowest label quality first."""
    return np.argsort(get_label_quality_scores(labels, probabilities, method=method), kind="stable")


def features_of(run: RunFolder, name: str) -> np.ndarray:
    """Return what a member's frozen extractor made of the judged images, float32 [n,F], as it lies in the cache.

    Raises:
        SystemExit: it doesn't.
    """
    found = _frozen(run, name, find().kind, cache_dir())
    if found is None:
        raise SystemExit(
            f"{name}: its features are not in {cache_dir()}; cleanlab's own way needs members with frozen extractors "
            "and train.cache = true"
        )
    return np.array(found[[i for i, row in enumerate(run.samples()) if row["part"] == "holdout"]])


def cross_validated(features: np.ndarray, labels: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Return probabilities [n,C] of logistic regressions that did not see the image, with C=`strength`."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=STEPS))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
    if late := sum(issubclass(warning.category, ConvergenceWarning) for warning in told):
        print(f"C={strength:g} on {features.shape[1]:,} features: {late} of 5 not converged in {STEPS:,} steps")
    return found


if __name__ == "__main__":
    guarded(main)
