"""A pair of images that are one picture."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = {
    "exact": "equal pixels",
    "flipped": "mirrored left to right, upside down, or both",
    "overlapping": "each shows a piece of what the other shows",
    "cropped": "one is cut out of the other",
    "resized": "another size",
    "recoloured": "other brightness, contrast or hue",
    "recompressed": "the same size and place, other pixels",
}
"""Kind of a pair → what it means; a pair has the first that holds."""


@dataclass(frozen=True, order=True)
class Leak:
    """Two images that show one picture.

    Attributes:
        first: place among all files of the data; of the part that is scored, where the other is not.
        second: place of its twin.
        kind: a key of `KINDS`.
        similarity: how well their texture agrees where one is laid over the other, 0–1; 1 of equal pixels.
    """

    first: int
    second: int
    kind: str
    similarity: float

    def __post_init__(self) -> None:
        """Refuse a kind that doesn't exist."""
        if self.kind not in KINDS:
            raise ValueError(f'kind "{self.kind}"; expected one of {", ".join(KINDS)}')
