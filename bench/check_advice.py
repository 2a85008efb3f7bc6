"""Whether it helps to follow what `octavo check` advises: uneven sets trained as they are, and as advised.

    python bench/check_advice.py DATA [--recipe quick] [--members squeezenet1_1 mobilenet_v2] [--seeds 5]

DATA is a folder of classes with a validation part, such as Tiny ImageNet's 50 classes. For each seed and each row of
numbers below, classes are drawn from it and cut down to so many training images (of a class that has fewer, others are
joined to it); they are validated on all of their validation images. Each set is checked, and trained twice: by the
recipe, and with every `key = value` that the check's warnings name. Printed is the ensemble's balanced accuracy on the
validation images, and each member's mean. Exit code 1 if advice lowered the mean over the seeds anywhere. Features lie
in the cache (OCTAVO_CACHE), so that heads alone are trained the second time.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from sides import guarded, machine

from octavo.data import torchvision_data
from octavo.data.samples import Samples
from octavo.numbers.results import Report
from octavo.options import Options
from octavo.recipe import ClassifyRecipe, load
from octavo.tasks.classification.check import check
from octavo.verbs.training import train

SIZES = ((500, 8), (1000, 3), (150, 30, 20))
"""Training images of each class."""
ADVICE = re.compile(r"((?:train|data|augment|ensemble)\.[a-z_]+) = (\"[a-z_]+\"|[\d.]+)")


def main() -> None:
    """Draw, check, train twice, and print how balanced accuracy changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--members", nargs="+", default=["squeezenet1_1", "mobilenet_v2"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--weights-dir", type=Path)
    given = parser.parse_args()
    recipe = load(given.recipe)
    assert isinstance(recipe, ClassifyRecipe)
    recipe = recipe.model_copy(update={"members": tuple(m for m in recipe.members if m.name in given.members)})
    samples = torchvision_data.read(given.data)
    print(f"{recipe.name}: {', '.join(given.members)}; {machine()}", flush=True)
    worse = False
    for sizes in SIZES:
        gains = [tried(samples, sizes, seed, recipe, given.weights_dir) for seed in range(given.seeds)]
        mean = np.mean(gains, axis=0)
        print(f"{':'.join(map(str, sizes))}, mean of {given.seeds}: ensemble {mean[0]:+.4f}, members {mean[1]:+.4f}")
        worse |= bool(mean.min() < 0)
    sys.exit(int(worse))


def tried(
    samples: Samples, sizes: tuple[int, ...], seed: int, recipe: ClassifyRecipe, weights_dir: Path | None
) -> tuple[float, float]:
    """Return what the check's advice added to balanced accuracy on one drawn set: of the ensemble, of its members."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "drawn.csv"
        draw(samples, sizes, seed, table)
        advised = [
            f"{key}={value}" for text in check(table, leaks=False).warnings for key, value in ADVICE.findall(text)
        ]
        found = []
        for number, changes in enumerate(([], advised)):
            options = Options(out=Path(folder) / str(number), weights_dir=weights_dir, leaks=False, report=False)
            run = train(load(recipe, [*changes, f"seed={seed}"]), str(table), options=options)
            assert isinstance(run.metrics, Report)
            scores = [system.metrics["balanced_accuracy"].value for system in run.metrics.systems]
            found.append((scores[-1], float(np.mean(scores[:-1]))))
    (plain, plain_members), (ours, our_members) = found
    said = " ".join(advised) or "no advice"
    print(f"  {':'.join(map(str, sizes))} seed {seed}: {plain:.4f} → {ours:.4f} ({said})", flush=True)
    return ours - plain, our_members - plain_members


def draw(samples: Samples, sizes: tuple[int, ...], seed: int, out: Path) -> None:
    """Write a table of drawn classes with so many training images each, and all of their validation images."""
    random = np.random.default_rng((seed, *sizes))
    classes = iter(random.permutation(len(samples.classes)).tolist())
    rows = []
    for size in sizes:
        name, drawn, kept = f"of_{size}", np.empty(0, np.int64), np.empty(0, np.int64)
        while len(drawn) < size:
            chosen = next(classes)
            train_part, val_part = (samples.splits[part] for part in ("train", "val"))
            drawn = np.concatenate([drawn, random.permutation(train_part[samples.labels[train_part] == chosen])])
            kept = np.concatenate([kept, val_part[samples.labels[val_part] == chosen]])
        rows += [(samples.path(i).absolute(), name, "train") for i in drawn[:size].tolist()]
        rows += [(samples.path(i).absolute(), name, "val") for i in kept.tolist()]
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "split"])
        writer.writerows(rows)


if __name__ == "__main__":
    guarded(main)
