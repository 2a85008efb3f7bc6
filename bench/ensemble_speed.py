"""Images per second of an ensemble: its networks one after another in float32, as Octavo runs them, and in a cascade.

    python bench/ensemble_speed.py RUN [--images 512] [--repeats 3] [--cascade]

RUN is a finished run of classifiers whose data are where they were. The validation images, decoded and repeated up to
--images, go through resizing, normalising and the networks in batches of 64, to logits in memory. The sides take turns;
the median of their repeats counts:

    eager        every network of the run by itself, float32, as torchvision lays it out in memory
    octavo       the same networks as `octavo predict` runs them: the run's precision and memory format
    cascade      with --cascade: sure images stop at the first members (fitted by `octavo ensemble cascade` before)

How many top-1 answers of the second and third side differ from the first is told beside.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from octavo.data.batches import Batch
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import find
from octavo.engine.restore import Trained, batch_of, restore
from octavo.looks.subject import ClassifySubject
from octavo.verbs.cascade import cascade_of
from octavo.verbs.predict import in_stages

BATCH = 64


def main() -> None:
    """Time the sides in turns and print images per second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cascade", action="store_true")
    given = parser.parse_args()
    run = RunFolder.open(given.run)
    subject, ensemble, device = ClassifySubject(run, "auto"), run.ensemble, find().device
    count = len(subject.labels)
    places = [i % count for i in range(given.images)]
    batches = [batch_of([subject.picture(i) for i in places[at : at + BATCH]]) for at in range(0, len(places), BATCH)]
    nets = {name: restore(run, name, device) for name in ensemble.names}
    sides: dict[str, Callable[[Batch], np.ndarray]] = {
        "eager": of_all([eager(restore(run, name, device)) for name in ensemble.names], run),
        "octavo": of_all(list(nets.values()), run),
    }
    if given.cascade:
        stages = cascade_of(run)
        sides["cascade"] = lambda batch: in_stages(stages, [nets[name] for name in stages.names], batch)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    answers: dict[str, np.ndarray] = {}
    for side in sides.values():
        side(batches[0])  # first passes allocate memory and choose algorithms
    for _ in range(given.repeats):
        for name, side in sides.items():
            start = time.perf_counter()
            answers[name] = np.concatenate([side(batch).argmax(1) for batch in batches])
            seconds[name].append(time.perf_counter() - start)
    first = statistics.median(seconds["eager"])
    truth = subject.labels[places]
    print(
        f"{given.run}: {len(nets)} networks, {given.images} images, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    )
    for name, found in seconds.items():
        middle = statistics.median(found)
        other = (answers[name] != answers["eager"]).mean()
        print(
            f"{name:8} {given.images / middle:8.1f} images/s   × {first / middle:5.2f}   accuracy {np.mean(answers[name] == truth):.4f}   other answers {other:.2%}"
        )


def eager(trained: Trained) -> Trained:
    """Return a member in float32 and the usual memory format."""
    net = trained.net.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    return replace(trained, net=net, inputs=replace(trained.inputs, channels_last=False), bf16=False)


def of_all(nets: list[Trained], run: RunFolder) -> Callable[[Batch], np.ndarray]:
    """Return what answers a batch with every network."""
    return lambda batch: run_ensemble(np.stack([net.logits(batch) for net in nets]), run)


def run_ensemble(logits: np.ndarray, run: RunFolder) -> np.ndarray:
    """Return the ensemble's logits [B,C]."""
    return run.ensemble.logits(logits)


if __name__ == "__main__":
    main()
