"""Losses of masks: against formulas in NumPy, scikit-learn and brute force, with and without ignored pixels."""

from __future__ import annotations

import builtins
import itertools
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss
from torch import Tensor

from octavo.engine.losses import IGNORE, make_loss
from octavo.errors import UserError
from octavo.recipe import Loss

CLASSES = 4
TERMS = ("cross_entropy", "focal", "dice", "lovasz")
OFF = {"cross_entropy": 0.0}


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    pytest.importorskip("segmentation_models_pytorch")


def only(term: str, **rest: Any) -> Loss:
    return Loss(**(OFF | {term: 1.0} | rest))


def batch(ignored: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, CLASSES, 6, 5, generator=drawn) * 2
    targets = torch.randint(0, CLASSES - 1, (3, 6, 5), generator=drawn)  # the last class is absent
    targets[torch.rand(3, 6, 5, generator=drawn) < ignored] = IGNORE
    return logits, targets


def known(logits: Tensor, targets: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float64 [P,C] and classes [P] of the pixels that aren't ignored."""
    scores = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).double().numpy()
    power = np.exp(scores - scores.max(1, keepdims=True))
    ids = targets.reshape(-1).numpy()
    return (power / power.sum(1, keepdims=True))[ids != IGNORE], ids[ids != IGNORE]


