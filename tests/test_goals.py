"""What is minimised and counted, against scikit-learn."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from octavo.data.classes import IGNORE
from octavo.engine.goals import ClassifyGoal, SegmentGoal, enlarged
from octavo.numbers.confusion import confusions_of
from octavo.tasks.segmentation.training import _score

CLASSES = 4
NAMES = ("lake", "a,b", 'say "x"', "_")
CRITERION = partial(F.cross_entropy, ignore_index=IGNORE)


def goal(rule: str = "mmsegmentation", plain: bool = True) -> SegmentGoal:
    score = partial(_score, rule, np.array([True, True, True, False]))
    return SegmentGoal(CRITERION, NAMES, confusions_of, score, plain=plain)


def masks(count: int = 5, side: int = 12, absent: tuple[int, ...] = ()) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [n,C,H,W] that are right half of the time, and masks uint8 with a fifth of IGNORE."""
    draw = np.random.default_rng(0)
    known = [c for c in range(CLASSES) if c not in absent]
    truth = draw.choice(known, (count, side, side))
    logits = torch.from_numpy(draw.normal(size=(count, CLASSES, side, side))).float()
    logits += 1.5 * F.one_hot(torch.from_numpy(truth), CLASSES).permute(0, 3, 1, 2)
    logits[:, list(absent)] = -20
    truth[draw.random(truth.shape) < 0.2] = IGNORE
    return logits, torch.from_numpy(truth.astype(np.uint8))


def miou(table: np.ndarray) -> np.ndarray:
    union = table.sum(0) + table.sum(1) - table.diagonal()
    return table.diagonal() / np.where(union, union, np.nan)


@pytest.mark.parametrize("absent", [(), (2,)])
def test_held_out_numbers_are_scikit_learns(absent: tuple[int, ...]) -> None:
    """Counted in batches, over the pixels that aren't ignored; a class that doesn't occur is left out."""
    logits, truth = masks(absent=absent)
    found = goal()
    found.hold(logits[:3] * 0, truth[:3])
    found.reset()  # what was counted in an earlier epoch is gone
    for part in (slice(0, 2), slice(2, 5)):
        found.hold(logits[part], truth[part])
    known = truth.numpy() != IGNORE
    true, predicted = truth.numpy()[known], logits.argmax(1).numpy()[known]
    table = confusion_matrix(true, predicted, labels=range(CLASSES))
    held = found.held()
    assert held["holdout_miou"] == pytest.approx(np.nanmean(miou(table)))
    each = {f"holdout_iou_{NAMES[c]}": iou for c, iou in enumerate(miou(table)) if c not in absent}
    assert {name: value for name, value in held.items() if "_iou_" in name} == pytest.approx(each)
    assert held["holdout_pixel_accuracy"] == pytest.approx(accuracy_score(true, predicted))
    p = logits.double().softmax(1).permute(0, 2, 3, 1).numpy()
    assert held["holdout_loss"] == pytest.approx(log_loss(true, p[known], labels=range(CLASSES)), rel=1e-5)
    assert 0.2 < held["holdout_miou"] < 0.8


def test_a_class_that_does_not_occur_has_no_iou_even_where_the_rule_gives_it_one() -> None:
    logits, truth = masks(absent=(2,))
    found = goal("absent-one")
    found.hold(logits, truth)
    columns = {name for name in found.held() if "_iou_" in name}
    assert columns == {f"holdout_iou_{NAMES[c]}" for c in (0, 1, 3)}


def test_held_out_number_goes_by_the_rule() -> None:
    """`course` counts three of the four classes, and what is predicted where the truth is none."""
    logits, truth = masks()
    found = goal("course")
    found.hold(logits, truth)
    true = np.where(truth.numpy() == IGNORE, CLASSES, truth.numpy())
    table = confusion_matrix(true.ravel(), logits.argmax(1).numpy().ravel(), labels=range(CLASSES + 1))
    assert found.held()["holdout_miou"] == pytest.approx(np.nanmean(miou(table)[:3]))


def test_held_out_scores_are_enlarged_to_the_masks() -> None:
    logits, truth = masks(side=12)
    small = F.avg_pool2d(logits, 2)
    found, expected = goal(), goal()
    found.hold(small, truth)
    expected.hold(F.interpolate(small, (12, 12), mode="bilinear", align_corners=False), truth)
    assert found.held() == expected.held()
    assert enlarged(logits, (12, 12)) is logits


def test_nothing_held_out_has_no_columns() -> None:
    assert goal().held() == {} and ClassifyGoal(3).held() == {}
    found = goal()
    found.hold(masks()[0], torch.full_like(masks()[1], IGNORE))
    assert found.held() == {"holdout_loss": 0.0, "holdout_pixel_accuracy": 0.0, "holdout_miou": 0.0}


def test_sums_of_an_epoch_of_masks() -> None:
    logits, truth = masks()
    found, targets = goal(), truth.long()
    tally = torch.zeros(3)
    for part in (slice(0, 2), slice(2, 5)):
        loss = found.loss(logits[part], targets[part])
        assert loss == CRITERION(logits[part], targets[part])
        tally += found.sums(loss, logits[part], targets[part], truth[part])
    losses = [CRITERION(logits[p], targets[p]).item() * n for p, n in ((slice(0, 2), 2), (slice(2, 5), 3))]
    shares = []
    for part, n in ((slice(0, 2), 2), (slice(2, 5), 3)):
        known = truth[part].numpy() != IGNORE
        shares.append(n * accuracy_score(truth[part].numpy()[known], logits[part].argmax(1).numpy()[known]))
    row = found.trained(tally)
    assert row == pytest.approx({"train_loss": sum(losses) / 5, "train_pixel_accuracy": sum(shares) / 5})
    assert found.progress(tally) == f"loss {row['train_loss']:.3f} pixels {row['train_pixel_accuracy']:.3f}"


def test_sums_of_an_epoch_of_classes() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(30, 5, generator=draw), torch.randint(0, 5, (30,), generator=draw)
    found = ClassifyGoal(5, label_smoothing=0.1)
    tally = found.sums(found.loss(logits, labels), logits, labels, labels)
    right = accuracy_score(labels, logits.argmax(1))
    assert found.trained(tally)["train_accuracy"] == pytest.approx(right)
    assert found.trained(tally)["train_loss"] == pytest.approx(F.cross_entropy(logits, labels, label_smoothing=0.1))
    for part in (slice(0, 11), slice(11, 30)):
        found.hold(logits[part], labels[part])
    plain = log_loss(labels, logits.double().softmax(1), labels=range(5))  # held out: without smoothing
    assert found.held() == pytest.approx({"holdout_loss": plain, "holdout_accuracy": right}, rel=1e-5)


def test_chance_is_the_cross_entropy_of_guessing() -> None:
    assert goal().chance == pytest.approx(math.log(CLASSES)) and ClassifyGoal(10).chance == pytest.approx(math.log(10))
    assert goal().plain and not goal(plain=False).plain and ClassifyGoal(10).plain
    logits, truth = masks()
    assert goal().loss(logits * 0, truth.long()).item() == pytest.approx(math.log(CLASSES), rel=1e-5)


def test_which_number_is_best() -> None:
    assert (goal().monitor, goal().mode) == ("holdout_miou", "max")
    assert (ClassifyGoal(2).monitor, ClassifyGoal(2).mode) == ("holdout_loss", "min")
