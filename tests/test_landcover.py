"""The demo's synthetic land cover: the same every time, every class in it, and more than a matter of colour."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.metrics import jaccard_score

from octavo.data.classes import load_table
from octavo.verbs.landcover import SIDE, UNKNOWN, tile

Tiles = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def tiles() -> Tiles:
    return [tile(i) for i in range(48)]


def test_a_tile_is_its_numbers(tiles: Tiles) -> None:
    for again, once in zip(tile(7), tiles[7], strict=True):
        np.testing.assert_array_equal(again, once)
    assert len({ids.tobytes() for _, ids in tiles}) == len(tiles)
    image, ids = tile(3, 40)
    assert image.shape == (40, 40, 3) and ids.shape == (40, 40)


def test_all_classes_of_the_course_occur(tiles: Tiles) -> None:
    names = load_table("course").names
    assert names[UNKNOWN] == "unknown" and len(names) == UNKNOWN + 1
    share = np.bincount(np.concatenate([ids.ravel() for _, ids in tiles]), minlength=7) / (len(tiles) * SIDE**2)
    assert len(share) == 7 and share[:UNKNOWN].min() > 0.04 and share.max() < 0.4 and 0 < share[UNKNOWN] < 0.05
    assert all(image.dtype == ids.dtype == np.uint8 for image, ids in tiles)
    assert np.mean([len(np.unique(ids)) >= 2 for _, ids in tiles]) > 0.9


def _miou_of_pixels(tiles: Tiles, spread: int) -> float:
    """Return the mIoU, on the last third, of normal distributions per class of the colours (mean and deviation in
    `spread` × `spread` pixels; 1: the colour itself)."""
    rows, truth = [], []
    for image, ids in tiles:
        colour = image.astype(float)
        mean = uniform_filter(colour, (spread, spread, 0))
        deviation = np.sqrt(np.maximum(uniform_filter(colour**2, (spread, spread, 0)) - mean**2, 0))
        features = mean if spread == 1 else np.concatenate([mean, deviation], 2)
        rows.append(features[::5, ::5].reshape(-1, features.shape[2]))
        truth.append(ids[::5, ::5].ravel())
    cut = len(tiles) * 2 // 3
    known = np.concatenate(truth[:cut]) != UNKNOWN
    model = QuadraticDiscriminantAnalysis(reg_param=1e-3)
    model.fit(np.concatenate(rows[:cut])[known], np.concatenate(truth[:cut])[known])
    guess = model.predict(np.concatenate(rows[cut:]))
    return float(jaccard_score(np.concatenate(truth[cut:]), guess, labels=range(UNKNOWN), average="macro"))


def test_colour_alone_does_not_tell_the_classes(tiles: Tiles) -> None:
    colour, texture = _miou_of_pixels(tiles, 1), _miou_of_pixels(tiles, 9)
    assert 0.15 < colour < 0.45
    assert texture > colour + 0.05
