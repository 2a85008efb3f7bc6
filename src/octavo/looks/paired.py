"""Runs side by side: the validation images that they share, and what each says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from octavo.engine.folder import RunFolder
from octavo.engine.identity import IMAGE_COLUMN, MASK_COLUMN, DataIdentity, comparable
from octavo.errors import UserError
from octavo.looks.subject import ClassifySubject, SegmentSubject
from octavo.numbers.averages import Confusions, Flags
from octavo.numbers.metrics import Labels, metrics_for
from octavo.words import counted

Truths = Sequence[tuple[str, object]]
"""A run's validation images, each with its truth, which must be the same in all runs."""


@dataclass(frozen=True, eq=False)
class Shared:
    """The images that runs share.

    Attributes:
        files: n of them, in the order of the first run.
        places: where they stand among each run's validation images, int64 [n] a run.
        warnings: what was left out, a sentence each.
    """

    files: tuple[str, ...]
    places: tuple[np.ndarray, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Answers:
    """What one run of classifiers says of the n shared images.

    Attributes:
        predicted: class ids int64 [n], by the classes of all runs.
        certainty: log-probability of the true class, float64 [n].
        members: name → whether it is right, bool [n].
        metrics: of the ensemble, beside its accuracy.
    """

    predicted: Labels
    certainty: np.ndarray
    members: dict[str, Flags]
    metrics: dict[str, float]


def share(names: Sequence[str], truths: Sequence[Truths]) -> Shared:
    """Return the images that all runs were scored on, with the same truth.

    Raises:
        UserError: there are none.
    """
    tables = [{file: (place, truth) for place, (file, truth) in reversed([*enumerate(own)])} for own in truths]
    common = [*dict.fromkeys(file for file, _ in truths[0])]
    for name, own, table in zip(names, truths, tables, strict=True):
        common = [file for file in common if file in table]
        if not common:
            raise UserError(
                f"report: {names[0]} and {name} share no validation image (the one has {truths[0][0][0]}, the other "
                f"{own[0][0]}); compare runs that were scored on the same files"
            )
    same = [file for file in common if all(table[file][1] == tables[0][file][1] for table in tables)]
    if not same:
        raise UserError(
            f"report: the runs share {counted(len(common), 'validation image')}, but no truth: their labels, masks "
            "or pixels are others; compare runs that were scored on the same data"
        )
    warnings = []
    if any(len(table) != len(common) for table in tables):
        counts = ", ".join(f"{name} has {len(table):,}" for name, table in zip(names, tables, strict=True))
        warnings.append(
            f"the runs share {counted(len(common), 'validation image')}; the others are left out ({counts})"
        )
    if len(same) < len(common):
        left = counted(len(common) - len(same), "shared image")
        warnings.append(f"{left} left out, as its truth or its pixels aren't the same in all runs")
    places = tuple(np.array([table[file][0] for file in same], np.int64) for table in tables)
    return Shared(tuple(same), places, tuple(warnings))


def label_truths(runs: Sequence[RunFolder]) -> list[Truths]:
    """Return the class of each validation image of runs of classifiers, with its content where all runs know it."""
    data = [DataIdentity.of_run(run) for run in runs]
    contents = _contents(data)
    return [
        [(row["file"], (row["label"], image)) for row, image in zip(own.part_rows("val"), images, strict=True)]
        for own, images in zip(data, contents, strict=True)
    ]


def _contents(data: Sequence[DataIdentity]) -> list[list[str]]:
    """Return the content digests of the validation images of each run; empty ones where they can't be compared."""
    rows = [own.part_rows("val") for own in data]
    return [[row[IMAGE_COLUMN] if comparable(data) else "" for row in own] for own in rows]


def all_classes(runs: Sequence[RunFolder]) -> tuple[str, ...]:
    """Return the classes of the first run in their order, then those that others add."""
    return tuple(dict.fromkeys(name for run in runs for name in run.manifest["classes"]))


def answers(subject: ClassifySubject, places: np.ndarray, classes: Sequence[str]) -> Answers:
    """Return what a run of classifiers says of the images at `places` int64 [n] among its own; see `all_classes`."""
    own = np.array([classes.index(name) for name in subject.manifest["classes"]], np.int64)
    labels, logits = subject.labels[places], subject.answer[places]
    return Answers(
        predicted=own[logits.argmax(1)],
        certainty=log_softmax(logits, axis=1)[np.arange(len(places)), labels],
        members={
            name: subject.alone(i, places).argmax(1) == labels for i, name in enumerate(subject.members)
        },
        metrics={
            key: float(metric(logits, labels)[0])
            for key, metric in metrics_for(len(own)).items()
            if key != "accuracy"
        },
    )  # fmt: skip


def aligned_counts(subject: SegmentSubject, classes: Sequence[str]) -> Confusions:
    """Return the counts of each validation image, int64 [n,C+1,C+1], with classes in another order.

    Raises:
        UserError: the run has other classes.
    """
    known = list(subject.manifest["classes"])
    if set(known) != set(classes):
        strange = [name for name in (*known, *classes) if (name in classes) != (name in known)]
        raise UserError(
            f'report: {subject.run.path} and the first run have different classes ("{strange[0]}" is in one alone); '
            "masks are compared class by class, so that all runs need the same"
        )
    order = np.array([known.index(name) for name in classes] + [len(classes)])
    return subject.counts[:, order][:, :, order]


def mask_truths(runs: Sequence[RunFolder], counts: Sequence[Confusions]) -> list[Truths]:
    """Return the mask of each validation image of runs of segmenters, with the image's content, where all know these.

    Elsewhere a mask is known by its true pixels of each class, from counts int64 [n,C+1,C+1].
    """
    data = [DataIdentity.of_run(run) for run in runs]
    masks = all(MASK_COLUMN in own.rows[0] and own.table == data[0].table for own in data)
    found: list[Truths] = []
    for own, images, confusions in zip(data, _contents(data), counts, strict=True):
        rows, pixels = own.part_rows("val"), confusions.sum(axis=2).tolist()
        truths = [(row[MASK_COLUMN] if masks else "", *each) for row, each in zip(rows, pixels, strict=True)]
        found.append([(row["file"], pair) for row, pair in zip(rows, zip(truths, images, strict=True), strict=True)])
    return found
