"""A file of predictions, ours or another tool's, against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from octavo.data.samples import Samples
from octavo.errors import UserError, lookup
from octavo.numbers.bootstrap import Bootstrap, group_ids
from octavo.numbers.grade import class_results
from octavo.numbers.grade_rule import absent_classes
from octavo.numbers.metrics import METRICS, accuracy_of, balanced_accuracy_of, macro_f1_of
from octavo.numbers.power import majority_warning
from octavo.numbers.results import Score
from octavo.tasks.classification.prediction_rows import Row, extra_classes_of, ids_of, matched, plain, read_rows
from octavo.tasks.classification.truth import labelled_truth
from octavo.tasks.prediction_names import in_another_folder
from octavo.words import counted


def score(
    predictions: str | Path,
    truth: str | Path | Samples,
    *,
    split: str | None = None,
    layout: str | None = None,
    columns: str | None = None,
    missing: Literal["refuse", "wrong"] = "refuse",
    extra_classes: bool = False,
    seed: int = 0,
    replicates: int = 2000,
    level: float = 0.95,
) -> Score:
    """Return how predictions compare with the truth.

    An image id is matched to the image with that path (relative to the truth's folder), else to the one whose path ends
    with it, else to the one with its file name; more than one such image is an error. Labels are class names if all of
    them are; else class ids 0..C-1, if all are and no class name is a whole number.

    Args:
        predictions: a CSV file in UTF-8 with the columns `image_id` and `label`; others are not read.
        truth: a folder, CSV file or `torchvision:NAME`, what was read from one, or a run (its folder or `samples.csv`),
            whose images, labels and parts are then the truth's.
        split: the part to score on; by default `val`, or everything where there is none.
        layout: the truth's layout, if it can't be found by looking.
        columns: what is what in a table of the truth, if that can't be.
        missing: what to do with images without prediction: `refuse`, or count them as `wrong`.
        extra_classes: labels that the truth lacks are classes without an image there, whose F1 is 0 in macro F1.
        seed: of the bootstrap.
        replicates: of the same.
        level: of all intervals.

    Raises:
        UserError: an unreadable file, unknown, ambiguous or doubled image ids, labels that are no class (with their
            lines), or missing predictions.
    """
    lookup({"refuse": 0, "wrong": 0}, missing, "missing")
    samples = labelled_truth(truth, layout, columns)
    path = Path(predictions)
    rows = read_rows(path)
    if extra_classes:
        samples = replace(samples, classes=(*samples.classes, *extra_classes_of(rows, samples.classes)))
    part, name = _part(samples, split)
    scored = part[samples.labels[part] >= 0]
    predicted, facts = _answers(path, rows, samples, part, scored, name, missing)
    groups = group_ids([samples.groups[i] for i in scored]) if samples.groups else None
    boot = Bootstrap(samples.labels[scored], replicates, seed, level, groups=groups)
    numbers = _numbers(predicted, samples, boot)
    beware = (
        *_warnings(boot, samples, part, name),
        *filter(None, [majority_warning(numbers["per_class"], numbers["accuracy"])]),
    )
    beware += facts.pop("warnings", ())
    words = {"rule": _rule(boot, name, facts["missing"]), "warnings": beware}
    return Score.model_validate(numbers | facts | words | {"split": name})


def _answers(
    path: Path,
    rows: Sequence[Row],
    samples: Samples,
    part: NDArray[np.int64],
    scored: NDArray[np.int64],
    name: str,
    missing: str,
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Return class ids [N] for the labelled images of a part, -1 for none, and what a Score says of how they came."""
    if not len(scored):
        raise UserError(f"{samples.root}: split {name} has no labelled image to score")
    images, ways = matched(path, rows, samples, part, name)
    astray = [
        row for row, image in zip(rows, images, strict=True) if in_another_folder(row.image, samples.files[image])
    ]
    ids, labels_as = ids_of(path, rows, samples.classes)
    answer = dict(zip(images, ids, strict=True))
    gone = [samples.files[i] for i in scored.tolist() if i not in answer]
    if gone and missing == "refuse":
        raise UserError(
            f'{path}: {len(gone):,} of {len(scored):,} images of {name} have no prediction, first "{plain(gone[0])}"; '
            "add them, or count them as wrong (--missing-wrong)"
        )
    predicted = np.array([answer.get(i, -1) for i in scored.tolist()], np.int64)
    facts: dict[str, Any] = {"missing": len(gone), "matched_by": ways, "labels_as": labels_as}
    if astray:
        first, name = astray[0], "names" if len(astray) == 1 else "name"
        facts["warnings"] = (
            f"{counted(len(astray), 'image id')} {name} another folder than the image of this file name has, first "
            f'line {first.line} "{plain(first.image)}": matched by name alone',
        )
    return predicted, facts


def _rule(boot: Bootstrap, name: str, gone: int) -> str:
    """Return how the numbers were made, in words."""
    images, part = counted(len(boot.labels), "labelled image"), "the whole truth" if name == "all" else f"split {name}"
    left = f", {gone:,} of them without a prediction and so wrong" if gone else ""
    return (
        f"Scored on the {images} of {part}{left}. Accuracy: share of right ones. Macro F1: "
        f"{METRICS['macro_f1'].rule} Balanced accuracy: {METRICS['balanced_accuracy'].rule} {boot.rule}"
    )


def _warnings(boot: Bootstrap, samples: Samples, part: NDArray[np.int64], name: str) -> tuple[str, ...]:
    """Return what to beware of: images that may have been trained on, images and classes that aren't scored."""
    notes = []
    if name in ("all", "train"):
        what = "all images" if name == "all" else "training images"
        notes.append(f"scored on {what}; if some of them were trained on, the score is flattered")
    if unlabelled := len(part) - len(boot.labels):
        are = "has no known label and is" if unlabelled == 1 else "have no known label and are"
        notes.append(f"{counted(unlabelled, 'image')} of {name} {are} left out")
    return (*notes, *absent_classes(np.bincount(boot.labels, minlength=len(samples.classes)), samples.classes))


def _numbers(predicted: NDArray[np.int64], samples: Samples, boot: Bootstrap) -> dict[str, Any]:
    """Return the fields of a Score that follow from class ids [N], -1 for none."""
    truth, classes = boot.labels, len(samples.classes)
    draws = boot.draw(
        {
            "accuracy": accuracy_of(predicted, truth),
            "macro_f1": macro_f1_of(predicted, truth, classes),
            "balanced_accuracy": balanced_accuracy_of(predicted, truth, classes),
        }
    )
    correct = int(np.count_nonzero(predicted == truth))
    return {
        "n": len(truth),
        "correct": correct,
        "accuracy": boot.interval(draws["accuracy"], METRICS["accuracy"]),
        "macro_f1": boot.interval(draws["macro_f1"], METRICS["macro_f1"]),
        "balanced_accuracy": boot.interval(draws["balanced_accuracy"], METRICS["balanced_accuracy"]),
        "majority": np.bincount(truth).max() / len(truth),
        "per_class": class_results(predicted, truth, samples.classes, boot.level),
    }


def _part(samples: Samples, split: str | None) -> tuple[NDArray[np.int64], str]:
    """Return the indices to score and what they are called."""
    everything = np.arange(len(samples.files))
    if split is None:
        return (samples.splits["val"], "val") if "val" in samples.splits else (everything, "all")
    return lookup({**samples.splits, "all": everything}, split, f"{samples.root}: split"), split
