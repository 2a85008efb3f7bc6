"""Mixup and cutmix against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from octavo.data.mix import mix
from octavo.recipe import Augment

LABELS = torch.arange(8) % 5


def flat(size: int = 20) -> torch.Tensor:
    """Eight images, each of one value of its own, so that every output pixel names its sources."""
    return (torch.arange(8.0) / 8)[:, None, None, None].expand(8, 3, size, size).contiguous()


def test_without_either_nothing_changes() -> None:
    images = flat()
    out, targets = mix(images, LABELS, 5, Augment(), seed=0, step=0)
    assert torch.equal(out, images)
    assert torch.equal(targets, LABELS)


@pytest.mark.parametrize("augment", [Augment(mixup=0.4), Augment(cutmix=1.0), Augment(mixup=0.2, cutmix=1.0)])
def test_targets_have_the_shares_of_the_pixels(augment: Augment) -> None:
    labels = torch.arange(8)
    for step in range(20):
        images, targets = mix(flat(), labels, 8, augment, seed=0, step=step)
        assert targets.shape == (8, 8)
        assert targets.dtype == torch.float32
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(8))
        assert images.shape == (8, 3, 20, 20)
        torch.testing.assert_close(images.mean(dim=(1, 2, 3)), targets @ (torch.arange(8.0) / 8))


def test_mixup_is_the_blend_of_zhang() -> None:
    images = torch.rand((8, 3, 6, 6), generator=torch.Generator().manual_seed(0))
    out, targets = mix(images, torch.arange(8), 8, Augment(mixup=1.0), seed=3, step=2)
    expected = torch.einsum("bc,cijk->bijk", targets, images)
    torch.testing.assert_close(out, expected)


def test_cutmix_pastes_one_box() -> None:
    boxes = []
    for step in range(200):
        original = flat()
        out, targets = mix(original, torch.arange(8), 8, Augment(cutmix=1.0), seed=0, step=step)
        assert torch.equal(original, flat())
        changed = (out != original).any(dim=1)
        moved = changed.any(dim=(1, 2))
        if not moved.any():
            continue
        place = changed[moved][0]
        assert (changed[moved] == place).all()
        rows, columns = place.any(dim=1).nonzero()[:, 0], place.any(dim=0).nonzero()[:, 0]
        assert place.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert targets[moved].amin(dim=1).max() == 0
        boxes.append((float(rows.float().mean()), float(columns.float().mean()), float(place.sum())))
    assert len(set(boxes)) > 100
    assert np.abs(np.corrcoef(np.array(boxes).T)[np.triu_indices(3, 1)]).max() < 0.3


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    image = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 1, 1)
    shares = []
    for step in range(1500):
        _, targets = mix(image, torch.tensor([0, 1]), 2, Augment(mixup=alpha), seed=1, step=step)
        if targets[0, 0] != 1:  # the partner is the other one
            shares.append(float(targets[0, 0]))
    assert len(shares) > 600
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_cutmix_areas_follow_lambda() -> None:
    """Boxes in the middle of the image have the area 1-λ, so with α = 1 nothing but the border's cut changes them."""
    kept = []
    for step in range(500):
        _, targets = mix(flat(32), torch.arange(8), 8, Augment(cutmix=1.0), seed=0, step=step)
        kept.append(float(targets.amax(dim=1).max() if targets[0, 0] == 1 else targets[0, 0]))
    rng = np.random.default_rng(0)
    half = np.sqrt(1 - rng.random(100_000)) / 2
    wide, tall = (np.minimum(c + half, 1) - np.maximum(c - half, 0) for c in rng.random((2, 100_000)))
    moved = np.array(kept)[np.array(kept) < 1]
    assert moved.mean() == pytest.approx((1 - wide * tall).mean(), abs=0.04)


def test_both_are_taken_half_of_the_time() -> None:
    pasted = 0
    for step in range(400):
        out, _ = mix(flat(8), LABELS, 5, Augment(mixup=1.0, cutmix=1.0), seed=0, step=step)
        pasted += bool(torch.isin(out, flat(8)).all())
    assert 150 < pasted < 250


def test_the_key_decides() -> None:
    augment = Augment(mixup=1.0, cutmix=1.0)
    images = torch.rand((8, 3, 9, 9), generator=torch.Generator().manual_seed(0))
    first = mix(images, LABELS, 5, augment, seed=0, step=7)
    torch.manual_seed(123)
    again = mix(images, LABELS, 5, augment, seed=0, step=7)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    for seed, step in ((1, 7), (0, 8)):
        assert not torch.equal(mix(images, LABELS, 5, augment, seed=seed, step=step)[0], first[0])
