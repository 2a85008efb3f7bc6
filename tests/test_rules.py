"""Every rule gives the number of the library it is named for, or of its published formula on the pixels themselves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score, recall_score
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

from octavo.numbers.confusion import IGNORE, confusion
from octavo.numbers.rules import BESIDE, RULES, Rule

Masks = list[np.ndarray]
Reference = Callable[[Masks, Masks, int, np.ndarray], float]


@dataclass(frozen=True)
class Case:
    """Predictions and truths of a set of images; `scored` as in a table of classes."""

    predicted: Masks
    truth: Masks
    classes: int
    scored: np.ndarray

    @property
    def confusions(self) -> np.ndarray:
        return np.stack([confusion(p, t, self.classes) for p, t in zip(self.predicted, self.truth, strict=True)])

    @property
    def all_predicted(self) -> bool:
        return not any((p == IGNORE).any() for p in self.predicted)


def case(
    seed: int,
    classes: int,
    sizes: list[tuple[int, int]],
    *,
    true: list[int] | None = None,
    called: list[int] | None = None,
    ignored: float = 0.1,
    unpredicted: float = 0.0,
    right: float = 0.6,
    unscored: tuple[int, ...] = (),
) -> Case:
    """Draw masks: classes `true` in the truth, of which `right` are hit and the others one of `called`."""
    random = np.random.default_rng(seed)
    names = np.arange(classes)
    truths, guesses = [], []
    for size in sizes:
        truth = random.choice(names if true is None else true, size)
        guess = np.where(random.random(size) < right, truth, random.choice(names if called is None else called, size))
        truth[random.random(size) < ignored] = IGNORE
        guess[random.random(size) < unpredicted] = IGNORE
        truths.append(truth.astype(np.uint8))
        guesses.append(guess.astype(np.uint8))
    return Case(guesses, truths, classes, ~np.isin(names, unscored))


def _with_an_image_all_ignored() -> Case:
    made = case(5, 4, [(9, 9)] * 3)
    made.truth[1][:] = IGNORE
    return made


CASES = {
    "random": case(0, 7, [(20, 20)] * 4),
    "course: the last class is not scored": case(1, 7, [(16, 16)] * 3, unscored=(6,), ignored=0.0),
    "unscored and ignored": case(2, 7, [(16, 16)] * 3, unscored=(0, 6)),
    "sizes differ": case(3, 5, [(1, 1), (1, 40), (33, 17), (64, 3)]),
    "an absent class": case(4, 6, [(12, 12)] * 3, true=[0, 1, 3, 4, 5], called=[0, 1, 3, 4, 5]),
    "an absent class that isn't scored": case(4, 6, [(9, 9)] * 3, true=[0, 1, 2], called=[1, 2], unscored=(3, 4, 5)),
    "a class that is only predicted": case(5, 5, [(12, 12)] * 3, true=[0, 1, 2], called=[0, 1, 2, 3]),
    "a class that is never predicted": case(6, 5, [(12, 12)] * 3, called=[0, 1, 2], right=0.0),
    "an image all ignored": _with_an_image_all_ignored(),
    "everything ignored": case(7, 4, [(5, 5)] * 2, ignored=1.1),
    "one class alone in it": case(8, 5, [(8, 8)] * 2, true=[2], called=[2]),
    "nothing right": case(9, 3, [(8, 8)], true=[0], called=[1]),
    "all right": case(10, 4, [(8, 8)] * 3, right=1.1),
    "two classes": case(11, 2, [(15, 10)] * 3),
    "pixels without a predicted class": case(12, 4, [(15, 10)] * 3, unpredicted=0.2),
    "nothing predicted": case(13, 4, [(5, 5)] * 2, unpredicted=1.1),
    "many classes in few pixels": case(14, 60, [(6, 6)] * 5),
}


def course(predicted: Masks, truth: Masks, classes: int, scored: np.ndarray) -> float:
    """mean_iou_score of the course, with the scored classes in the place of its six."""
    guess, label = (np.concatenate([m.ravel() for m in masks]) for masks in (predicted, truth))
    total = 0.0
    for c in np.flatnonzero(scored):
        both = np.count_nonzero((guess == c) & (label == c))
        either = np.count_nonzero(guess == c) + np.count_nonzero(label == c) - both
        total += both / either / scored.sum() if either else math.nan
    return total


def voc(predicted: Masks, truth: Masks, classes: int, scored: np.ndarray) -> float:
    """VOCevalseg: MATLAB's 0/0 is NaN, and so is a mean with one."""
    counts = np.zeros((classes, classes + 1))
    for guess, label in zip(predicted, truth, strict=True):
        kept = label < 255
        np.add.at(counts, (label[kept], np.minimum(guess[kept], classes)), 1)
    values = []
    for j in range(classes):
        union = counts[j].sum() + counts[:, j].sum() - counts[j, j]
        values.append(counts[j, j] / union if union else math.nan)
    return float(np.mean(values))


