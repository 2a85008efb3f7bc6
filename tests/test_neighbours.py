"""Neighbourhoods on geometry that is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import procrustes
from scipy.spatial.distance import cdist
from sklearn.manifold import trustworthiness

from octavo.numbers.neighbours import disparity, in_common, mean_share, nearest, neighbourhoods, trusted

DRAW = np.random.default_rng(4)
SIDE, EACH = 12, 30
SCATTERED, PAIR = (3, 8), (5, 10)


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Twelve classes of thirty: tight groups far apart, but two lie all over and two lie in one place."""
    draw = np.random.default_rng(1)
    labels = np.repeat(np.arange(SIDE), EACH)
    middles = draw.normal(size=(SIDE, 20)) * 10
    middles[PAIR[1]] = middles[PAIR[0]]
    points = middles[labels] + draw.normal(size=(len(labels), 20))
    for c in SCATTERED:  # each image among those of another class
        points[labels == c] = middles[draw.permutation(EACH) % SIDE] + draw.normal(size=(EACH, 20))
    return points, labels


def brute(points: np.ndarray, labels: np.ndarray, k: int, classes: int) -> np.ndarray:
    """Share of neighbours by class of image and neighbour, one pair at a time."""
    away = cdist(points, points)
    np.fill_diagonal(away, np.inf)
    table = np.zeros((classes, classes))
    for i, row in enumerate(away):
        for j in np.argsort(row)[:k]:
            table[labels[i], labels[j]] += 1
    return table / table.sum(1, keepdims=True)


def test_planted_classes_are_found(planted: tuple[np.ndarray, np.ndarray]) -> None:
    points, labels = planted
    lie = neighbourhoods(nearest(points), labels, SIDE)
    assert set(lie.scattered(2)) == set(SCATTERED) and lie.overlapping(1) == [PAIR]
    assert set(lie.scattered(4)) == {*SCATTERED, *PAIR}
    assert lie.overlap[PAIR] > 0.3 and lie.overlap[0, 1] < 0.05
    assert len(lie.scattered()) == 10 and len(lie.scattered(50)) == SIDE
    np.testing.assert_allclose(lie.crossing, brute(points, labels, 10, SIDE))
    np.testing.assert_array_equal(lie.overlap, lie.overlap.T)
    assert np.isnan(lie.overlap.diagonal()).all()
    np.testing.assert_array_equal(lie.purity, lie.crossing.diagonal())


def test_classes_far_apart_are_pure_whatever_their_size() -> None:
    labels = np.array([0] * 4 + [1] * 30 + [2])
    points = labels[:, None] * 100 + DRAW.normal(size=(35, 3))
    lie = neighbourhoods(nearest(points), labels, 5)
    np.testing.assert_array_equal(lie.purity, [1, 1, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(lie.counts, [4, 30, 1, 0, 0])
    assert lie.scattered() == [0, 1] and lie.overlapping() == []
    np.testing.assert_allclose(lie.chance, [3 / 34, 29 / 34, np.nan, np.nan, np.nan])


def test_images_in_no_order_have_the_purity_of_chance() -> None:
    labels = DRAW.integers(0, 3, 3000)
    lie = neighbourhoods(nearest(DRAW.normal(size=(3000, 2))), labels, 3)
    np.testing.assert_allclose(lie.purity, lie.chance, atol=0.03)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_fewer_points_than_neighbours(count: int) -> None:
    points = np.arange(count, dtype=float)[:, None] ** 2
    near = nearest(points, 10)
    assert near.shape == (count, max(count - 1, 0)) and near.dtype == np.int64
    assert all(i not in row for i, row in enumerate(near.tolist()))
    lie = neighbourhoods(near, np.zeros(count, np.int64), 2)
    assert lie.k == max(count - 1, 0)
    np.testing.assert_array_equal(lie.purity, [1 if count > 1 else np.nan, np.nan])


def test_an_image_is_not_its_own_neighbour_where_others_lie_on_it() -> None:
    near = nearest(np.zeros((20, 3)), 5)
    assert all(i not in row and len(set(row)) == 5 for i, row in enumerate(near.tolist()))


def test_trustworthiness_is_scikit_learns_and_k_is_lowered_to_where_it_is_defined() -> None:
    points, plane = DRAW.normal(size=(60, 5)), DRAW.normal(size=(60, 2))
    assert trusted(points, plane) == (trustworthiness(points, plane, n_neighbors=10), 10)
    assert trusted(points[:, :2], points[:, :2] * 3 + 1) == (1, 10)
    assert trusted(points[:11], plane[:11])[1] == 5
    assert trusted(points[:3], plane[:3])[1] == 1
    value, k = trusted(points[:2], plane[:2])
    assert np.isnan(value) and k == 0


def test_classes_without_a_share_are_left_out_of_the_mean() -> None:
    assert mean_share(np.array([0.25, np.nan, 0.75])) == 0.5 and np.isnan(mean_share(np.array([np.nan])))


def test_neighbours_in_common() -> None:
    first, second = np.array([[1, 2, 3], [0, 2, 3]]), np.array([[3, 9, 1], [7, 8, 9]])
    assert in_common(first, first[:, ::-1]) == 1 and in_common(first, second) == 2 / 6
    assert np.isnan(in_common(first[:, :0], first[:, :0]))
    a, b = nearest(DRAW.normal(size=(200, 2))), nearest(DRAW.normal(size=(200, 2)))
    assert in_common(a, b) == np.mean([len(set(x) & set(y)) / 10 for x, y in zip(a.tolist(), b.tolist(), strict=True)])


def test_disparity_takes_no_account_of_place_turn_mirror_and_size() -> None:
    plane = DRAW.normal(size=(40, 2)).astype(np.float32)
    turned = plane @ np.array([[0, 1], [1, 0]]) * 7 + 3
    other = DRAW.normal(size=(40, 2))
    assert disparity(plane, turned) < 1e-6
    assert (
        disparity(plane, other) == pytest.approx(procrustes(plane.astype(float), other)[2])
        and disparity(plane, other) > 0.5
    )
    assert np.isnan(disparity(plane, np.zeros((40, 2))))
