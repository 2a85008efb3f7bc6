"""The gap between held-out and other images: exact against SciPy, seldom where there is none, found where there is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact, permutation_test

from octavo.numbers.confusion import confusion
from octavo.numbers.gap import LEVEL, Gap, apart, gap_warning, permutation_p, share_gap
from octavo.numbers.grade_masks import mask_gap


def flags(hits: int, n: int) -> np.ndarray:
    return np.arange(n) < hits


@pytest.mark.parametrize(("held", "other"), [((40, 40), (30, 60)), ((19, 20), (40, 60)), ((5, 5), (2, 9))])
def test_shares_have_fishers_p(held: tuple[int, int], other: tuple[int, int]) -> None:
    found = share_gap(flags(*held), flags(*other))
    table = [[held[0], held[1] - held[0]], [other[0], other[1] - other[0]]]
    assert found.p == pytest.approx(fisher_exact(table).pvalue)  # type: ignore[attr-defined]
    assert (found.held, found.other) == (held[0] / held[1], other[0] / other[1])


def test_permutations_are_those_of_scipy() -> None:
    random = np.random.default_rng(3)
    held, other = random.normal(0.4, 1, 25), random.normal(0, 1, 35)
    both = np.concatenate([held, other])
    p = permutation_p(lambda weight: weight @ both / weight.sum(axis=1), len(held), np.arange(60))
    expected = permutation_test(
        (held, other), lambda a, b, axis: abs(a.mean(axis) - b.mean(axis)), vectorized=True, alternative="greater",
        n_resamples=20_000, rng=np.random.default_rng(1),
    )  # fmt: skip
    assert p == pytest.approx(expected.pvalue, abs=0.02)


def test_whole_groups_are_permuted() -> None:
    """Forty images of four patients on either side are four draws: no gap of theirs is beyond sampling."""
    held, other = flags(40, 40), flags(10, 40)
    groups = (np.arange(40) // 10, np.arange(40) // 10)
    assert share_gap(held, other).unexplained and not share_gap(held, other, groups).unexplained
    assert len(np.unique(apart(*groups))) == 8
    many = (np.arange(40), np.arange(40))
    assert share_gap(held, other, many).unexplained


def test_without_a_gap_it_is_seldom_told() -> None:
    """Epochs were chosen on the held-out images, the best of eight: still below 1 %."""
    random, told, trials = np.random.default_rng(0), 0, 1000
    for _ in range(trials):
        rate, n, m = random.uniform(0.5, 0.97), int(random.integers(10, 300)), int(random.integers(10, 300))
        skill = random.random(n)  # an image is right where its own draw says so; epochs change a fifth of these
        epochs = [np.where(random.random(n) < 0.2, random.random(n), skill) < rate for _ in range(8)]
        held = max(epochs, key=lambda right: right.sum())
        told += share_gap(held, random.random(m) < rate).unexplained
    assert told / trials <= 0.01


def masks(count: int, right: float, seed: int) -> np.ndarray:
    """Counts of images of three classes whose pixels are right with a probability of their own around `right`."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        truth = random.integers(0, 3, 400).astype(np.uint8)
        share = np.clip(random.normal(right, 0.15), 0, 1)
        found.append(confusion(np.where(random.random(400) < share, truth, (truth + 1) % 3).astype(np.uint8), truth, 3))
    return np.stack(found)


def test_masks_of_unseen_scenes_are_told_and_others_are_not() -> None:
    both, every = np.concatenate([masks(30, 0.8, 1), masks(40, 0.5, 2)]), np.ones(3, bool)
    found = mask_gap(both, 30, np.arange(70), every, "mmsegmentation")
    assert found.unexplained and found.held > found.other + 0.1
    said = gap_warning(found, "mIoU", 30, 40, "val")
    assert said and f"{found.held:.3f}" in said and f"{found.other:.3f}" in said and "`group`" in said
    assert "\n" not in said
    scenes = np.concatenate([np.arange(30) // 15, 2 + np.arange(40) // 20])  # of two scenes each: nobody can say
    assert not mask_gap(both, 30, scenes, every, "mmsegmentation").unexplained
    told = 0
    for seed in range(20):
        same = masks(24, 0.7, 100 + seed)
        told += mask_gap(same, 8, np.arange(24), every, "mmsegmentation").unexplained
    assert told == 0


def test_a_class_of_one_side_alone_is_told_by_pixels() -> None:
    both = np.concatenate([masks(20, 0.95, 1), masks(20, 0.3, 2)])
    both[:20, 2] = both[:20, :, 2] = 0  # held-out images without the third class
    found = mask_gap(both, 20, np.arange(40), np.array([True, True, True]), "course")
    assert found.unexplained and found.held > 0.8


def test_words_follow_the_direction_and_small_gaps_are_none() -> None:
    assert gap_warning(Gap(0.9, 0.7, 2 * LEVEL), "accuracy", 50, 60, "val") is None
    assert gap_warning(Gap(0.90, 0.89, 1e-9), "accuracy", 50_000, 60_000, "val") is None
    said = gap_warning(Gap(0.7, 0.9, 1e-5), "accuracy", 50, 1, "test")
    assert said and "0.700 on 50 held-out training images and 0.900 on the 1 image of test" in said
    assert "octavo check" in said and "p < 0.001" in said
