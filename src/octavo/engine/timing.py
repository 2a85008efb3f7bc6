"""How long a trained member takes for an image."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from octavo.data.batches import Batch
from octavo.engine.graphs import OFTEN
from octavo.engine.restore import Shared, Trained

BATCH = 16
"""Images in a batch that is timed."""
REPEATS = 7
"""Batches that are timed at most, after one that isn't."""
LEAST = 3
"""Batches that are timed however long they take."""
SECONDS = 5.0
"""No further batch is begun after this long."""


@dataclass(frozen=True)
class Timing:
    """Time of one member, from stored pixels in memory to logits in memory; images of one batch share it.

    Attributes:
        name: of the member.
        milliseconds: per image: the median of the repeats.
        fastest: per image, in milliseconds.
        slowest: per image, in milliseconds.
        repeats: batches timed.
        images: in a batch.
        bf16: whether it computed in bfloat16.
    """

    name: str
    milliseconds: float
    fastest: float
    slowest: float
    repeats: int
    images: int
    bf16: bool


def time_member(
    trained: Trained, batch: Batch, clock: Callable[[], float] = time.perf_counter, beside: Sequence[Trained] = ()
) -> Timing:
    """Return how long a member takes for an image of `batch`, resizing and normalising included, decoding not.

    One batch goes ahead untimed, since first passes allocate memory and choose algorithms; on a GPU as many as are
    called before they are replayed. The logits are copied to the CPU within the time, so that its work is waited for.

    Args:
        trained: the member, on its device.
        batch: decoded images.
        clock: seconds.
        beside: members that answered before, whose work it may share: the time is what it adds.
    """

    def run() -> float:
        shared = Shared(batch)
        for other in beside:
            shared.logits(other)
        begun = clock()
        if beside:
            shared.logits(trained)
        else:
            trained.logits(batch)
        return clock() - begun

    images = len(batch.sizes)
    for _ in range(OFTEN if trained.device.type == "cuda" else 1):
        run()
    start = clock()
    seconds: list[float] = []
    while len(seconds) < LEAST or (len(seconds) < REPEATS and clock() - start < SECONDS):
        seconds.append(run())
    each = [1000 * s / images for s in seconds]
    return Timing(
        trained.name, statistics.median(each), min(each), max(each), len(each), images, trained.bf16
    )  # fmt: skip
