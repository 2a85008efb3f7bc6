"""Shrunken weights: their likelihood against scikit-learn, their optimum by brute force, and on few images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import log_softmax, logsumexp
from sklearn.metrics import log_loss

from octavo.numbers.ensemble import Ensemble, select_greedily
from octavo.numbers.shrinkage import STRENGTHS, Likelihood, _most_probable, shrunken_weights

CLASSES = 6


def draw(
    strengths: list[float], n: int, seed: int, alike: float = 0.5, scales: list[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [M,n,C] of members that know so much, whose errors are `alike` in part, and labels."""
    random = np.random.default_rng((19, seed))
    labels = random.integers(0, CLASSES, n)
    truth = np.eye(CLASSES)[labels] * random.exponential(1, n)[:, None]
    shared, own = random.normal(size=(n, CLASSES)), random.normal(size=(len(strengths), n, CLASSES))
    logits = 2 * np.array(strengths)[:, None, None] * truth + np.sqrt(alike) * shared + np.sqrt(1 - alike) * own
    return (logits * np.array(scales or [1] * len(strengths))[:, None, None]).astype(np.float32), labels


def accuracy(weights: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> float:
    return float((np.tensordot(weights, logits, 1).argmax(1) == labels).mean())


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_likelihood_is_scikit_learns_and_its_slopes_are_right(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.numbers.shrinkage._BLOCK", block)
    monkeypatch.setattr("octavo.numbers.shrinkage._KEPT", block)
    logits, labels = draw([1, 1.5, 0.5], 40, 0)
    likelihood, v = Likelihood(logits, labels), np.array([0.2, 0.9, 0.4])
    value, gradient = likelihood(v)
    p = np.exp(log_softmax(np.tensordot(v, logits.astype(float), 1), axis=1))
    assert value == pytest.approx(-log_loss(labels, p, labels=range(CLASSES), normalize=False))
    assert gradient == pytest.approx(approx_fprime(v, lambda x: likelihood(x)[0], 1e-6), abs=1e-3)
    numeric = np.stack([approx_fprime(v, lambda x, m=m: likelihood(x)[1][m], 1e-6) for m in range(3)])
    assert likelihood.curvature(v) == pytest.approx(-numeric, abs=1e-3)


@pytest.mark.parametrize(("n", "strengths"), [(15, [1.0, 1.0]), (60, [1.6, 0.8]), (200, [1.0, 0.6])])
def test_two_members_by_brute_force(n: int, strengths: list[float]) -> None:
    """The most probable weights of each strength are those of a grid, and so is, nearly, how they are averaged."""
    logits, labels = draw(strengths, n, 1, alike=0)
    w, log_b = np.linspace(0, 1, 51), np.linspace(-1.5, 1.5, 31)
    mixed = np.tensordot(np.stack([w, 1 - w], axis=1), logits.astype(float), 1)
    scores = np.exp(log_b)[None, :, None, None] * mixed[:, None]
    likelihood = log_softmax(scores, axis=3)[:, :, np.arange(n), labels].sum(axis=2)
    best, evidence = [], []
    for strength in STRENGTHS:
        apart = (w - 0.5) ** 2 + (0.5 - w) ** 2
        table = likelihood - strength * 2 / 2 * apart[:, None] - log_b**2 / 2
        best.append(w[table.max(axis=1).argmax()])
        evidence.append(logsumexp(table) + np.log(strength) / 2)
        v, value = _most_probable(Likelihood(logits, labels), strength, np.full(2, 0.5))
        assert v[0] / v.sum() == pytest.approx(best[-1], abs=0.021)
        assert table.max() <= value <= table.max() + 0.3
    expected = np.exp(evidence - logsumexp(evidence)) @ best
    assert shrunken_weights(logits, labels)[0] == pytest.approx(expected, abs=0.03)


def test_order_of_members_and_images_does_not_matter_and_nothing_is_drawn() -> None:
    logits, labels = draw([1, 1.3, 0.7, 1], 80, 2)
    found = shrunken_weights(logits, labels)
    assert found.tolist() == shrunken_weights(logits, labels).tolist()
    assert found.sum() == pytest.approx(1) and found.min() >= 0
    assert shrunken_weights(logits[[2, 0, 3, 1]], labels) == pytest.approx(found[[2, 0, 3, 1]], abs=2e-3)
    turned = np.random.default_rng(0).permutation(80)
    assert shrunken_weights(logits[:, turned], labels[turned]) == pytest.approx(found, abs=2e-3)
    twice = shrunken_weights(logits[[0, 0]], labels)
    assert twice == pytest.approx([0.5, 0.5], abs=1e-6)


def gains(
    strengths: list[float], n: int, draws: int = 20, alike: float = 0.5, scales: list[float] | None = None
) -> tuple[float, float]:
    """Return points of accuracy over equal weights on 3,000 other images, in the mean: shrunken, plain greedy."""
    logits, labels = draw(strengths, 4000, 3, alike, scales)
    rest, plain = slice(1000, None), np.full(len(strengths), 1 / len(strengths))
    found = []
    for seed in range(draws):
        rows = np.random.default_rng(seed).choice(1000, n, replace=False)
        chosen = shrunken_weights(logits[:, rows], labels[rows]), select_greedily(logits[:, rows], labels[rows], 50)
        found.append([accuracy(w, logits[:, rest], labels[rest]) for w in (*chosen, plain)])
    shrunken, greedy, equal = 100 * np.mean(found, axis=0)
    return shrunken - equal, greedy - equal


@pytest.mark.parametrize("members", [2, 3, 8])
@pytest.mark.parametrize("n", [10, 40])
def test_members_that_are_alike_keep_their_ensemble(n: int, members: int) -> None:
    shrunken, greedy = gains([1.0] * members, n, draws=10 if members > 3 else 20)
    assert shrunken > -0.3
    assert greedy < -0.3  # what it was before


def test_a_perfect_first_bag_is_not_the_end_of_the_search() -> None:
    logits, labels = draw([5, 4.5, 5], 20, 5)
    right = (logits.argmax(2) == labels).all(axis=1)
    if not right.any():
        logits[0, np.arange(20), labels] += 20
    assert np.count_nonzero(select_greedily(logits, labels, 50)) == 1
    assert shrunken_weights(logits, labels).min() > 0.2


def test_a_member_that_knows_nothing_loses_its_weight_to_few_images() -> None:
    strengths, scales = [1.5, 1.5, 0.0], [1.0, 1.0, 6.0]
    for n, share in ((20, 0.9), (160, 0.98)):
        shrunken, greedy = gains(strengths, n, draws=8, scales=scales)
        assert greedy > 15 and shrunken > share * greedy
    logits, labels = draw(strengths, 160, 4, scales=scales)
    assert shrunken_weights(logits, labels)[2] < 0.01


@pytest.mark.parametrize("strengths", [[2.5, *[1.0] * 7], [2.0, 1.0, 1.0]], ids=["of 8", "of 3"])
def test_one_member_that_is_better_gets_as_much_by_many_images_as_by_greedy(strengths: list[float]) -> None:
    shrunken, greedy = gains(strengths, 640, draws=4)
    assert greedy > 1 and shrunken > greedy - 0.1
    assert gains(strengths, 10, draws=20)[0] > 0


def test_one_member_has_all_the_weight() -> None:
    logits, labels = draw([1.0], 5, 6)
    assert Ensemble.fit(["a"], "greedy", logits, labels).weights == (1.0,)


def test_labels_of_many_classes_and_large_logits() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(3, 50, 1000)).astype(np.float32) * 1e4, random.integers(0, 1000, 50)
    found = shrunken_weights(logits, labels)
    assert np.isfinite(found).all() and found.sum() == pytest.approx(1)


def test_no_images() -> None:
    with pytest.raises(ValueError, match="n >= 1"):
        shrunken_weights(np.zeros((2, 0, 3)), np.zeros(0, int))
