"""From a stored batch to what a network sees, in the order: view, colour, normalisation, mixing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from octavo.data.batches import Batch
from octavo.data.inputs import Inputs
from octavo.recipe import Augment

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
FLIP = Augment(hflip=0.5, rotation=20, brightness=(0.5, 1.5))


def batch(epoch: int = 0, step: int = 0, indices: tuple[int, ...] = (4, 9, 2, 7)) -> Batch:
    pixels = np.stack([np.random.default_rng(i).integers(0, 256, (3, 16, 16), dtype=np.uint8) for i in indices])
    sizes, labels = np.full((len(indices), 2), 16), torch.tensor(indices) % 3
    return Batch(torch.from_numpy(pixels), sizes, labels, np.array(indices), epoch, step)


def inputs(augment: Augment = Augment(), seed: int = 0) -> Inputs:  # noqa: B008 (frozen)
    return Inputs(16, "crop", MEAN, STD, augment, seed, 3)


def test_plain_is_the_image_normalised() -> None:
    found = inputs(FLIP).plain(batch())
    expected = (batch().inputs / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    torch.testing.assert_close(found, expected)
    assert found.dtype == torch.float32


def test_training_without_augmentation_is_plain() -> None:
    x, y = inputs().training(batch())
    assert torch.equal(x, inputs().plain(batch()))
    assert torch.equal(y, batch().labels)


def test_augmentation_is_a_function_of_seed_epoch_and_image_alone() -> None:
    x = inputs(FLIP).training(batch(step=0))[0]
    other = inputs(FLIP).training(batch(step=5, indices=(7, 4, 30)))[0]
    assert torch.equal(x[0], other[1])
    assert torch.equal(x[3], other[0])
    for changed in (inputs(FLIP).training(batch(epoch=1))[0], inputs(FLIP, seed=1).training(batch())[0]):
        assert all(not torch.equal(a, b) for a, b in zip(x, changed, strict=True))


def test_a_view_can_be_asked_for_by_epoch() -> None:
    assert torch.equal(inputs(FLIP).augmented(batch(epoch=-1), 3), inputs(FLIP).augmented(batch(epoch=3)))


@pytest.mark.parametrize("augment", [Augment(mixup=1.0), Augment(cutmix=1.0)])
def test_mixing_is_a_function_of_seed_epoch_and_step(augment: Augment) -> None:
    x, y = inputs(augment).training(batch())
    again = inputs(augment).training(batch())
    assert torch.equal(x, again[0])
    assert torch.equal(y, again[1])
    assert y.shape == (4, 3)
    for changed in (batch(step=1), batch(epoch=1)):
        assert not torch.equal(x, inputs(augment).training(changed)[0])


def test_the_memory_format_changes_no_number() -> None:
    last = replace(inputs(FLIP), channels_last=True).training(batch())[0]
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, inputs(FLIP).training(batch())[0])
