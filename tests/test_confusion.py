"""Confusions are those of scikit-learn, whatever the shape, and no strange value passes."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from octavo.numbers.confusion import IGNORE, confusion, confusions_of


def masks(seed: int, shape: tuple[int, ...], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a truth, about a tenth of each `IGNORE`."""
    random = np.random.default_rng(seed)
    both = random.integers(0, classes, (2, *shape)).astype(np.uint8)
    both[random.random((2, *shape)) < 0.1] = IGNORE
    return both[0], both[1]


@pytest.mark.parametrize("classes", [1, 2, 7, 150, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (33, 47), (2, 20, 30)])
def test_equals_scikit_learn(classes: int, shape: tuple[int, ...]) -> None:
    predicted, truth = masks(classes, shape, classes)
    expected = confusion_matrix(truth.ravel(), predicted.ravel(), labels=[*range(classes), IGNORE])
    got = confusion(predicted, truth, classes)
    assert got.dtype == np.int64 and got.shape == (classes + 1, classes + 1)
    np.testing.assert_array_equal(got, expected)


def test_more_pixels_than_are_counted_at_once() -> None:
    predicted, truth = masks(0, (1500, 1501), 3)
    expected = confusion_matrix(truth.ravel(), predicted.ravel(), labels=[0, 1, 2, IGNORE])
    np.testing.assert_array_equal(confusion(predicted, truth, 3), expected)


def test_views_count_like_copies() -> None:
    predicted, truth = masks(1, (40, 40), 4)
    np.testing.assert_array_equal(
        confusion(predicted[::2, ::-1], truth.T[::2, ::-1], 4),
        confusion(predicted[::2, ::-1].copy(), truth.T[::2, ::-1].copy(), 4),
    )


def test_no_pixels_give_zeros() -> None:
    assert confusion(np.zeros((0, 5), np.uint8), np.zeros((0, 5), np.uint8), 2).tolist() == [[0] * 3] * 3


@pytest.mark.parametrize("side", ["truth", "prediction"])
def test_a_value_that_is_no_class_is_refused(side: str) -> None:
    good, bad = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    bad[1, :2] = 7
    pair = (good, bad) if side == "truth" else (bad, good)
    with pytest.raises(ValueError, match=f"{side} holds 7 in 2 pixels; expected 0 to 6, or 255"):
        confusion(*pair, 7)
    with pytest.raises(ValueError, match=side):
        confusions_of(*(torch.from_numpy(x)[None] for x in pair), 7)


def test_shapes_and_types_are_held_to() -> None:
    plain = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match="shape"):
        confusion(plain, plain[:3], 2)
    with pytest.raises(ValueError, match="int64"):
        confusion(plain.astype(np.int64), plain, 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="shape"):
        confusions_of(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8), 2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("classes", [1, 7, 255])
def test_tensors_count_like_arrays(classes: int, dtype: torch.dtype) -> None:
    predicted, truth = masks(2, (3, 20, 31), classes)
    got = confusions_of(torch.from_numpy(predicted).to(dtype), torch.from_numpy(truth).to(dtype), classes)
    assert got.dtype == torch.int64
    for i in range(3):
        np.testing.assert_array_equal(got[i].numpy(), confusion(predicted[i], truth[i], classes))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_counts_the_same() -> None:
    predicted, truth = (torch.from_numpy(x) for x in masks(2, (3, 200, 310), 7))
    there = confusions_of(predicted.cuda(), truth.cuda(), 7)
    assert there.is_cuda
    assert torch.equal(there.cpu(), confusions_of(predicted, truth, 7))


def test_a_tile_takes_milliseconds() -> None:
    predicted, truth = masks(3, (512, 512), 7)
    took = []
    for _ in range(7):
        start = time.perf_counter()
        confusion(predicted, truth, 7)
        took.append(time.perf_counter() - start)
    print(f"512×512: {1000 * min(took):.2f} ms")
    assert min(took) < 0.05
