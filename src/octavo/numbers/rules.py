"""RULES: the numbers that go by the name of mIoU, each with what makes it that number.

All follow from one confusion an image (see `confusion`), but they differ in which pixels they count, in what a class
that doesn't occur is worth, and in whether they average over classes, over images, or over both. Where a library can't
hold a pixel without predicted class, that pixel is a miss of its true class here.

The libraries need all pixels for one number a call, and a bootstrap needs thousands, so they are the references of the
tests instead.
"""

from __future__ import annotations

import numpy as np

from octavo.numbers.averages import (
    Flags,
    absent_as,
    both_known,
    by_image,
    frequency_weighted,
    image_class_pairs,
    masked,
    mean_accuracy,
    micro,
    once,
    over_all,
    over_present,
    over_scored,
    over_true,
    pairs_by_class,
    pixel_accuracy,
    unmasked,
    without_first,
)
from octavo.numbers.rule import Rule, Scored

__all__ = ["AUTO", "BESIDE", "NOTHING", "RULES", "Rule", "Scored", "headline_rule"]

AUTO = "auto"
"""Stands for the rule that suits the table of classes, see `headline_rule`."""

_JACCARD = "torchmetrics.classification 1.9.0, MulticlassJaccardIndex"
_MEAN_IOU = "torchmetrics.segmentation 1.9.0, MeanIoU"
_SMP = "segmentation_models_pytorch.metrics 0.6.0, iou_score"
NOTHING = "adds nothing"
"""Of an absent class, where it can't change the number."""
_ONE = "One count over the pixels of all images, those without truth masked out"
_SUMMED = "Intersections summed over classes and images, over unions summed likewise; pixels without truth masked out."
_LONG = "Long, Shelhamer and Darrell, CVPR 2015, section 5"

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "course",
            "course",
            "NTU Deep Learning for Computer Vision, autumn 2021, homework 1, mean_iou_score",
            "One count over the pixels of all images; the mean IoU of the scored classes alone. No pixel is masked "
            "out: a scored class predicted where the truth is an unscored class or none is its false positive.",
            "no number (0/0)",
            unmasked,
            once(over_scored),
            scored_alone=True,
        ),
        Rule(
            "voc",
            "PASCAL VOC",
            "Everingham et al., IJCV 88(2), 2010; VOC2012 development kit, VOCevalseg.m",
            f"{_ONE}; the mean IoU of all classes.",
            "no number (0/0)",
            masked,
            once(over_all),
        ),
        Rule(
            "mmsegmentation",
            "mmsegmentation",
            "mmsegmentation 1.2.2, mmseg.evaluation.IoUMetric, mIoU (formula)",
            f"{_ONE}; the mean IoU of the classes that occur in truth or prediction (nanmean).",
            "left out",
            masked,
            once(over_present),
        ),
        Rule(
            "torchmetrics-macro",
            "torchmetrics Jaccard, macro",
            f'{_JACCARD}(average="macro", ignore_index=255)',
            f"{_ONE}; the mean IoU of the classes that occur in truth or prediction.",
            "left out",
            masked,
            once(over_present),
        ),
        Rule(
            "torchmetrics-micro",
            "torchmetrics Jaccard, micro",
            f'{_JACCARD}(average="micro", ignore_index=255)',
            _SUMMED,
            NOTHING,
            masked,
            once(micro(0.0)),
        ),
        Rule(
            "torchmetrics-mean-iou",
            "torchmetrics MeanIoU",
            f"{_MEAN_IOU}()",
            "The mean IoU over all pairs of an image and a class that occurs in its truth or prediction; pixels "
            "without truth are no class in either.",
            "left out",
            masked,
            image_class_pairs,
            by_image=True,
        ),
        Rule(
            "torchmetrics-mean-iou-per-class",
            "torchmetrics MeanIoU, per class",
            f"{_MEAN_IOU}(per_class=True).mean()",
            "Each class's mean IoU over the images in whose truth or prediction it occurs, averaged over all classes.",
            "left out; counts -1 where no image has it",
            masked,
            pairs_by_class,
            by_image=True,
        ),
        Rule(
            "torchmetrics-mean-iou-no-background",
            "torchmetrics MeanIoU, no background",
            f"{_MEAN_IOU}(include_background=False)",
            "As torchmetrics-mean-iou without the first class, whatever that is.",
            "left out",
            masked,
            without_first,
            by_image=True,
        ),
        Rule(
            "smp-macro",
            "smp, macro",
            f'{_SMP}(reduction="macro")',
            f"{_ONE}; the mean IoU of all classes.",
            "counts 1",
            masked,
            once(absent_as(1.0)),
        ),
        Rule(
            "smp-micro",
            "smp, micro",
            f'{_SMP}(reduction="micro")',
            _SUMMED,
            NOTHING,
            masked,
            once(micro(np.nan)),
        ),
        Rule(
            "smp-macro-imagewise",
            "smp, macro, image by image",
            f'{_SMP}(reduction="macro-imagewise")',
            "In each image the mean IoU of all classes, pixels without truth masked out; averaged over images.",
            "counts 1",
            masked,
            by_image(absent_as(1.0)),
            by_image=True,
        ),
        Rule(
            "smp-micro-imagewise",
            "smp, micro, image by image",
            f'{_SMP}(reduction="micro-imagewise")',
            "In each image intersections summed over classes, over unions summed likewise, pixels without truth masked "
            "out and an image of none counted 1; averaged over images.",
            NOTHING,
            masked,
            by_image(micro(1.0)),
            by_image=True,
        ),
        Rule(
            "ultralytics",
            "Ultralytics",
            "ultralytics.utils.metrics 8.4.190, SemanticMetrics.miou, two classes or more (formula)",
            "One count over the pixels of all images, those without truth or without predicted class masked out; the "
            "mean IoU of the classes that occur in the truth, however often others were predicted.",
            "left out, as is any class that the truth lacks",
            both_known,
            once(over_true),
        ),
        Rule(
            "autogluon",
            "AutoGluon",
            "autogluon.multimodal.optim.metrics 1.6.3, semantic_seg_metrics.Multiclass_IoU (formula)",
            "One count over the pixels of all images; the mean IoU of all classes. The ignored value 255 isn't masked "
            "out (only values below 0 are): a class predicted there is its false positive.",
            "counts 0",
            unmasked,
            once(absent_as(0.0)),
        ),
        Rule(
            "absent-zero",
            "absent classes as 0",
            'scikit-learn 1.9.1, jaccard_score(labels=range(C), average="macro", zero_division=0)',
            f"{_ONE}; the mean IoU of all classes.",
            "counts 0",
            masked,
            once(absent_as(0.0)),
        ),
        Rule(
            "absent-one",
            "absent classes as 1",
            'scikit-learn 1.9.1, jaccard_score(labels=range(C), average="macro", zero_division=1)',
            f"{_ONE}; the mean IoU of all classes.",
            "counts 1",
            masked,
            once(absent_as(1.0)),
        ),
    )
}
"""Name in a recipe (`measure.rule`) → one of the numbers that are called mIoU."""