@pytest.mark.parametrize("ignored", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_scikit_learns(ignored: float, weighted: bool) -> None:
    logits, targets = batch(ignored)
    weights = torch.tensor([2.0, 1.0, 0.5, 3.0]) if weighted else None
    probabilities, ids = known(logits, targets)
    rows = weights.numpy()[ids] if weights is not None else None
    expected = log_loss(ids, probabilities, labels=range(CLASSES), sample_weight=rows)
    assert make_loss(only("cross_entropy"), CLASSES, weights)(logits, targets).item() == pytest.approx(expected, 1e-5)


def test_smoothed_cross_entropy_is_torchs_mean() -> None:
    logits, targets = batch()
    expected = F.cross_entropy(logits, targets, ignore_index=IGNORE, label_smoothing=0.1)
    assert make_loss(Loss(), CLASSES, None, 0.1)(logits, targets).item() == pytest.approx(expected.item(), 1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_its_formula(gamma: float) -> None:
    logits, targets = batch()
    probabilities, ids = known(logits, targets)
    p = probabilities[np.arange(len(ids)), ids]
    loss = make_loss(only("focal", focal_gamma=gamma), CLASSES)(logits, targets)
    assert loss.item() == pytest.approx(float(np.mean((1 - p) ** gamma * -np.log(p))), 1e-5)


@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_dice_is_its_formula(ignored: float) -> None:
    logits, targets = batch(ignored)
    probabilities, ids = known(logits, targets)
    one_hot = np.eye(CLASSES)[ids]
    # min(p, y) is p·y for y of 0 or 1: the usual soft Dice. A class that isn't there costs nothing, but is counted.
    dice = 2 * (probabilities * one_hot).sum(0) / (probabilities.sum(0) + one_hot.sum(0))
    expected = ((1 - dice) * (one_hot.sum(0) > 0)).sum() / CLASSES
    assert make_loss(only("dice"), CLASSES)(logits, targets).item() == pytest.approx(expected, 1e-5)


@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_lovasz_is_the_extension_of_the_jaccard_loss(ignored: float) -> None:
    """By definition: with errors sorted downward, Σ errorᵢ · (Δ(first i) - Δ(first i-1)), Δ the Jaccard loss of a set
    of wrong pixels (Berman et al. 2018, equation 9), averaged over the classes that are there."""
    logits, targets = batch(ignored)
    probabilities, ids = known(logits, targets)

    def jaccard_loss(wrong: np.ndarray, truth: np.ndarray) -> float:
        predicted = truth ^ wrong
        return 1 - (truth & predicted).sum() / (truth | predicted).sum()

    losses = []
    for c in np.unique(ids):
        truth = ids == c
        errors = np.abs(truth - probabilities[:, c])
        order = np.argsort(-errors)
        sets = [np.isin(np.arange(len(ids)), order[:i]) for i in range(len(ids) + 1)]
        steps = [jaccard_loss(b, truth) - jaccard_loss(a, truth) for a, b in itertools.pairwise(sets)]
        losses.append(np.dot(errors[order], steps))
    assert make_loss(only("lovasz"), CLASSES)(logits, targets).item() == pytest.approx(np.mean(losses), 1e-5)


def test_a_sum_weighs_its_terms() -> None:
    logits, targets = batch()
    parts = {term: make_loss(only(term), CLASSES)(logits, targets).item() for term in TERMS}
    weights = dict(zip(TERMS, (0.5, 2.0, 0.25, 1.5), strict=True))
    total = make_loss(Loss(**weights), CLASSES)(logits, targets)
    assert total.item() == pytest.approx(sum(weights[t] * parts[t] for t in TERMS), 1e-5)


@pytest.mark.parametrize("term", TERMS)
def test_ignored_pixels_have_no_say(term: str) -> None:
    logits, targets = batch()
    loss = make_loss(only(term), CLASSES)
    changed = torch.where((targets == IGNORE)[:, None], torch.randn_like(logits) * 50, logits).requires_grad_()
    value = loss(changed, targets)
    assert value.item() == pytest.approx(loss(logits, targets).item(), 1e-5)
    value.backward()
    assert changed.grad is not None
    assert (changed.grad.permute(0, 2, 3, 1)[targets == IGNORE] == 0).all()
    assert (changed.grad.permute(0, 2, 3, 1)[targets != IGNORE] != 0).any()


@pytest.mark.parametrize("term", TERMS)
def test_all_ignored_is_zero_with_a_graph(term: str) -> None:
    logits, targets = batch(1.1)
    assert (targets == IGNORE).all()
    logits.requires_grad_()
    weights = torch.ones(CLASSES) if term == "cross_entropy" else None
    loss = make_loss(only(term), CLASSES, weights)(logits, targets)
    loss.backward()
    assert loss.shape == ()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("term", TERMS)
def test_gradient_points_downhill_and_is_finite_when_sure(term: str) -> None:
    logits, targets = batch()
    loss = make_loss(only(term, focal_gamma=0.5), CLASSES)
    x = logits.clone().requires_grad_()
    before = loss(x, targets)
    before.backward()
    assert x.grad is not None
    assert loss(logits - 0.1 * x.grad / x.grad.norm(), targets) < before
    sure = (F.one_hot(targets.where(targets != IGNORE, 0), CLASSES).permute(0, 3, 1, 2) * 200.0).requires_grad_()
    loss(sure, targets).backward()
    assert sure.grad is not None
    assert torch.isfinite(sure.grad).all()


def test_weight_of_zero_alone_is_no_nan() -> None:
    logits, targets = batch(0)
    assert make_loss(Loss(), CLASSES, torch.zeros(CLASSES))(logits, targets).item() == 0


def test_weights_follow_the_module() -> None:
    loss = make_loss(Loss(), CLASSES, torch.ones(CLASSES)).to("meta")
    assert all(buffer.is_meta for buffer in loss.buffers())
    assert len(list(loss.buffers())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((only("dice"), 4, torch.ones(4)), "train.class_weights: acts on cross-entropy alone"),
        ((only("focal"), 4, None, 0.1), "train.label_smoothing: acts on cross-entropy alone"),
        ((Loss(), 3, torch.ones(4)), "train.class_weights: 4 weights for 3 classes"),
    ],
)  # fmt: skip
def test_what_cannot_act_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        make_loss(*arguments)


@pytest.mark.parametrize("term", ["dice", "lovasz"])
def test_missing_package_says_what_to_install(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("segmentation_models_pytorch"):
            raise ImportError(name)
        return original(name, *rest, **more)

    for name in [n for n in sys.modules if n.startswith("segmentation_models_pytorch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'octavo\[losses\]'$"):
        make_loss(only(term), CLASSES)
    make_loss(only("focal"), CLASSES)
