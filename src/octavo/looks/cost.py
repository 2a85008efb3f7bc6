"""What each member costs: accuracy against time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octavo.data.batches import Batch
from octavo.engine.hardware import find
from octavo.engine.restore import batch_of, restore_all, sharing
from octavo.engine.timing import BATCH, Timing, Turn, time_in_turns, too_busy
from octavo.looks.look import Cell, Drawing, Look, Shown, Table
from octavo.looks.subject import ClassifySubject
from octavo.numbers.cascade import answers_of, prefixes_of
from octavo.numbers.pareto import pareto
from octavo.numbers.results import Interval
from octavo.pictures.members import cost_plot


def cost(subject: ClassifySubject) -> Drawing:
    """Time every member on validation images and draw accuracy against time; of one member there is a table alone."""
    costs = costs_of(subject, subject.members)
    timings = costs.own
    accuracy = [system.metrics["accuracy"] for system in subject.report.systems]
    several = len(timings) > 1
    times = [timing.milliseconds for timing in timings]
    names, front = [timing.name for timing in timings], np.ones(1, bool)
    order, added = costs.in_order(list(subject.run.ensemble.used))
    steps = np.cumsum(added), _prefixes(subject, order)
    if several:
        names.append("ensemble")
        times.append(float(steps[0][-1]))
        # Some are one and the same (the first prefix is a member, the last the ensemble) but for their last bits.
        gains = np.round([*(own.value for own in accuracy), *steps[1]], 9)
        front = pareto([*times, *steps[0]], gains)
    caption = (
        "To the left is faster, to the top better: nothing shown beats what is on the dashed line at the same or a "
        "shorter time. The ensemble costs the sum of the members that have a weight, an extractor that several share "
        "once; the line with dots is the ensemble of its first member, first two, and so on, each time with the one "
        "that adds least."
    )
    shown = (Shown(file="cost.png", caption=caption, alt="Accuracy against time per image", wide=False),)
    look = Look(
        name="cost",
        title="What each member costs",
        sees=_sees(subject, costs),
        source="explained/cost.json",
        shown=shown if several else (),
        tables=(
            _table(names, times, timings, accuracy, front),
            *([_grown(order, *steps, front[len(names) :])] if several else []),
        ),
    )
    drawn = {"cost.png": cost_plot(names, np.array(times), accuracy, front, steps)} if several else {}
    return Drawing(look, drawn)


def _prefixes(subject: ClassifySubject, order: Sequence[str]) -> np.ndarray:
    """Return the accuracy of the ensembles of the first 1, 2, … K members of `order`, with their own weights, [K]."""
    answers = answers_of(prefixes_of(subject.run.ensemble, order), subject.run.ensemble.names, subject.logits)
    return (answers.argmax(2) == subject.labels).mean(1)


def _grown(order: Sequence[str], milliseconds: np.ndarray, accuracy: np.ndarray, front: np.ndarray) -> Table:
    steps = zip(order, milliseconds.tolist(), accuracy.tolist(), _yes(front), strict=True)
    return Table(
        title="The ensemble from one member to all",
        columns=("members", "added", "median [ms per image]", "accuracy", "on the Pareto front"),
        rows=tuple((count, *step) for count, step in enumerate(steps, 1)),
        kinds=("count", "text", "number", "share", "text"),
    )


def _yes(told: np.ndarray) -> list[str]:
    return ["yes" if one else "no" for one in told]


@dataclass(frozen=True)
class Costs:
    """What members take for an image, each by itself and after another one with its extractor.

    Attributes:
        own: of each member by itself.
        later: name → milliseconds per image that it adds to one that has run its extractor.
        groups: the members in groups with one extractor.
    """

    own: tuple[Timing, ...]
    later: dict[str, float]
    groups: tuple[tuple[str, ...], ...]

    @property
    def beware(self) -> str:
        """What a reader must be told of the machine they were taken on; empty: nothing."""
        return too_busy(self.own[0].others)

    def in_order(self, names: Sequence[str]) -> tuple[list[str], list[float]]:
        """Return members by what each adds to the time of those before it, and that in milliseconds per image."""
        place = {name: number for number, group in enumerate(self.groups) for name in group}
        own = {timing.name: timing.milliseconds for timing in self.own if timing.name in names}
        order: list[str] = []
        added: list[float] = []
        while rest := [name for name in own if name not in order]:
            known = {place[name] for name in order}
            adds = {name: (self.later if place[name] in known else own)[name] for name in rest}
            order.append(min(rest, key=adds.__getitem__))
            added.append(adds[order[-1]])
        return order, added


def costs_of(subject: ClassifySubject, names: Sequence[str]) -> Costs:
    """Return what these members take, timed in turns on images from all over the validation set.

    A member whose extractor another one has run adds its head alone.

    Raises:
        UserError: the data are gone, or others.
    """
    batch, device = _batch(subject), find(subject.device).device
    nets = dict(zip(names, restore_all(subject.run, names, device), strict=True))
    groups = sharing(subject.run, names, device)
    other = {name: group[at - 1] for group in groups for at, name in enumerate(group) if len(group) > 1}
    turns = [Turn(nets[name]) for name in names] + [Turn(nets[name], (nets[beside],)) for name, beside in other.items()]
    found = time_in_turns(turns, batch, progress=subject.progress)
    own, added = found[: len(names)], found[len(names) :]
    alone = {timing.name: timing.milliseconds for timing in own}
    later = alone | {timing.name: min(timing.milliseconds, alone[timing.name]) for timing in added}
    return Costs(tuple(own), later, tuple(map(tuple, groups)))


def _batch(subject: ClassifySubject) -> Batch:
    count = len(subject.labels)
    chosen = np.unique(np.linspace(0, count - 1, min(BATCH, count)).round().astype(int))
    return batch_of([subject.picture(int(i)) for i in chosen])


def _sees(subject: ClassifySubject, costs: Costs) -> str:
    timings = costs.own
    there = find(subject.device).describe()
    count = there["threads"]
    threads = f", {count} thread{'s' if count > 1 else ''}" if there["device"] == "cpu" else ""
    repeats = sorted({timing.repeats for timing in timings})
    return (
        f"Milliseconds per image on {there['processor'] or there['device']} ({there['device']}{threads}, "
        f"{_precision(timings)}), in batches of {timings[0].images} validation images: the median of "
        f"{' to '.join(str(r) for r in dict.fromkeys((repeats[0], repeats[-1])))} batches after a warm-up, "
        "members in turns. Resizing and normalising are in it, reading and decoding of files are not."
        + (f" Beware: {costs.beware}." if costs.beware else "")
    )


def _precision(timings: Sequence[Timing]) -> str:
    found = {timing.bf16 for timing in timings}
    return "bfloat16 or float32, as each was trained" if len(found) > 1 else "bfloat16" if True in found else "float32"


def _table(
    names: list[str], times: list[float], timings: Sequence[Timing], accuracy: list[Interval], front: np.ndarray
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for place, (name, milliseconds) in enumerate(zip(names, times, strict=True)):
        own = timings[place] if place < len(timings) else None
        spread = (own.fastest, own.slowest, own.repeats) if own else (None, None, None)
        rows.append((name, accuracy[place].value, milliseconds, *spread, _yes(front)[place]))
    return Table(
        title="Accuracy and time",
        columns=("system", "accuracy", "median [ms per image]", "fastest", "slowest", "batches", "on the Pareto front"),
        rows=tuple(rows),
        kinds=("text", "share", "number", "number", "number", "count", "text"),
    )
