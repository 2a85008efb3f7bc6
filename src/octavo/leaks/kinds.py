"""Kinds of near-duplicates: what was done to a picture that another image shows as well."""

from __future__ import annotations

import numpy as np
from PIL import Image

_WHOLE = 0.955  # share of both areas from which two images show the same piece
_INSIDE = 0.93  # share of its area from which an image lies inside the other
_COLOUR, _CONTRAST = 3.0, 0.04  # grey levels of a channel's mean; relative change of the deviation
_CELLS, _LEAST = 16, 1.0  # cells a side of which colours are compared; least change of the deviation in grey levels


def kind_of(
    first: np.ndarray, second: np.ndarray, flips: int, scale: tuple[float, float], shift: tuple[float, float]
) -> str:
    """Return the kind of a pair, a key of `KINDS`, from how the second lies over the mirrored first.

    Args:
        first: uint8 [3,H,W].
        second: uint8 [3,H',W'].
        flips: as `Frame.flips`.
        scale: as `Fits.scale`, along x and y.
        shift: as `Fits.shift`.
    """
    if flips:
        return "flipped"
    seen = [min(1.0, s + t) - max(0.0, t) for s, t in zip(scale, shift, strict=True)]  # of the first, along x and y
    of_first = seen[0] * seen[1]
    of_second = of_first / (scale[0] * scale[1])
    if min(of_first, of_second) < _WHOLE:
        return "cropped" if max(of_first, of_second) >= _INSIDE else "overlapping"
    if first.shape != second.shape:
        return "resized"
    means, deviations = zip(*(_colour(image) for image in (first, second)), strict=True)
    other = np.abs(means[0] - means[1]).max() > _COLOUR
    change = abs(deviations[0] - deviations[1])
    return "recoloured" if other or change > max(_CONTRAST * max(deviations), _LEAST) else "recompressed"


def _colour(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Return each channel's mean, float [3], and their mean deviation, of coarse cells: they don't change by a blur."""
    planes = np.ascontiguousarray(image)
    whole = Image.merge("RGB", [Image.fromarray(plane) for plane in planes])
    cells = np.asarray(whole.resize((_CELLS, _CELLS), Image.Resampling.BOX), np.float64).reshape(-1, 3)
    return cells.mean(0), float(cells.std(0).mean())
