"""How long trained members take for an image."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
import torch

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
"""No further batch of a member is begun once its own have taken this long."""
_BUSY, _COUNTS = 0.1, 0.5
"""Share of the machine's processors that others may take before somebody is told, if for so many seconds or longer."""
_NOT_WORK = ("idle", "iowait", "guest", "guest_nice", "interrupt", "dpc")
"""Of psutil's times those in which no processor works, or that another of them has too."""


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
        others: share of the machine's processors that other processes took meanwhile, 0–1; None: not known, or on a
            GPU, which this says nothing of.
    """

    name: str
    milliseconds: float
    fastest: float
    slowest: float
    repeats: int
    images: int
    bf16: bool
    others: float | None


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
    total, done = (warm + REPEATS) * len(turns), 0
    seconds: list[list[float]] = [[] for _ in turns]
    spent, others = [0.0] * len(turns), _Others()
    for number in range(warm + REPEATS):
        for place, turn in enumerate(turns):
            done += 1
            if number < warm + LEAST or spent[place] < SECONDS:
                begun = clock()
                seconds[place].append(turn.seconds(batch, clock))
                spent[place] += clock() - begun if number >= warm else 0.0
            progress("time members", done, total)
    share = others.share() if all(turn.trained.device.type == "cpu" for turn in turns) else None
    return [
        _timing(turn.trained, found[warm:], len(batch.sizes), share) for turn, found in zip(turns, seconds, strict=True)
    ]


def _timing(trained: Trained, seconds: Sequence[float], images: int, others: float | None) -> Timing:
    each = [1000 * s / images for s in seconds]
    middle = statistics.median(each)
    return Timing(trained.name, middle, min(each), max(each), len(each), images, trained.bf16, others)


def too_busy(others: float | None) -> str:
    """Return what a reader of times must be told where others took that share of the processors; empty: nothing.

    They are in the way where they want processors that this process wants too.
    """
    cores = psutil.cpu_count() or 1
    if others is None or others < _BUSY or others * cores + torch.get_num_threads() <= cores:
        return ""
    return (
        f"other work took {others:.0%} of this machine's processors while members were timed: times are too long, "
        "and their order may be another; time them again when it is quiet"
    )


class _Others:
    """What other processes, or a virtual machine's host, take of the machine's processors, from now on."""

    def __init__(self) -> None:
        self._begun = self._now()

    def share(self) -> float | None:
        """Return their share of what all processors could do since the beginning, 0–1; None where nobody knows."""
        begun, now = self._begun, self._now()
        if begun is None or now is None:
            return None
        busy, own, seconds = (b - a for a, b in zip(begun, now, strict=True))
        if seconds < _COUNTS:
            return None
        return min(max((busy - own) / (seconds * (psutil.cpu_count() or 1)), 0.0), 1.0)

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Return seconds in which processors were busy, those of this process, and the time."""
        try:
            spent = psutil.cpu_times()._asdict()
        except OSError:  # a sandbox may hide it
            return None
        # A guest's time is in that of the user too, and on Windows that of interrupts in that of the system.
        left = sum(spent.get(name, 0.0) for name in _NOT_WORK)
        return sum(spent.values()) - left, time.process_time(), time.perf_counter()
