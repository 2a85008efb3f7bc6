"""Pixels counted by true and predicted class: one small table an image, which every rule of the mIoU starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = 255
"""Value of a pixel without a class."""
_PART = 1 << 20  # pixels counted at once: np.bincount makes eight bytes of each


def confusion(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Return the pixels by true class (row) and predicted class (column) as int64 [C+1,C+1].

    Row C are pixels whose truth is `IGNORE`, column C those for which no class (`IGNORE`) was predicted.

    Args:
        predicted: uint8 of any shape; channel indices 0..C-1, or `IGNORE`.
        truth: uint8 of the same shape; the same.
        classes: C, 1 to 255.

    Raises:
        ValueError: shapes or types that differ from this, or a value that is neither a class nor `IGNORE`.
    """
    if predicted.shape != truth.shape or predicted.dtype != np.uint8 or truth.dtype != np.uint8:
        raise ValueError(
            f"expected two uint8 arrays of one shape, got {predicted.dtype} {predicted.shape} and "
            f"{truth.dtype} {truth.shape}"
        )
    rows, columns = truth.reshape(-1), predicted.reshape(-1)
    table = np.zeros(1 << 16, np.int64)
    for start in range(0, rows.size, _PART):
        part = slice(start, start + _PART)
        table += np.bincount((rows[part].astype(np.uint16) << 8) | columns[part], minlength=1 << 16)
    table = table.reshape(256, 256)
    # All 256 values are counted, so that one that is no class can't hide in another's place.
    for name, counts in (("truth", table.sum(axis=1)), ("prediction", table.sum(axis=0))):
        if (strange := np.flatnonzero(counts[classes:IGNORE])).size:
            value = classes + int(strange[0])
            raise ValueError(
                f"{name} holds {value} in {counts[value]} pixels; expected 0 to {classes - 1}, or {IGNORE}"
            )
    kept = [*range(classes), IGNORE]
    return table[np.ix_(kept, kept)]


def confusions_of(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Return `confusion` of each image of a batch, int64 [B,C+1,C+1], counted where the tensors are.

    Args:
        predicted: uint8 or int64 [B,…]; channel indices 0..C-1, or `IGNORE`.
        truth: uint8 or int64 [B,…], the same shape.
        classes: C.

    Raises:
        ValueError: shapes that differ, or a value that is neither a class nor `IGNORE`.
    """
    if predicted.shape != truth.shape or truth.is_floating_point() or predicted.is_floating_point():
        raise ValueError(f"expected two whole-number tensors of one shape, got {predicted.shape} and {truth.shape}")
    images, side = len(truth), classes + 1
    if truth.device.type == "mps":  # counting is slow there, and the memory is shared anyway
        predicted, truth = predicted.cpu(), truth.cpu()
    indices = []
    for name, values in (("truth", truth), ("prediction", predicted)):
        values = values.reshape(images, -1).long()
        if bool((((values < 0) | (values >= classes)) & (values != IGNORE)).any()):
            raise ValueError(f"{name} holds a value that is neither 0 to {classes - 1} nor {IGNORE}")
        indices.append(values.clamp(max=classes))
    index = indices[0] * side + indices[1]
    index += (index.new_ones(images).cumsum(0) - 1)[:, None] * side * side
    return index.reshape(-1).bincount(minlength=images * side * side).reshape(images, side, side)
