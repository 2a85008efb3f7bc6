"""Batches that memory doesn't bear."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.data.batches import Batch
from octavo.engine.infer import Parts, in_parts, outputs
from octavo.engine.restore import batch_of
from octavo.errors import UserError


def images(count: int) -> Batch:
    draw = np.random.default_rng(0)
    return batch_of([draw.integers(0, 256, (4 + i % 3, 5, 3), np.uint8) for i in range(count)])


def means(batch: Batch) -> np.ndarray:
    return batch.inputs.float().mean(dim=(2, 3)).numpy()


class Small:
    """What fails, as the CPU's allocator does, with more than `most` images at once."""

    def __init__(self, most: int) -> None:
        self.most, self.seen = most, list[int]()

    def __call__(self, batch: Batch) -> np.ndarray:
        self.seen.append(len(batch.indices))
        torch.empty(2**60 if len(batch.indices) > self.most else 1)
        return means(batch)


def test_a_batch_is_halved_until_it_fits_and_what_fitted_is_kept() -> None:
    batch, small, parts = images(11), Small(3), Parts()
    np.testing.assert_array_equal(parts(small, batch), means(batch))
    assert small.seen == [11, 6, 3, 3, 3, 2]
    np.testing.assert_array_equal(parts(small, images(7)), means(images(7)))
    assert small.seen[6:] == [3, 3, 1]


def test_what_fits_is_computed_once_and_whole() -> None:
    small = Small(11)
    Parts()(small, images(11))
    assert small.seen == [11]


def test_one_image_too_many_is_told() -> None:
    with pytest.raises(UserError, match="out of memory with one image at a time"):
        Parts()(Small(0), images(3))


def test_other_faults_are_not_hidden() -> None:
    def broken(batch: Batch) -> np.ndarray:
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        Parts()(broken, images(3))


def test_outputs_fit_too() -> None:
    def net(x: torch.Tensor) -> torch.Tensor:
        torch.empty(2**60 if len(x) > 2 else 1)
        return x.mean(dim=(2, 3))

    found = outputs(net, lambda batch: batch.inputs.float(), [images(5), images(4)], torch.device("cpu"))
    np.testing.assert_allclose(found, np.concatenate([means(images(5)), means(images(4))]), rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((64, 3, 40, 40), [64]),
        ((130, 3, 40, 40), [44, 44, 42]),
        ((64, 3, 224, 224), [8] * 8),
        ((20, 3, 224, 224), [7, 7, 6]),
        ((3, 3, 1000, 1000), [1, 1, 1]),
        ((64, 3, 128, 128), [22, 22, 20]),
        ((150, 7), [64, 64, 22]),
    ],
)
def test_large_images_go_through_a_network_on_a_cpu_in_smaller_parts(shape: tuple[int, ...], seen: list[int]) -> None:
    given: list[int] = []

    def part(x: Tensor) -> Tensor:
        given.append(len(x))
        return x.flatten(1).sum(1)

    x = torch.arange(shape[0], dtype=torch.float32).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
    found = in_parts(part, x)
    assert given == seen and found.tolist() == (torch.arange(shape[0]) * x[0].numel()).tolist()
