"""Kinds of near-duplicates by the files themselves, where smaller decoded copies of them were searched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from octavo.data.decoding import Files
from octavo.data.pixels import BrokenImage, decode, probe
from octavo.leaks.leak import Leak

COMPARED = 512
"""Pixels of the shorter side, at most, at which two images are compared for equality."""


def by_originals(leak: Leak, files: Files) -> Leak:
    """Return a pair with the kind that its files show: another size, or other pixels, which a reduction hides.

    A file that can't be read any more leaves the kind as it is.
    """
    first, second = files.path(leak.first), files.path(leak.second)
    try:
        if leak.kind == "exact":
            if first.read_bytes() == second.read_bytes():
                return leak
            one, two = (decode(path, side=COMPARED) for path in (first, second))
            if np.array_equal(one, two):
                return leak
        elif leak.kind not in ("recompressed", "recoloured"):
            return leak
        sizes = [(header.width, header.height) for header in map(probe, (first, second))]
    except (BrokenImage, OSError):
        return leak
    if sizes[0] != sizes[1]:
        return replace(leak, kind="resized")
    return replace(leak, kind="recompressed") if leak.kind == "exact" else leak
