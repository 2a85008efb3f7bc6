"""Content digests: a short name for the decoded pixels of one image or mask, the same on any machine."""

from __future__ import annotations

import hashlib

import numpy as np

DIGITS = 16
"""Hexadecimal digits of a digest: among a million images two different ones share it once in 37 million sets."""


def digest_of(planes: np.ndarray) -> str:
    """Return the SHA-256 of size and pixels, uint8 [planes,H,W], shortened to `DIGITS`."""
    digest = hashlib.sha256(repr(planes.shape).encode())
    digest.update(np.ascontiguousarray(planes).data)
    return digest.hexdigest()[:DIGITS]
