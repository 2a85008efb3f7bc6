"""How long trained members take for an image."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from octavo.data.batches import Batch
from octavo.engine.graphs import OFTEN
from octavo.engine.restore import Shared, Trained
from octavo.progress import Progress, silent

BATCH = 16
"""Images in a batch that is timed."""
REPEATS = 7
"""Batches of each member that are timed at most, after one that isn't."""
LEAST = 3
"""Batches of each member that are timed however long they take."""
SECONDS = 5.0
"""No further round is begun after this long for each member."""
_BUSY = 0.1
"""Share of the machine's processors that other processes may take before somebody is told."""


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
        others: share of the machine's processors that other processes took meanwhile, 0–1.
    """

    name: str
    milliseconds: float
    fastest: float
    slowest: float
    repeats: int
    images: int
    bf16: bool
    others: float


@dataclass(frozen=True)
class Turn:
    """A member that is timed, and those that answered before, whose work it may share: its time is what it adds."""

    trained: Trained
    beside: tuple[Trained, ...] = ()

    def seconds(self, batch: Batch, clock: Callable[[], float]) -> float:
        """Return how long it takes for `batch`; the logits are copied to the CPU, so that its work is waited for."""
        shared = Shared(batch)
        for other in self.beside:
            shared.logits(other)
        begun = clock()
        if self.beside:
            shared.logits(self.trained)
        else:
            self.trained.logits(batch)
        return clock() - begun


def time_in_turns(
    turns: Sequence[Turn],
    batch: Batch,
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress = silent,
) -> list[Timing]:
    """Return how long members take for an image of `batch`, resizing and normalising included, decoding not.

    They take turns, a batch each, so that whatever slows the machine down for a while slows all of them. One round goes
    ahead untimed, since first passes allocate memory and choose algorithms; on a GPU as many as are called before they
    are replayed.

    Args:
        turns: the members, each on its device.
        batch: decoded images.
        clock: seconds.
        progress: told how far it is.
    """
    warm = OFTEN if any(turn.trained.device.type == "cuda" for turn in turns) else 1
    total = (warm + REPEATS) * len(turns)
    seconds: list[list[float]] = [[] for _ in turns]
    others, start, done = _Others(), clock(), 0
    for number in range(warm + REPEATS):
        if number == warm:
            start = clock()
        elif number >= warm + LEAST and clock() - start >= SECONDS * len(turns):
            break
        for turn, found in zip(turns, seconds, strict=True):
            found.append(turn.seconds(batch, clock))
            done += 1
            progress("time members", done, total)
    progress("time members", total, total)
    images, share = len(batch.sizes), others.share()
    each = [[1000 * s / images for s in found[warm:]] for found in seconds]
    return [
        Timing(
            turn.trained.name,
            statistics.median(own),
            min(own),
            max(own),
            len(own),
            images,
            turn.trained.bf16,
            share,
        )
        for turn, own in zip(turns, each, strict=True)
    ]


def too_busy(others: float) -> str:
    """Return what a reader of times must be told where others took that share of the processors; empty: nothing."""
    if others < _BUSY:
        return ""
    return (
        f"other programs took {others:.0%} of this machine's processors while members were timed: times are too long, "
        "and their order may be another; time them again when it is quiet"
    )


class _Others:
    """What other processes take of the machine's processors, from now on."""

    def __init__(self) -> None:
        self._begun = self._now()

    def share(self) -> float:
        """Return their share of what all processors could do since the beginning, 0–1."""
        begun, now = self._begun, self._now()
        busy, own, seconds = (b - a for a, b in zip(begun, now, strict=True))
        could = seconds * (psutil.cpu_count() or 1)
        return min(max((busy - own) / could, 0.0), 1.0) if could > 0 else 0.0

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Return seconds in which processors were busy, those of this process, and the time."""
        spent = psutil.cpu_times()._asdict()
        # A guest's time is in that of the user too.
        idle = sum(spent.get(name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice"))
        return sum(spent.values()) - idle, time.process_time(), time.perf_counter()