BESIDE: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "pixel_accuracy",
            "pixel accuracy",
            _LONG,
            "Share of the pixels with a truth whose predicted class is the true one.",
            NOTHING,
            masked,
            once(pixel_accuracy),
        ),
        Rule(
            "mean_accuracy",
            "mean accuracy",
            _LONG,
            "Mean over the classes that occur in the truth of the share of their pixels that are right.",
            "left out",
            masked,
            once(mean_accuracy),
        ),
        Rule(
            "fw_iou",
            "frequency-weighted IU",
            _LONG,
            "IoU of each class weighted with its share of the pixels with a truth.",
            NOTHING,
            masked,
            once(frequency_weighted),
        ),
    )
}
"""Name in `metrics.json` → what is told beside the mIoU, on the same pixels by every rule: those with a truth."""


def headline_rule(asked: str | None, scored: Flags, present: Flags | None = None) -> str:
    """Return the rule of the headline mIoU: the one that is asked for, or by default the one that suits the classes.

    That is `course` where the table has classes that aren't scored, which it alone leaves out, as long as it has a
    number: every scored class has to occur in the truth. Otherwise it is `mmsegmentation`, which always has one.
    Training, `evaluate` and `score` decide by this function alone.

    Args:
        asked: a key of `RULES`; `AUTO` or None for the default.
        scored: bool [C], which classes the table scores.
        present: bool [C], which classes have a pixel in the masks that are scored; None: all.
    """
    if asked is not None and asked != AUTO:
        return asked
    counted = np.asarray(scored)
    whole = present is None or bool(np.asarray(present)[counted].all())
    return "course" if whole and counted.any() and not counted.all() else "mmsegmentation"
