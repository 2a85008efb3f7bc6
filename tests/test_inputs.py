"""From a stored batch to what a network sees, in the order: view, colour, normalisation, mixing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from octavo.data.batches import Batch
from octavo.data.classes import IGNORE
from octavo.data.inputs import Inputs, SceneInputs
from octavo.recipe import Augment, SegmentAugment

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


# images and masks

SCENES = [(20, 30), (20, 30), (20, 30), (14, 40)]
MOVED = SegmentAugment(hflip=0.5, scale=(0.8, 1.5), rotation=20, brightness=(0.5, 1.5))


def scenes(indices: tuple[int, ...] = (0, 2, 1), epoch: int = 0, factor: int = 1) -> Batch:
    """Images of noise and masks, `factor` times as large, that tell for each pixel whether its red is above 127."""
    images = {i: np.random.default_rng(i).integers(0, 256, (3, *SCENES[i]), dtype=np.uint8) for i in indices}
    sizes = np.array([SCENES[i] for i in indices])
    pixels = np.zeros((len(indices), 3, *sizes.max(0)), np.uint8)
    masks = np.full((len(indices), *(sizes.max(0) * factor)), IGNORE, np.uint8)
    for place, index in enumerate(indices):
        height, width = SCENES[index]
        pixels[place, :, :height, :width] = images[index]
        masks[place, : height * factor, : width * factor] = np.kron(images[index][0] > 127, np.ones((factor, factor)))
    return Batch(torch.from_numpy(pixels), sizes, torch.from_numpy(masks), np.array(indices), epoch, 0)


def scene_inputs(
    augment: SegmentAugment = SegmentAugment(),  # noqa: B008 (frozen)  # noqa: B008 (frozen)
    size: tuple[int, int] = (20, 30),
    factor: int = 1,
    seed: int = 0,
) -> SceneInputs:
    return SceneInputs(size, MEAN, STD, augment, seed, np.array(SCENES) * factor)


def test_whole_scenes_are_their_pixels_normalised() -> None:
    found = scene_inputs(MOVED, (8, 8)).plain(scenes())
    expected = (scenes().inputs / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    torch.testing.assert_close(found, expected)


def test_whole_scenes_of_several_sizes_are_no_batch() -> None:
    with pytest.raises(ValueError, match="several sizes"):
        scene_inputs().plain(scenes((0, 3)))
    assert scene_inputs().plain(scenes((3,))).shape == (1, 3, 14, 40)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_crops_and_masks_show_the_same_place(factor: int) -> None:
    """Crops of whole pixels of noise: the mask says of every one whether its red is above 127."""
    x, y = scene_inputs(SegmentAugment(hflip=0.5, vflip=0.5), (9, 12), factor).training(scenes(factor=factor))
    assert x.shape == (3, 3, 9, 12) and y.shape == (3, 9, 12) and y.dtype == torch.int64
    red = (x[:, 0] * STD[0] + MEAN[0]) * 255
    assert torch.equal(y, (red > 127.5).long())
    assert 0.2 < y.float().mean() < 0.8


def test_scenes_smaller_than_the_crop_have_ignored_pixels_around_them() -> None:
    x, y = scene_inputs(size=(32, 48)).training(scenes())
    outside = y == IGNORE
    assert outside.sum() == 3 * (32 * 48 - 20 * 30)
    black = -torch.tensor(MEAN) / torch.tensor(STD)
    torch.testing.assert_close(x.permute(0, 2, 3, 1)[outside], black.expand(int(outside.sum()), 3))


def test_views_of_scenes_are_a_function_of_seed_epoch_and_image() -> None:
    x, y = scene_inputs(MOVED).training(scenes((0, 2, 1)))
    other, masks = scene_inputs(MOVED).training(scenes((1, 3, 0)))
    for here, there in ((0, 2), (2, 0)):
        torch.testing.assert_close(x[here], other[there], rtol=0, atol=1e-3)  # places are rounded by the canvas's size
        assert torch.equal(y[here], masks[there])
    for changed in (scene_inputs(MOVED).training(scenes(epoch=1)), scene_inputs(MOVED, seed=1).training(scenes())):
        assert not torch.equal(x, changed[0])


def test_the_memory_format_of_scenes_changes_no_number() -> None:
    last, masks = replace(scene_inputs(MOVED), channels_last=True).training(scenes())
    assert last.is_contiguous(memory_format=torch.channels_last)
    x, y = scene_inputs(MOVED).training(scenes())
    assert torch.equal(last, x) and torch.equal(masks, y)
