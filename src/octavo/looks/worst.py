"""The images that came out worst, and what is wrong in each."""

from __future__ import annotations

import numpy as np

from octavo.looks.look import Cell, Drawing, Look, Table
from octavo.looks.subject import SegmentSubject
from octavo.numbers.image_scores import ImageScores, commonest_wrong, image_scores

_SHOWN = 20


def worst(subject: SegmentSubject) -> Drawing | None:
    """List the images by pixel accuracy, the first twenty from the worst; None where none has a truth."""
    scores = image_scores(subject.counts)
    order = scores.order
    if not len(order):
        return None
    shown = order[:_SHOWN]
    which = f"The {len(shown)} worst of {len(order)} images" if len(shown) < len(order) else "Images from the worst"
    table = Table(
        title=which,
        columns=("image", "pixels right", "mIoU", "pixels with a truth", "most often wrong", "share of its pixels"),
        rows=tuple(_row(subject, scores, i) for i in shown.tolist()),
        kinds=("text", "share", "number", "count", "text", "share"),
        caption="The mIoU of an image is the mean over the classes that occur in its truth or prediction.",
    )
    look = Look(
        name="worst",
        title="The worst images",
        sees=_sees(scores),
        source=f"members/{subject.name}/outputs.safetensors",
        tables=(table,),
    )
    return Drawing(look)


def _sees(scores: ImageScores) -> str:
    values = scores.accuracy[scores.order]
    wrong = (1 - values) * scores.pixels[scores.order]
    tenth = max(1, len(values) // 10)
    share = wrong[:tenth].sum() / wrong.sum() if wrong.sum() else 0.0
    which = "image holds" if tenth == 1 else f"{tenth} images hold"
    return (
        f"Validation images by the share of their pixels that are right: half of them lie below "
        f"{100 * np.median(values):.1f} %. The worst {which} {100 * share:.0f} % of all wrong pixels."
    )


def _row(subject: SegmentSubject, scores: ImageScores, index: int) -> tuple[Cell, ...]:
    names = (*subject.classes, "no class")
    pair = commonest_wrong(subject.counts[index])
    pixels = int(scores.pixels[index])
    told = (f"{names[pair.truth]} → {names[pair.predicted]}", pair.pixels / pixels) if pair else (None, None)
    return (subject.titles[index], float(scores.accuracy[index]), float(scores.miou[index]), pixels, *told)
