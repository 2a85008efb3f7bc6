"""How each image's mask came out by itself: what images are ranked by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octavo.numbers.averages import Confusions, Doubles, masked, over_present, ratio


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Numbers of n images.

    Attributes:
        accuracy: float64 [n], share of the pixels with a truth that are right; not a number where there are none.
        miou: float64 [n], mean IoU over the classes that occur in the image's truth or prediction; likewise.
        pixels: int64 [n], pixels with a truth.
    """

    accuracy: Doubles
    miou: Doubles
    pixels: NDArray[np.int64]

    @property
    def order(self) -> NDArray[np.int64]:
        """Places of the images that have a pixel with a truth, by accuracy from the worst; equals by their mIoU."""
        known = np.flatnonzero(self.pixels)
        return known[np.lexsort((self.miou[known], self.accuracy[known]))]


@dataclass(frozen=True)
class WrongPair:
    """What pixels of one class were most often taken for in an image.

    Attributes:
        truth: the true class.
        predicted: the class they were taken for; C for none.
        pixels: how many.
    """

    truth: int
    predicted: int
    pixels: int


def image_scores(confusions: Confusions) -> ImageScores:
    """Return the numbers of each image from its confusion, int64 [n,C+1,C+1] (see `confusion`).

    Pixels without a truth are left out.
    """
    counts = masked(confusions)
    pixels = confusions[:, :-1].sum(axis=(1, 2))
    accuracy = ratio(counts.hits.sum(axis=1), pixels.astype(np.float64))
    none = np.ones(counts.hits.shape[1], bool)
    return ImageScores(accuracy, over_present(counts, none).value, pixels)


def commonest_wrong(confusion: NDArray[np.int64]) -> WrongPair | None:
    """Return the commonest wrong pair of one image's confusion int64 [C+1,C+1]; None where every pixel is right."""
    wrong = confusion[:-1].copy()
    np.fill_diagonal(wrong, 0)
    truth, predicted = np.unravel_index(int(wrong.argmax()), wrong.shape)
    pixels = int(wrong[truth, predicted])
    return WrongPair(int(truth), int(predicted), pixels) if pixels else None


def spread(order: NDArray[np.int64], each: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return `each` of the first, of the middle and of the last of a ranking, no place twice.

    Where there are fewer than three times as many, the parts are as even as they can be.
    """
    if len(order) <= 3 * each:
        first, middle, last = np.array_split(order, 3)
        return first, middle, last
    start = (len(order) - each) // 2
    return order[:each], order[start : start + each], order[-each:]
