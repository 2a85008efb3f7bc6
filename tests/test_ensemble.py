"""Combinations and greedy selection against plain re-implementations and known cases."""

from __future__ import annotations

import itertools
import json
import time
from fractions import Fraction

import numpy as np
import pytest
import torch

from octavo.errors import UserError
from octavo.numbers.ensemble import CHOSEN, COMBINE, Ensemble, fit_weights, select_greedily


def draw(members: int, n: int, classes: int, seed: int, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [M,N,C] with errors of their own, and labels; `whole` numbers make many ties."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    logits = random.normal(size=(members, n, classes)) * 1.5
    logits[:, np.arange(n), labels] += random.uniform(0.5, 2.0, members)[:, None]
    return (np.round(logits) if whole else logits).astype(np.float32), labels


def plain_greedy(logits: np.ndarray, labels: np.ndarray, rounds: int) -> list[Fraction]:
    """Caruana et al. 2004 with lists of picks, every bag scored from nothing."""
    stack = torch.from_numpy(logits).double()
    truth = torch.from_numpy(labels)
    picks: list[int] = []
    bags = []
    for _ in range(rounds):
        scored = []
        for member in range(len(logits)):
            mean = stack[[*picks, member]].mean(0)
            right = int((stack[[*picks, member]].sum(0).argmax(1) == truth).sum())
            scored.append((-right, float(torch.nn.functional.cross_entropy(mean, truth)), member))
        nearly = [s for s in scored if s[0] == min(scored)[0]]
        lowest = min(s[1] for s in nearly)
        pick = min((s for s in nearly if s[1] <= lowest + 1e-12), key=lambda s: s[2])
        picks.append(pick[2])
        bags.append((pick[0], len(picks), list(picks)))
    best = min(bags)[2]
    return [Fraction(best.count(m), len(best)) for m in range(len(logits))]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_greedy_equals_a_plain_implementation(seed: int, whole: bool) -> None:
    logits, labels = draw(4 + seed % 3, 60, 5, seed, whole)
    got = select_greedily(logits, labels, 15)
    assert got == pytest.approx([float(w) for w in plain_greedy(logits, labels, 15)])


@pytest.mark.parametrize("seed", range(4))
def test_greedy_of_two_rounds_finds_the_best_pair_that_holds_the_best_member(seed: int) -> None:
    logits, labels = draw(5, 80, 4, seed)
    right = [int((z.argmax(1) == labels).sum()) for z in logits]
    best = int(np.argmax(right))
    pairs = {m: int(((logits[best].astype(float) + logits[m]).argmax(1) == labels).sum()) for m in range(5)}
    weights = select_greedily(logits, labels, 2)
    reached = int((np.tensordot(weights, logits, 1).argmax(1) == labels).sum())
    assert reached == max(right[best], *pairs.values())


def test_greedy_never_scores_below_its_best_member_where_it_was_fitted() -> None:
    for seed in range(10):
        logits, labels = draw(6, 50, 8, seed)
        weights = fit_weights("caruana", logits, labels)
        fitted = (COMBINE["caruana"](logits, weights).argmax(1) == labels).mean()
        assert fitted >= max((z.argmax(1) == labels).mean() for z in logits)
        assert weights.sum() == pytest.approx(1) and weights.min() >= 0


def test_known_bags() -> None:
    labels = np.array([0, 1, 0, 1])
    right = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    half_a, half_b = right.copy(), right.copy()
    half_a[:2] = right[:2, ::-1] * 0.1  # slightly wrong on the first two, surely right on the rest
    half_b[2:] = right[2:, ::-1] * 0.1
    assert select_greedily(np.stack([right, half_a]), labels, 50).tolist() == [1, 0]
    assert select_greedily(np.stack([half_a, half_b]), labels, 50).tolist() == [0.5, 0.5]
    # equal accuracy: the lower negative log-likelihood wins, then the lower index
    assert select_greedily(np.stack([right, 3 * right]), labels, 50).tolist() == [0, 1]
    assert select_greedily(np.stack([half_a, right, right]), labels, 50).tolist() == [0, 1, 0]


def test_weights_of_two_in_three_need_three_rounds() -> None:
    # image 0 needs twice a's voice against b's, image 1 needs b's
    a, b = np.array([[1.0, 0], [0, 0.5], [0, 1]]), np.array([[0, 1.5], [1.2, 0], [0, 1]])
    logits, labels = np.stack([a, b]).astype(np.float32), np.array([0, 0, 1])
    assert select_greedily(logits, labels, 50) == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize("combine", CHOSEN)
def test_choosing_is_fast_enough(combine: str) -> None:
    logits, labels = draw(8, 2500, 100, 0)
    start = time.perf_counter()
    first = fit_weights(combine, logits, labels, 50)
    assert time.perf_counter() - start < 5
    assert first.tolist() == fit_weights(combine, logits, labels, 50).tolist()


@pytest.mark.parametrize("combine", COMBINE)
def test_every_combination(combine: str) -> None:
    logits, labels = draw(3, 40, 6, 1)
    weights = fit_weights(combine, logits, labels, given=[2, 1, 1] if combine == "weighted" else None)
    mixed = COMBINE[combine](logits, weights)
    assert mixed.shape == (40, 6) and np.isfinite(mixed).all()
    assert weights.shape == (3,) and weights.sum() == pytest.approx(1)
    # members' order doesn't matter, nor does a member without weight, whatever it says
    turned = COMBINE[combine](logits[::-1], weights[::-1])
    assert turned == pytest.approx(mixed, abs=1e-9)
    broken = np.concatenate([logits, np.full((1, 40, 6), np.nan, np.float32)])
    assert COMBINE[combine](broken, [*weights, 0.0]).tolist() == mixed.tolist()
    # a single member is itself
    alone = torch.from_numpy(COMBINE[combine](logits[:1], [1.0])).softmax(1)
    assert alone.numpy() == pytest.approx(torch.from_numpy(logits[0]).double().softmax(1).numpy())


def test_combinations_equal_torch() -> None:
    logits, _ = draw(3, 40, 6, 2)
    stack, shares = torch.from_numpy(logits).double(), torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    summed = (shares[:, None, None] * stack).sum(0).softmax(1)
    averaged = (shares[:, None, None] * stack.softmax(2)).sum(0)
    for name, expected in {"mean_probability": averaged, "mean_logit": summed, "weighted": summed}.items():
        got = torch.from_numpy(COMBINE[name](logits, shares.numpy())).softmax(1)
        assert got.numpy() == pytest.approx(expected.numpy(), abs=1e-12)


def test_mean_probability_of_certain_members_that_disagree_is_a_half() -> None:
    logits = np.array([[[5000.0, 0, 0]], [[0, 5000.0, 0]]], np.float32)
    mixed = COMBINE["mean_probability"](logits, [0.5, 0.5])
    assert np.exp(mixed)[0] == pytest.approx([0.5, 0.5, 0])
    assert np.isfinite(mixed).all()


def test_weights_that_need_no_fit() -> None:
    logits = np.zeros((4, 0, 2), np.float32)
    assert fit_weights("mean_logit", logits, []).tolist() == [0.25] * 4
    assert fit_weights("mean_probability", logits, []).tolist() == [0.25] * 4
    assert fit_weights("weighted", logits, [], given=[1, 0, 0, 3]).tolist() == [0.25, 0, 0, 0.75]
    assert fit_weights("greedy", logits[:1], []).tolist() == [1]
    for combine in CHOSEN:
        with pytest.raises(ValueError, match=r"images|n >= 1"):
            fit_weights(combine, logits, [])


@pytest.mark.parametrize("given", [None, [1.0], [0.0, 0.0], [2.0, -1.0], [float("nan"), 1.0]])
def test_unusable_given_weights(given: list[float] | None) -> None:
    with pytest.raises(UserError, match=r"^ensemble\.weights: expected"):
        fit_weights("weighted", np.zeros((2, 1, 2)), [0], given=given)


def test_unknown_combination_names_the_nearest() -> None:
    with pytest.raises(UserError, match='did you mean "greedy"'):
        fit_weights("greedi", np.zeros((2, 1, 2)), [0])
    with pytest.raises(UserError, match='did you mean "vgg16"'):
        Ensemble.fit(["vgg16", "b"], "weighted", given={"vgg": 1})


def test_ensemble_fits_combines_and_comes_back_from_json() -> None:
    logits, labels = draw(3, 60, 4, 5)
    names = ["a", "b", "c"]
    for combine in CHOSEN:
        whole = Ensemble.fit(names, combine, logits, labels, rounds=7)
        assert whole.weights == tuple(fit_weights(combine, logits, labels, 7))
        assert whole.logits(logits).tolist() == COMBINE[combine](logits, whole.weights).tolist()
        assert Ensemble.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    assert fit_weights("caruana", logits, labels, 1).tolist() != fit_weights("caruana", logits, labels, 7).tolist()
    given = Ensemble.fit(names, "weighted", given={"c": 1, "a": 3})
    assert given.weights == (0.75, 0, 0.25)
    with pytest.raises(ValueError, match=r"expected logits \[3,N,C\]"):
        given.logits(logits[:2])


def test_files_of_earlier_versions_are_those_of_plain_greedy_selection() -> None:
    """They are also what a student's manifest names its teacher by, so they must come out as they were."""
    old = {"combine": "greedy", "weights": {"a": 0.25, "b": 0.75}}
    found = Ensemble.from_dict(old)
    assert found.combine == "caruana" and found.to_dict() == old
    new = Ensemble(("a", "b"), "greedy", (0.25, 0.75)).to_dict()
    assert new == old | {"shrunk": True} and Ensemble.from_dict(new).combine == "greedy"


def test_without_a_member() -> None:
    whole = Ensemble(("a", "b", "c"), "weighted", (0.5, 0.5, 0.0))
    assert whole.without("c") == Ensemble(("a", "b"), "weighted", (0.5, 0.5))
    assert whole.without("a") == Ensemble(("b", "c"), "weighted", (1.0, 0.0))
    assert Ensemble(("a", "b"), "weighted", (1.0, 0.0)).without("a") is None
    assert Ensemble(("a",), "greedy", (1.0,)).without("a") is None


@pytest.mark.parametrize(
    ("names", "weights"), [((), ()), (("a", "a"), (0.5, 0.5)), (("a",), (0.5,)), (("a", "b"), (2.0, -1.0))]
)
def test_ensembles_that_cannot_be(names: tuple[str, ...], weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected|names of their own"):
        Ensemble(names, "weighted", weights)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"combine": "greedy", "weights": [1.0]},
        {"combine": 3, "weights": {"a": 1.0}},
        {"combine": "greedy", "weights": {"a": "x"}},
        {"combine": "greedy", "weights": {"a": 0.4}},
        {"combine": "nothing", "weights": {"a": 1.0}},
        {"combine": "greedy", "weights": {"a": 1.0}, "more": 1},
        {"combine": "greedy", "weights": {"a": 1.0}, "shrunk": False},
        {"combine": "mean_logit", "weights": {"a": 1.0}, "shrunk": True},
    ],
)
def test_broken_dicts_are_a_users_mistake(data: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Ensemble.from_dict(data)


def test_plain_greedy_of_the_test_is_itself_right_on_all_bags() -> None:
    # The reference of these tests, against every bag of up to three picks that greedy could have taken.
    logits, labels = draw(3, 30, 3, 9)
    weights = [float(w) for w in plain_greedy(logits, labels, 3)]
    reached = int((np.tensordot(weights, logits.astype(float), 1).argmax(1) == labels).sum())
    bags = (logits[list(bag)].astype(float).sum(0) for k in (1, 2, 3) for bag in itertools.product(range(3), repeat=k))
    assert reached <= max(int((bag.argmax(1) == labels).sum()) for bag in bags)
