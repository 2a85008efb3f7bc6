"""What each member costs: accuracy against time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octavo.data.batches import Batch
from octavo.engine.hardware import find
from octavo.engine.restore import batch_of, restore, restore_all, sharing
from octavo.engine.timing import BATCH, Timing, time_member
from octavo.looks.look import Cell, Drawing, Look, Shown, Table
from octavo.looks.subject import ClassifySubject
from octavo.numbers.cascade import answers_of, prefixes_of
from octavo.numbers.pareto import pareto
from octavo.numbers.results import Interval
from octavo.pictures.members import cost_plot


def cost(subject: ClassifySubject) -> Drawing:
    """Time every member on validation images and draw accuracy against time; of one member there is a table alone."""
    timings = timings_of(subject, subject.members)
    accuracy = [system.metrics["accuracy"] for system in subject.report.systems]
    weights = dict(zip(subject.members, subject.run.ensemble.weights, strict=True))
    several = len(timings) > 1
    times = [timing.milliseconds for timing in timings]
    names, front = [timing.name for timing in timings], np.ones(1, bool)
    order, added = in_order(subject, [timing for timing in timings if weights[timing.name] > 0])
    steps = np.cumsum(added), _prefixes(subject, order)
    if several:
        names.append("ensemble")
        times.append(float(steps[0][-1]))
        front = pareto([*times, *steps[0]], [*(own.value for own in accuracy), *steps[1]])
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
        sees=_sees(subject, timings),
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


def timings_of(subject: ClassifySubject, names: Sequence[str]) -> list[Timing]:
    """Return the time of each of these members, one after another, on images from all over the validation set.

    Raises:
        UserError: the data are gone, or others.
    """
    batch, device = _batch(subject), find(subject.device).device
    timings = []
    for done, name in enumerate(names, 1):
        timings.append(time_member(restore(subject.run, name, device), batch))
        subject.progress("time members", done, len(names))
    return timings


def _batch(subject: ClassifySubject) -> Batch:
    count = len(subject.labels)
    chosen = np.unique(np.linspace(0, count - 1, min(BATCH, count)).round().astype(int))
    return batch_of([subject.picture(int(i)) for i in chosen])


def in_order(subject: ClassifySubject, timings: Sequence[Timing]) -> tuple[list[str], list[float]]:
    """Return members by what each adds to the time of those before it, and that in milliseconds per image.

    A member whose extractor another one has run adds its head alone.

    Args:
        subject: the run.
        timings: of these members, each by itself.
    """
    own = {timing.name: timing.milliseconds for timing in timings}
    batch, device, later = _batch(subject), find(subject.device).device, dict(own)
    groups = sharing(subject.run, list(own), device)
    for group in groups:
        nets = restore_all(subject.run, group, device) if len(group) > 1 else []
        for net, other in zip(nets, nets[1:] + nets[:1], strict=True):
            beside = time_member(net, batch, beside=[other])
            later[net.name] = min(own[net.name], beside.milliseconds)
    place = {name: number for number, group in enumerate(groups) for name in group}
    order: list[str] = []
    added: list[float] = []
    while rest := [name for name in own if name not in order]:
        known = {place[name] for name in order}
        adds = {name: (later if place[name] in known else own)[name] for name in rest}
        order.append(min(rest, key=adds.__getitem__))
        added.append(adds[order[-1]])
    return order, added


def _sees(subject: ClassifySubject, timings: list[Timing]) -> str:
    there = find(subject.device).describe()
    count = there["threads"]
    threads = f", {count} thread{'s' if count > 1 else ''}" if there["device"] == "cpu" else ""
    repeats = sorted({timing.repeats for timing in timings})
    return (
        f"Milliseconds per image on {there['processor'] or there['device']} ({there['device']}{threads}, "
        f"{_precision(timings)}), in batches of {timings[0].images} validation images: the median of "
        f"{' to '.join(str(r) for r in dict.fromkeys((repeats[0], repeats[-1])))} batches after one to warm up. "
        "Resizing and normalising are in it, reading and decoding of files are not."
    )


def _precision(timings: list[Timing]) -> str:
    found = {timing.bf16 for timing in timings}
    return "bfloat16 or float32, as each was trained" if len(found) > 1 else "bfloat16" if True in found else "float32"


def _table(
    names: list[str], times: list[float], timings: list[Timing], accuracy: list[Interval], front: np.ndarray
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