def mmsegmentation(predicted: Masks, truth: Masks, classes: int, scored: np.ndarray) -> float:
    """IoUMetric.intersect_and_union, then nanmean of total_area_to_metrics."""
    both, guesses, labels = np.zeros(classes), np.zeros(classes), np.zeros(classes)
    for guess, label in zip(predicted, truth, strict=True):
        kept = label != 255
        for area, values in ((both, guess[kept & (guess == label)]), (guesses, guess[kept]), (labels, label[kept])):
            area += np.histogram(values, bins=np.arange(classes + 1) - 0.5)[0]
    union = guesses + labels - both
    values = [b / u for b, u in zip(both, union, strict=True) if u]
    return float(np.mean(values)) if values else math.nan


def ultralytics(predicted: Masks, truth: Masks, classes: int, scored: np.ndarray) -> float:
    """SemanticMetrics.update_stats and process, for two classes or more."""
    values = []
    pairs = [(g[k], t[k]) for g, t in zip(predicted, truth, strict=True) for k in [(t != 255) & (g < classes)]]
    for c in range(classes):
        if not any((t == c).any() for _, t in pairs):
            continue
        both = sum(np.count_nonzero((g == c) & (t == c)) for g, t in pairs)
        either = sum(np.count_nonzero((g == c) | (t == c)) for g, t in pairs)
        values.append(both / either)
    return float(np.mean(values)) if values else 0.0


def autogluon(predicted: Masks, truth: Masks, classes: int, scored: np.ndarray) -> float:
    """Multiclass_IoU.batch_intersection_union and compute."""
    both, union = np.zeros(classes), np.zeros(classes)
    for guess, label in zip(predicted, truth, strict=True):
        for c in range(classes):
            both[c] += np.count_nonzero((guess == c) & (label == c))
            union[c] += np.count_nonzero((guess == c) | (label == c))
    return float((both / (2.220446049250313e-16 + union)).mean())


def kept(predicted: Masks, truth: Masks) -> tuple[np.ndarray, np.ndarray]:
    """All pixels with a truth."""
    guess, label = (np.concatenate([m.ravel() for m in masks]) for masks in (predicted, truth))
    return guess[label != IGNORE], label[label != IGNORE]


def jaccard(average: str, absent: float) -> Reference:
    def score(predicted: Masks, truth: Masks, classes: int, scored: np.ndarray) -> float:
        guess, label = kept(predicted, truth)
        if not len(label):  # scikit-learn refuses an empty set
            return absent
        return float(jaccard_score(label, guess, labels=range(classes), average=average, zero_division=absent))  # type: ignore[arg-type]

    return score


def torchmetrics_jaccard(average: str) -> Reference:
    def score(predicted: Masks, truth: Masks, classes: int, scored: np.ndarray) -> float:
        metric = MulticlassJaccardIndex(classes, average=average, ignore_index=IGNORE)  # type: ignore[arg-type]
        for guess, label in zip(predicted, truth, strict=True):
            metric.update(torch.from_numpy(guess).long()[None], torch.from_numpy(label).long()[None])
        return float(metric.compute())

    return score


def torchmetrics_mean(per_class: bool = False, background: bool = True) -> Reference:
    def one_hot(mask: np.ndarray, keep: np.ndarray, classes: int) -> torch.Tensor:
        return torch.from_numpy(np.stack([(mask == c) & keep for c in range(classes)])[None].astype(np.int64))

    def score(predicted: Masks, truth: Masks, classes: int, scored: np.ndarray) -> float:
        metric = MeanIoU(classes, include_background=background, per_class=per_class)
        for guess, label in zip(predicted, truth, strict=True):
            keep = label != IGNORE
            metric.update(one_hot(guess, keep, classes), one_hot(label, keep, classes))
        return float(metric.compute().mean())

    return score


def smp(reduction: str) -> Reference:
    def score(predicted: Masks, truth: Masks, classes: int, scored: np.ndarray) -> float:
        metrics = pytest.importorskip("segmentation_models_pytorch").metrics
        each = [
            metrics.get_stats(
                torch.from_numpy(g).long()[None],
                torch.from_numpy(t).long()[None],
                mode="multiclass",
                num_classes=classes,
                ignore_index=IGNORE,
            )
            for g, t in zip(predicted, truth, strict=True)
        ]
        return float(metrics.iou_score(*(torch.cat(x) for x in zip(*each, strict=True)), reduction=reduction))

    return score


def pixel_accuracy(predicted: Masks, truth: Masks, classes: int, scored: np.ndarray) -> float:
    guess, label = kept(predicted, truth)
    return float(accuracy_score(label, guess)) if len(label) else math.nan


def mean_accuracy(predicted: Masks, truth: Masks, classes: int, scored: np.ndarray) -> float:
    guess, label = kept(predicted, truth)
    present = np.unique(label)
    return float(recall_score(label, guess, labels=present, average="macro")) if len(label) else math.nan


def fw_iou(predicted: Masks, truth: Masks, classes: int, scored: np.ndarray) -> float:
    guess, label = kept(predicted, truth)
    return float(jaccard_score(label, guess, average="weighted", zero_division=0)) if len(label) else math.nan  # type: ignore[arg-type]


