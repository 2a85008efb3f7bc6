"""Counts of confusions, their order and their top, against scikit-learn, SciPy and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import confusion_matrix

from octavo.numbers.confusions import Confused, confusion_counts, row_shares, similar_order, taken_for, top_confusions


def drawn(classes: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, n)
    return labels, np.where(draw.random(n) < 0.6, labels, draw.integers(0, classes, n))


def planted(groups: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of classes that are confused within their group alone, and the group of each class, shuffled."""
    draw = np.random.default_rng(seed)
    group = draw.permutation(np.repeat(np.arange(groups), size))
    same = group[:, None] == group
    counts = np.where(same, draw.integers(1, 9, same.shape), 0)
    np.fill_diagonal(counts, 40)
    return counts, group


@pytest.mark.parametrize(("classes", "n"), [(2, 1), (7, 300), (50, 2500)])
def test_counts_are_scikit_learns(classes: int, n: int) -> None:
    labels, predicted = drawn(classes, n)
    expected = confusion_matrix(labels, predicted, labels=range(classes))
    np.testing.assert_array_equal(confusion_counts(labels, predicted, classes), expected)
    if (expected.sum(1) > 0).all():
        shares = confusion_matrix(labels, predicted, normalize="true")
        np.testing.assert_allclose(row_shares(expected), shares)


def test_ids_that_are_no_class_are_refused() -> None:
    with pytest.raises(ValueError, match="expected class ids 0 to 2, got 0 to 3"):
        confusion_counts(np.array([0, 1]), np.array([0, 3]), 3)
    with pytest.raises(ValueError, match="got -1 to 1"):
        confusion_counts(np.array([0, 1]), np.array([0, -1]), 3)


def test_rows_without_images_stay_zero() -> None:
    np.testing.assert_array_equal(row_shares(np.array([[0, 0], [1, 3]])), [[0, 0], [0.25, 0.75]])


@pytest.mark.parametrize("seed", range(5))
def test_classes_of_a_planted_group_stand_side_by_side(seed: int) -> None:
    counts, group = planted(groups=8, size=5, seed=seed)
    order = similar_order(counts)
    assert sorted(order) == list(range(40)) and order.dtype == np.int64
    assert np.count_nonzero(np.diff(group[order])) == 7  # a change from group to group, and none within
    assert order[0] < order[-1]
    assert np.count_nonzero(np.diff(group)) > 20  # which the ids are not


def test_neighbours_are_nearer_than_in_the_plain_tree_and_in_the_order_of_ids() -> None:
    labels, predicted = drawn(30, 1500, seed=3)
    counts = confusion_counts(labels, predicted, 30)
    shares = counts / counts.sum(1, keepdims=True)
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)

    def length(order: np.ndarray) -> float:
        return float(distance[order[:-1], order[1:]].sum())

    plain = leaves_list(linkage(squareform(distance), "average"))
    assert length(similar_order(counts)) < length(plain) < length(np.arange(30))


def test_the_order_is_that_of_the_classes_not_of_their_ids() -> None:
    labels, predicted = drawn(12, 900, seed=5)
    counts = confusion_counts(labels, predicted, 12)
    shuffled = np.random.default_rng(0).permutation(12)
    first = similar_order(counts).tolist()
    again = shuffled[similar_order(counts[np.ix_(shuffled, shuffled)])].tolist()
    assert again in (first, first[::-1])


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_few_classes_and_empty_rows_have_an_order(classes: int) -> None:
    assert sorted(similar_order(np.zeros((classes, classes), np.int64))) == list(range(classes))


def test_top_confusions_are_those_of_a_loop() -> None:
    labels, predicted = drawn(9, 400, seed=1)
    counts = confusion_counts(labels, predicted, 9)
    every = [
        (-int(((labels == i) & (predicted == j)).sum()), -float((predicted[labels == i] == j).mean()), i, j)
        for i in range(9)
        for j in range(9)
        if i != j
    ]
    expected = [Confused(i, j, -count, pytest.approx(-share)) for count, share, i, j in sorted(every)[:15]]
    assert list(top_confusions(counts)) == expected
    assert len(top_confusions(counts, 4)) == 4


def test_of_equal_counts_the_higher_share_comes_first() -> None:
    counts = np.array([[90, 5, 0], [5, 5, 0], [0, 1, 9]])
    found = top_confusions(counts)
    assert [(pair.true, pair.predicted, pair.count) for pair in found] == [(1, 0, 5), (0, 1, 5), (2, 1, 1)]
    assert [pair.share for pair in found] == [0.5, 5 / 95, 0.1]


def test_without_mistakes_nothing_is_listed() -> None:
    assert top_confusions(np.diag([3, 0, 2])) == ()
    assert taken_for(np.diag([3, 0, 2])) == (None, None, None)


def test_a_class_is_most_often_taken_for_another() -> None:
    counts = np.array([[9, 2, 3], [4, 0, 4], [0, 0, 7]])
    before = counts.copy()
    assert taken_for(counts) == ((2, 3), (0, 4), None)
    np.testing.assert_array_equal(counts, before)
