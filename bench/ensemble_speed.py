"""Images per second of an ensemble: its networks one after another in float32, as Octavo runs them, and in a cascade.

    python bench/ensemble_speed.py RUN [--images 512] [--repeats 3] [--cascade] [--compile]

RUN is a finished run of classifiers whose data are where they were. Validation images, decoded, in an order drawn by
chance (those of the half that a cascade was not fitted on, with --cascade) and repeated up to --images, go through
resizing, normalising and the networks in batches of 64, to logits in memory; on a GPU a cascade sorts 512 at a time, as
`octavo predict --cascade` does. The sides take turns; the median of their repeats counts:

    eager        every network of the run by itself, float32, as torchvision lays it out in memory, batches whole
    float32      the same networks in float32, shared work once, repeats folded, in the run's memory format
    octavo       the same as `octavo predict` runs them: in the run's precision too (bfloat16 where it was trained
                 so, or where `octavo ensemble precision --apply` allowed it)
    compiled     with --compile: the same, each extractor and head by torch.compile; its seconds are told
    cascade      with --cascade: sure images stop at the first members (fitted by `octavo ensemble cascade` before)

How many top-1 answers of the other sides differ from the first is told beside.
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
from sides import guarded, limits, machine

from octavo.data.batches import Batch
from octavo.engine.cascaded import cascade_of, in_stages, together_of
from octavo.engine.folder import RunFolder
from octavo.engine.graphs import OFTEN, Replayed
from octavo.engine.hardware import find
from octavo.engine.infer import Part
from octavo.engine.restore import Trained, batch_of, restore, restore_all, together
from octavo.engine.sets import first_half
from octavo.looks.subject import ClassifySubject
from octavo.recipe import ClassifyRecipe

BATCH = 64


def main() -> None:
    """Time the sides in turns and print images per second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cascade", action="store_true")
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    run = RunFolder.open(given.run)
    subject, ensemble, device = ClassifySubject(run, "auto"), run.ensemble, find().device
    count = len(subject.labels)
    pool = np.flatnonzero(~first_half(run)) if given.cascade else np.arange(count)
    pool = np.random.default_rng(0).permutation(pool)
    places = [int(pool[i % len(pool)]) for i in range(given.images)]
    batches = batches_of(subject, places, BATCH)
    size = together_of(run.recipe_as(ClassifyRecipe).stored_side, device)
    wide = batches_of(subject, places, size) if size > BATCH else batches
    nets = dict(zip(ensemble.names, restore_all(run, ensemble.names, device), strict=True))
    again = restore_all(run, ensemble.names, device)  # what a GPU records is of one precision
    exact = [replace(net, bf16=False) for net in again]
    sides: dict[str, Callable[[Batch], np.ndarray]] = {
        "eager": one_by_one([eager(restore(run, name, device, bf16=False)) for name in ensemble.names], run),
        "float32": lambda batch: run.ensemble.logits(together(exact, batch)),
        "octavo": lambda batch: run.ensemble.logits(together(list(nets.values()), batch)),
    }
    if given.compile:
        made: dict[Part, Part] = {}
        compiled = [replace(net, halves=compiled_halves(net, made)) for net in nets.values()]
        sides["compiled"] = lambda batch: run.ensemble.logits(together(compiled, batch))
    if given.cascade:
        stages = cascade_of(run)
        in_order = [nets[name] for name in stages.names]
        sides["cascade"] = lambda batch: in_stages(stages, in_order, batch)[:, :-1]
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    answers: dict[str, np.ndarray] = {}
    for name, side in sides.items():
        start = time.perf_counter()
        for _ in range(OFTEN if device.type == "cuda" else 1):
            side(batches[0])  # first passes allocate memory, choose algorithms, compile or record
        if name == "compiled":
            print(f"compiled: first batch after {time.perf_counter() - start:.0f} s")
    for _ in range(given.repeats):
        for name, side in sides.items():
            start = time.perf_counter()
            parts = wide if name == "cascade" else batches
            answers[name] = np.concatenate([side(batch).argmax(1) for batch in parts])
            seconds[name].append(time.perf_counter() - start)
    first = statistics.median(seconds["eager"])
    truth = subject.labels[places]
    print(machine(), limits(device), sep="\n")
    print(f"{given.run}: {len(nets)} networks, {given.images} images, load {os.getloadavg()[0]:.1f}")
    for name, found in seconds.items():
        middle = statistics.median(found)
        other = (answers[name] != answers["eager"]).mean()
        right = np.mean(answers[name] == truth)
        print(
            f"{name:8} {given.images / middle:8.1f} images/s   × {first / middle:5.2f}   accuracy {right:.4f}   "
            f"other answers {other:.2%}   10,000 images in {10_000 * middle / given.images / 60:.1f} min"
        )


def batches_of(subject: ClassifySubject, places: list[int], size: int) -> list[Batch]:
    """Return decoded images in batches."""
    starts = range(0, len(places), size)
    return [batch_of([subject.picture(i) for i in places[at : at + size]]) for at in starts]


def compiled_halves(trained: Trained, made: dict[Part, Part]) -> tuple[tuple[Part, Part], ...]:
    """Return a member's extractors and heads, compiled for the first batch's shape; `made` has those of the others."""
    for part in (part for half in trained.halves for part in half):
        made.setdefault(part, torch.compile(part.net if isinstance(part, Replayed) else part))
    return tuple((made[body], made[head]) for body, head in trained.halves)


def eager(trained: Trained) -> Trained:
    """Return a member in float32 and the usual memory format."""
    net = trained.net.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    return replace(trained, net=net, inputs=replace(trained.inputs, channels_last=False), bf16=False, halves=())


def one_by_one(nets: list[Trained], run: RunFolder) -> Callable[[Batch], np.ndarray]:
    """Return what answers a batch with every network, each with inputs of its own, the whole batch at once."""

    @torch.inference_mode()
    def of(member: Trained, batch: Batch) -> np.ndarray:
        return member.net(member.inputs.plain(batch.to(member.device))).float().cpu().numpy()

    return lambda batch: run.ensemble.logits(np.stack([of(net, batch) for net in nets]))


if __name__ == "__main__":
    guarded(main)
