"""Validation images at which the segmenter is worst, middling and best, and where it errs in them."""

from __future__ import annotations

import numpy as np

from octavo.looks.legend import ids_of, legend_of
from octavo.looks.look import Drawing
from octavo.looks.subject import SegmentSubject
from octavo.numbers.image_scores import image_scores, spread
from octavo.pictures.grid import smaller
from octavo.pictures.scenes import Scene, scene_table

_EACH = 2


def scenes(subject: SegmentSubject) -> Drawing | None:
    """Draw two images each of the worst, the middle and the best; None where no predicted mask or no truth is left."""
    scores = image_scores(subject.counts)
    files, names = subject.run.member(subject.name), subject.mask_names
    kept = np.array([i for i in scores.order if files.predicted_file("val", names[i]).is_file()], np.int64)
    if gone := len(scores.order) - len(kept):
        subject.say(f"scenes: images whose predicted mask is gone from predictions/ are passed over: {gone}")
    if not len(kept):
        return None
    parts = zip(("worst", "middle", "best"), spread(kept, _EACH), strict=True)
    chosen = [(word, i) for word, part in parts for i in part.tolist()]
    pixels = subject.counts[[i for _, i in chosen]].sum(0)
    legend = legend_of(subject.run.table, pixels.sum(0) + pixels.sum(1), void=False)
    drawn = [
        _scene(subject, i, f"{word}: {100 * scores.accuracy[i]:.1f} % right\nmIoU {scores.miou[i]:.2f}")
        for word, i in chosen
    ]
    figure = scene_table(drawn, legend.colours, legend.entries)
    return Drawing.single(
        figure,
        name="scenes",
        title="The worst, the middle and the best",
        sees=f"{len(drawn)} of {len(scores.order)} validation images, ranked by the share of their pixels that are "
        "right (written beside each, with the mean IoU over the classes that occur in it).",
        source="predictions/val/",
        caption="Dark areas of the last column are wrong: thin lines are borders that lie a little off, whole areas "
        "are a class that was taken for another.",
        alt="Images with true and predicted masks and the pixels that are wrong",
    )


def _scene(subject: SegmentSubject, index: int, note: str) -> Scene:
    painted = subject.predicted(index)
    assert painted is not None
    predicted = ids_of(painted, subject.run.table)
    image = smaller(subject.picture(index), smooth=True)
    return Scene(subject.titles[index], note, image, smaller(subject.truth(index)), smaller(predicted))
