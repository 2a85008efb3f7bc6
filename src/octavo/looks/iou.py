"""IoU class by class, at the end of training and on the way."""

from __future__ import annotations

import numpy as np

from octavo.looks.look import Cell, Drawing, Table
from octavo.looks.subject import SegmentSubject
from octavo.numbers.mask_results import CLASS_IOU, MaskClass, SegmentReport
from octavo.numbers.rules import RULES
from octavo.pictures.iou import ClassIou, iou_curves, iou_dots


def classes_of_masks(subject: SegmentSubject) -> Drawing | None:
    """Draw each class's IoU with its interval, scored ones first; None where no class has one."""
    report = subject.report
    ordered = sorted(report.per_class, key=lambda c: (not c.scored, c.iou is None, -c.iou.value if c.iou else 0.0))
    drawn = [_dot(entry) for entry in ordered if entry.iou is not None]
    if not drawn:
        subject.say("no class has an IoU: none occurs in the validation masks or in the predictions")
        return None
    figure = iou_dots(drawn, report.miou, report.level)
    return Drawing.single(
        figure,
        name="classes",
        title="Class by class",
        sees=_sees(report),
        source="metrics.json",
        caption="Scored classes from the best to the worst; rare classes have long intervals, since few images show "
        "them, and pull the mean as hard as common ones.",
        alt="IoU of each class with its interval",
        tables=(_table(ordered),),
        warnings=_warnings(report),
    )


def _dot(entry: MaskClass) -> ClassIou:
    assert entry.iou is not None
    return ClassIou(entry.name, entry.iou.value, entry.iou.low, entry.iou.high, entry.scored, entry.truth)


def _sees(report: SegmentReport) -> str:
    known = [(c.iou.value, c.name) for c in report.per_class if c.scored and c.iou is not None]
    ends = ""
    if len(known) > 1:
        (low, worst), (high, best) = min(known), max(known)
        ends = f" Best is {best} ({high:.3f}), worst {worst} ({low:.3f})."
    return (
        f"IoU of each class by the rule {report.rule_title}, with its {100 * report.level:g} % interval (bootstrap of "
        f"the {report.n:,} images).{ends}"
    )


def _warnings(report: SegmentReport) -> tuple[str, ...]:
    out = [c.name for c in report.per_class if not c.scored]
    absent = [c.name for c in report.per_class if not c.truth]
    found = []
    if out:
        found.append(f"Not in the mean by this rule: {_some(out)}.")
    if absent:
        found.append(f"No pixel in the validation masks: {_some(absent)}.")
    return tuple(found)


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f", … ({len(names)})" if len(names) > 10 else "")


def _table(ordered: list[MaskClass]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for c in ordered:
        ends = (c.iou.value, c.iou.low, c.iou.high) if c.iou else (None, None, None)
        rows.append((c.name, "yes" if c.scored else "no", *ends, c.accuracy, c.precision, c.truth))
    return Table(
        title="Classes",
        columns=("class", "in the mean", "IoU", "low", "high", "recall", "precision", "share of pixels"),
        rows=tuple(rows),
        kinds=("text", "text", "number", "number", "number", "share", "share", "share"),
        caption="Recall is the share of a class's pixels that were recognised, precision the share of the pixels "
        "predicted as it that are it; a dash stands where there are none.",
    )


def epochs(subject: SegmentSubject) -> Drawing | None:
    """Draw each scored class's IoU on the held-out images after every epoch; None where they weren't noted."""
    history = subject.run.member(subject.name).history()
    in_mean = subject.run.table.scored | (not RULES[subject.report.rule_name].scored_alone)
    scored = [c for c, take in zip(subject.report.per_class, in_mean, strict=True) if take]
    common = sorted(scored, key=lambda c: -c.truth)
    columns = {c.name: _column(history, CLASS_IOU + c.name) for c in common}
    found = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    if not found:
        mean = any(row.get("holdout_miou") for row in history)
        subject.say(
            "no IoU of classes by epoch: the run was trained by a version that did not note it"
            if mean
            else "no IoU of classes by epoch: the recipe holds no images out (data.holdout = 0)"
        )
        return None
    kept = subject.final_epoch
    figure = iou_curves([int(row["epoch"]) for row in history], found, _column(history, "holdout_miou"), kept)
    absent = [name for name in columns if name not in found]
    return Drawing.single(
        figure,
        name="epochs",
        title="IoU of the classes over training",
        sees=f"IoU of each scored class on the held-out images, which were taken from the training part, after each "
        f"of {len(history)} epochs; the run keeps the weights of epoch {kept}.",
        source="history.csv",
        caption="A line that still rises at the end asks for more epochs; one that jumps up and down has few held-out "
        "pixels, and the epoch that is kept is chosen partly by that luck.",
        alt="IoU of each class by epoch",
        warnings=(f"Never in the held-out images or their predictions: {_some(absent)}.",) if absent else (),
    )


def _column(history: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row.get(name) or "nan") for row in history])
