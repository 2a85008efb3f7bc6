"""CPU time of `quick` with cached features against the same training without the cache, both in one run.

    python bench/feature_cache.py DATA [--size 64] [--epochs 20]

DATA is in the course's form (`train_50/…`, `val_50/…`, files `{class}_{index}.png`). Of it 2,500 training and
500 validation images are used. Each side is a process of its own with an empty cache, on the CPU; CPU time is user +
system time of the whole process. The pretrained weights are found as always: name their folder by OCTAVO_WEIGHTS, or
let them be downloaded.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from sides import guarded, octavo, report_of, slice_of

IMAGES = {"train": 2500, "val": 500}


def main() -> None:
    """Run both sides and print their CPU seconds, the ratio, and the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = slice_of(given.data.resolve(), Path(folder), IMAGES)
        sides = {
            name: train(table, Path(folder) / name, given.size, given.epochs, cache)
            for name, cache in (("cached", "true"), ("not cached", "false"))
        }
    for name, (seconds, report) in sides.items():
        accuracies = ", ".join(f"{s['name']} {s['metrics']['accuracy']['value']:.4f}" for s in report["systems"])
        print(f"{name:11} {seconds:8.1f} CPU s   {accuracies}")
    print(f"ratio       {sides['not cached'][0] / sides['cached'][0]:8.1f}")


def train(data: Path, out: Path, size: int, epochs: int, cache: str) -> tuple[float, dict]:
    """Train in a process of its own; return its CPU seconds and its report."""
    words = ["train", "quick", "--data", str(data), "--out", str(out), "--cache", f"{out}.cache", "--device", "cpu"]
    for change in (f"data.size={size}", f"data.stored={size}", f"train.epochs={epochs}", f"train.cache={cache}"):
        words += ["--set", change]
    return octavo(*words)[0], report_of(out)


if __name__ == "__main__":
    guarded(main)
