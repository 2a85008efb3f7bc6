"""Cross-entropy with class weights and smoothing: against a formula in NumPy, and against torch where both agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax
from torch import Tensor

from octavo.data.classes import IGNORE
from octavo.engine.cross_entropy import CrossEntropy
from octavo.engine.goals import ClassifyGoal, DistilGoal
from octavo.engine.losses import make_loss
from octavo.recipe import Loss

CLASSES = 4
WEIGHTS = torch.tensor([2.0, 1.0, 0.5, 30.0])


def batch(*places: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(6, CLASSES, *places, generator=drawn)
    return logits, torch.randint(0, CLASSES, (6, *places), generator=drawn)


def soft(seed: int = 1) -> Tensor:
    return torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(seed)).softmax(1)


def formula(logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float) -> float:
    """Return Σ w[y] · CE(p, smoothed y) / Σ w[y] over labels, or Σ t[c] · w[c] · CE(p, smoothed c) / B."""
    rows = logits.movedim(1, -1).reshape(-1, CLASSES).double().numpy()
    log, weight = log_softmax(rows, axis=1), weights.double().numpy()
    smoothed = (1 - smoothing) * np.eye(CLASSES) + smoothing / CLASSES
    of_class = -(log @ smoothed)  # [n,C]: what each image would cost if it were of that class
    if targets.is_floating_point():
        return float((targets.double().numpy() * weight * of_class).sum(axis=1).mean())
    ids = targets.reshape(-1).numpy()
    known = ids != IGNORE
    costs, shares = of_class[known, ids[known]], weight[ids[known]]
    return float((shares * costs).sum() / shares.sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_weights_act_on_the_true_class(smoothing: float) -> None:
    logits, labels = batch()
    expected = formula(logits, labels, WEIGHTS, smoothing)
    assert CrossEntropy(WEIGHTS, smoothing)(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    assert ClassifyGoal(CLASSES, WEIGHTS, smoothing).loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_act_on_the_true_classes_of_mixed_images(smoothing: float) -> None:
    logits, targets = batch()[0], soft()
    expected = formula(logits, targets, WEIGHTS, smoothing)
    assert CrossEntropy(WEIGHTS, smoothing)(logits, targets).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_weights_act_on_the_true_class_of_each_pixel(ignored: float, smoothing: float) -> None:
    logits, labels = batch(5, 7)
    labels[torch.rand(labels.shape, generator=torch.Generator().manual_seed(2)) < ignored] = IGNORE
    expected = formula(logits, labels, WEIGHTS, smoothing)
    assert make_loss(Loss(), CLASSES, WEIGHTS, smoothing)(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_a_students_labels_are_weighted_alike() -> None:
    logits, labels = batch()
    student = DistilGoal(ClassifyGoal(CLASSES, WEIGHTS, 0.1), temperature=2, weight=0)
    targets = torch.cat([torch.zeros_like(logits), labels[:, None].float()], dim=1)
    assert student.loss(logits, targets).item() == pytest.approx(formula(logits, labels, WEIGHTS, 0.1), rel=1e-5)


@pytest.mark.parametrize("targets", [batch()[1], soft()], ids=["labels", "soft"])
@pytest.mark.parametrize(("weight", "smoothing"), [(None, 0.0), (None, 0.1), (WEIGHTS, 0.0)])
def test_is_torchs_to_the_bit_where_weights_and_smoothing_do_not_meet(
    targets: Tensor, weight: Tensor | None, smoothing: float
) -> None:
    logits = batch()[0]
    assert CrossEntropy(weight, smoothing)(logits, targets) == F.cross_entropy(
        logits, targets, weight, label_smoothing=smoothing
    )


@pytest.mark.parametrize("ignore", [None, IGNORE])
def test_equal_weights_are_none(ignore: int | None) -> None:
    logits, labels = batch(3)
    even = CrossEntropy(torch.full((CLASSES,), 7.0), 0.1, ignore)(logits, labels)
    assert even.item() == pytest.approx(F.cross_entropy(logits, labels, label_smoothing=0.1).item(), rel=1e-6)


def test_gradient_of_a_common_image_never_points_to_the_rare_class() -> None:
    """The fault that this module is for: with torch's own, 400 images to 8 call every image rare."""
    counts = torch.tensor([400, 8])
    weights = counts.sum() / (2 * counts)
    logits, labels = torch.zeros(408, 2, requires_grad=True), torch.arange(2).repeat_interleave(counts)
    (gradient,) = torch.autograd.grad(CrossEntropy(weights, 0.1)(logits, labels), logits)
    assert (gradient[labels == 0, 1] > 0).all() and (gradient[labels == 1, 1] < 0).all()
    (theirs,) = torch.autograd.grad(F.cross_entropy(logits, labels, weights, label_smoothing=0.1), logits)
    assert (theirs[labels == 0, 1] < 0).all()  # so this would fail with it


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, torch.zeros(CLASSES), WEIGHTS])
def test_nothing_to_learn_from_is_zero_with_a_graph(weight: Tensor | None, smoothing: float) -> None:
    logits, labels = batch(3)
    logits.requires_grad_()
    if weight is None or weight.any():
        labels = torch.full_like(labels, IGNORE)
    loss = CrossEntropy(weight, smoothing, IGNORE)(logits, labels)
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and (logits.grad == 0).all()
