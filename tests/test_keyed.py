"""Randomness by key: uniform, independent, and the same whatever is drawn beside it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from octavo.keyed import permutation, seed_of, uniform

INDICES = np.arange(20_000)


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1, 0), (0, 1), (2**32 - 1, 119), (-5, 3)])
def test_uniform_numbers_are_uniform(seed: int, epoch: int) -> None:
    numbers = uniform(seed, epoch, INDICES, n=3)
    assert numbers.shape == (20_000, 3)
    assert numbers.dtype == np.float64
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert numbers.mean() == pytest.approx(0.5, abs=0.005)
    assert numbers.var() == pytest.approx(1 / 12, abs=0.001)
    for column in numbers.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_neighbours_are_not_correlated() -> None:
    numbers = uniform(0, 0, INDICES, n=2)
    others = {
        "next image": np.roll(numbers, 1, axis=0),
        "next number": numbers[:, ::-1],
        "next epoch": uniform(0, 1, INDICES, n=2),
        "next seed": uniform(1, 0, INDICES, n=2),
        "keys swapped": uniform(0, INDICES, 0, n=2),
        "another key": uniform(0, 0, INDICES, 1, n=2),
    }
    for name, other in others.items():
        assert abs(np.corrcoef(numbers[:, 0], other[:, 0])[0, 1]) < 0.025, name


def test_pairs_fill_the_square_evenly() -> None:
    cells = (uniform(7, 0, INDICES, n=2) * 10).astype(int)
    counts = np.bincount(cells[:, 0] * 10 + cells[:, 1], minlength=100)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_numbers_do_not_depend_on_the_batch() -> None:
    whole = uniform(3, 5, INDICES[:100], n=4)
    shuffled = np.random.default_rng(0).permutation(100)
    assert np.array_equal(uniform(3, 5, shuffled, n=4), whole[shuffled])
    assert np.array_equal(np.stack([uniform(3, 5, i, n=4) for i in range(100)]), whole)
    assert np.array_equal(uniform(3, 5, INDICES[:100].astype(np.int32), n=4), whole)
    assert np.array_equal(uniform(3, 5, INDICES[:100], n=2), whole[:, :2])


def test_keys_broadcast() -> None:
    numbers = uniform(0, np.arange(3)[:, None], np.arange(4), n=2)
    assert numbers.shape == (3, 4, 2)
    assert np.array_equal(numbers[2, 1], uniform(0, 2, 1, n=2))


def test_permutation_is_one_and_changes_with_every_key() -> None:
    order = permutation(1000, seed=0, epoch=0)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert np.array_equal(order, permutation(1000, seed=0, epoch=0))
    draws = uniform(0, 0, np.arange(1000), n=1)[:, 0]
    for other in (
        np.arange(1000), draws.argsort(), permutation(1000, seed=1, epoch=0), permutation(1000, seed=0, epoch=1)
    ):  # fmt: skip
        assert abs(np.corrcoef(order, other)[0, 1]) < 0.12
    assert permutation(0, seed=0, epoch=0).shape == (0,)


def test_every_order_is_as_likely() -> None:
    orders = np.stack([permutation(3, seed=4, epoch=epoch) for epoch in range(3000)])
    counts = np.unique(orders @ [100, 10, 1], return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def test_seed_of_tells_its_parts_apart() -> None:
    parts = [(0,), (1,), ("0",), (0, 0), ("a", "b"), ("ab",), ("a", "b", ""), ("vgg16", 0), (0, "vgg16"), ("vgg16", 1)]
    seeds = [seed_of(*p) for p in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seed_of_is_the_same_in_another_process() -> None:
    code = "from octavo.keyed import seed_of; print(seed_of('vgg16', 3))"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(fresh.stdout) == seed_of("vgg16", 3)
