"""One more image: a loaded predictor's call on a decoded array, beside its networks alone.

    OMP_NUM_THREADS=1 python bench/predictor.py RUN [--calls 100] [--side 144]

RUN is a finished run of classifiers. The sides take turns, a call each, on one image of noise of so many pixels a side:

    networks     the run's networks, shared extractors once, on their input, resized and normalised beforehand
    predictor    `predictor.predict(array)`: checks, batch, resizing, normalising, the same networks, ensemble, softmax
    run          `run.predict(path)` as a user would without a predictor: networks are loaded at every call

The median of the calls counts (of `run`, a tenth as many).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sides import guarded, machine

import octavo
from octavo.engine.folder import RunFolder
from octavo.engine.restore import batch_of
from octavo.tasks.classification.predictor import ClassPredictor


def main() -> None:
    """Time the sides in turns and print milliseconds a call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--side", type=int, default=144)
    given = parser.parse_args()
    pixels = np.random.default_rng(0).integers(0, 256, (given.side, given.side, 3), np.uint8)
    path = Path(tempfile.mkdtemp()) / "image.png"
    Image.fromarray(pixels).save(path)
    run = octavo.load(given.run)
    predictor = ClassPredictor(RunFolder.open(given.run))
    sides: dict[str, Callable[[], object]] = {
        "networks": networks(predictor, pixels),
        "predictor": lambda: predictor.predict(pixels),
        "run": lambda: run.predict(path),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for call in range(-3, given.calls):  # the first calls allocate memory and choose algorithms
        for name, side in sides.items():
            if name == "run" and call % 10:
                continue
            start = time.perf_counter()
            side()
            if call >= 0:
                seconds[name].append(time.perf_counter() - start)
    print(machine())
    print(f"{given.run}: {given.calls} calls, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    alone = statistics.median(seconds["networks"])
    for name, found in seconds.items():
        middle = statistics.median(found)
        print(f"{name:10} {1000 * middle:8.2f} ms a call   × {middle / alone:5.2f}")


def networks(predictor: ClassPredictor, pixels: np.ndarray) -> Callable[[], object]:
    """Return a call of a predictor's networks on their input, which is made once, without anything around them."""
    batch = batch_of([pixels])
    members = [predictor.members[name] for name in predictor.used]
    inputs = [member.inputs.plain(batch.to(member.device)) for member in members]

    @torch.inference_mode()
    def call() -> None:
        features = {}
        for member, x in zip(members, inputs, strict=True):
            with torch.autocast(member.device.type, torch.bfloat16, enabled=member.bf16):
                for body, head in member.halves:
                    if body not in features:
                        features[body] = body(x)
                    head(features[body]).float().cpu()

    return call


if __name__ == "__main__":
    guarded(main)