REFERENCES: dict[str, Reference] = {
    "course": course,
    "voc": voc,
    "mmsegmentation": mmsegmentation,
    "torchmetrics-macro": torchmetrics_jaccard("macro"),
    "torchmetrics-micro": torchmetrics_jaccard("micro"),
    "torchmetrics-mean-iou": torchmetrics_mean(),
    "torchmetrics-mean-iou-per-class": torchmetrics_mean(per_class=True),
    "torchmetrics-mean-iou-no-background": torchmetrics_mean(background=False),
    "smp-macro": smp("macro"),
    "smp-micro": smp("micro"),
    "smp-macro-imagewise": smp("macro-imagewise"),
    "smp-micro-imagewise": smp("micro-imagewise"),
    "ultralytics": ultralytics,
    "autogluon": autogluon,
    "absent-zero": jaccard("macro", 0.0),
    "absent-one": jaccard("macro", 1.0),
    "pixel_accuracy": pixel_accuracy,
    "mean_accuracy": mean_accuracy,
    "fw_iou": fw_iou,
}
HOLDS_NO_BLANKS = ("torchmetrics-macro", "torchmetrics-micro")
"""Libraries that can't be given a pixel without predicted class."""
ALL = RULES | BESIDE


def test_every_rule_has_a_reference() -> None:
    assert set(REFERENCES) == set(ALL)
    assert not set(RULES) & set(BESIDE)


@pytest.mark.parametrize("case_name", CASES)
@pytest.mark.parametrize("name", ALL)
def test_equals_its_reference(name: str, case_name: str) -> None:
    given = CASES[case_name]
    if name in HOLDS_NO_BLANKS and not given.all_predicted:
        pytest.skip("the library can't be given a pixel without predicted class")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, on divisions by zero
        expected = REFERENCES[name](given.predicted, given.truth, given.classes, given.scored)
    got = ALL[name].score(given.confusions, given.scored).value
    if math.isnan(expected):
        assert got is None
    else:
        assert got == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("rule", ALL.values(), ids=lambda rule: rule.name)
def test_contract(rule: Rule) -> None:
    assert ALL[rule.name] is rule
    assert rule.text.endswith(".") and rule.title and rule.absent and len(rule.source) > 20
    for given in CASES.values():
        got = rule.score(given.confusions, given.scored)
        assert got.per_class.shape == got.counted.shape == (given.classes,)
        assert got.value is None or -1 <= got.value <= 1
        known = got.per_class[~np.isnan(got.per_class)]
        assert ((known >= -1) & (known <= 1)).all()


@pytest.mark.parametrize("rule", ALL.values(), ids=lambda rule: rule.name)
def test_whole_weights_are_repeated_images(rule: Rule) -> None:
    for name in ("random", "sizes differ", "an image all ignored", "a class that is only predicted"):
        given = CASES[name]
        n = len(given.truth)
        weight = np.stack([np.arange(n), np.ones(n), np.arange(n)[::-1] ** 2]).astype(float)
        means = rule.means(given.confusions, given.scored)(weight)
        for i, row in enumerate(weight.astype(int)):
            repeated = rule.score(np.repeat(given.confusions, row, axis=0), given.scored)
            expected = math.nan if repeated.value is None else repeated.value
            assert means.value[i] == pytest.approx(expected, abs=1e-12, nan_ok=True)
            np.testing.assert_allclose(means.per_class[i], repeated.per_class, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["course", "voc", "mmsegmentation", "ultralytics", "autogluon", "absent-zero", "smp-macro"]
)
def test_the_number_is_the_mean_of_the_counted_classes(name: str) -> None:
    for case_name in ("random", "unscored and ignored", "a class that is only predicted"):
        given = CASES[case_name]
        got = RULES[name].score(given.confusions, given.scored)
        expected = got.per_class[got.counted].mean()
        assert (got.value is None) == np.isnan(expected)
        assert got.value is None or got.value == pytest.approx(expected, abs=1e-12)


def test_a_class_predicted_on_unknown_truth_costs_by_the_courses_rule_alone() -> None:
    truth, guess = np.array([[0, 0, 1, IGNORE]], np.uint8), np.array([[0, 0, 1, 1]], np.uint8)
    table, both = confusion(guess, truth, 2)[None], np.array([True, True])
    assert RULES["course"].score(table, both).value == pytest.approx(0.75)
    assert RULES["voc"].score(table, both).value == 1
    named = confusion(guess, np.array([[0, 0, 1, 2]], np.uint8), 3)[None]  # the same with "unknown" as a class
    assert RULES["course"].score(named, np.array([True, True, False])).value == pytest.approx(0.75)


def test_one_set_of_predictions_has_many_numbers() -> None:
    given = CASES["an absent class"]
    values = {round(v, 4) for r in RULES.values() if (v := r.score(given.confusions, given.scored).value) is not None}
    assert len(values) >= 6
    assert RULES["voc"].score(given.confusions, given.scored).value is None


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 3, 4), (2, 1, 1)])
def test_what_is_no_confusion_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="confusions"):
        RULES["voc"].score(np.zeros(shape, np.int64), np.ones(2, bool))
