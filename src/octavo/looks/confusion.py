"""Which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octavo.looks.look import Drawing, Table
from octavo.looks.subject import ClassifySubject, SegmentSubject
from octavo.numbers.confusions import confusion_counts, similar_order, top_confusions
from octavo.pictures.confusion import NAMED, NUMBERED, block_size, confusion_matrix


def confusion(subject: ClassifySubject) -> Drawing:
    """Draw the confusion matrix of the ensemble on the validation images, and list the commonest confusions."""
    counts = confusion_counts(subject.labels, subject.predicted, len(subject.classes))
    return _drawn(counts, subject.classes, "images")


def confused_pixels(subject: SegmentSubject) -> Drawing:
    """Draw the confusion matrix of the validation pixels that have a truth and a prediction, and list likewise."""
    size = len(subject.classes)
    return _drawn(subject.counts.sum(0)[:size, :size], subject.classes, "pixels")


def _drawn(counts: np.ndarray, classes: tuple[str, ...], what: str) -> Drawing:
    order = similar_order(counts) if len(classes) > NUMBERED else np.arange(len(classes))
    names = tuple(classes[i] for i in order)
    tables = [_pairs(counts, classes, what)]
    if len(classes) > NAMED:
        tables.append(_places(names))
    wrong = int(counts.sum() - np.trace(counts))
    total = int(counts.sum())
    return Drawing.single(
        confusion_matrix(counts[np.ix_(order, order)], names),
        name="confusion",
        title="What is taken for what",
        sees=f"Each row is a true class: the share of its validation {what} that was taken for each class. "
        f"{wrong:,} of {total:,} {what} were taken for a wrong class.",
        source="predictions/val.csv" if what == "images" else "metrics.json",
        caption=_caption(len(classes)),
        alt=f"Confusion matrix of {len(classes)} classes",
        tables=tables,
    )


def _caption(classes: int) -> str:
    seen = "A dark square off the diagonal is a pair of classes that are taken for one another"
    if classes <= NUMBERED:
        return f"{seen}."
    ordered = "classes stand in the order of their similarity, those that are confused side by side"
    if classes <= NAMED:
        return f"{seen}; {ordered}."
    return f"{seen}; {ordered}, and lines mark every {block_size(classes)} classes, which a table below names."


def _pairs(counts: np.ndarray, classes: Sequence[str], what: str) -> Table:
    found = top_confusions(counts)
    return Table(
        title="The commonest confusions" if found else f"No {what} were taken for a wrong class",
        columns=("true class", "taken for", what, "share of the true class"),
        rows=tuple((classes[pair.true], classes[pair.predicted], pair.count, pair.share) for pair in found),
        kinds=("text", "text", "count", "share"),
    )


def _places(names: Sequence[str]) -> Table:
    size = block_size(len(names))
    return Table(
        title="Order of the classes in the matrix",
        columns=("places", "classes"),
        rows=tuple(
            (f"{start + 1}–{min(start + size, len(names))}", ", ".join(names[start : start + size]))
            for start in range(0, len(names), size)
        ),
        kinds=("text", "text"),
    )
