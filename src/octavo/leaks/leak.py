"""A pair of images that are one picture, and how a list of pairs is written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

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


def to_dict(leaks: Iterable[Leak], rule: str) -> dict[str, Any]:
    """Return pairs, and the sentence that says how they were found, as what JSON can hold."""
    return {"format": 1, "rule": rule, "pairs": [asdict(leak) for leak in leaks]}


def from_dict(written: Mapping[str, Any]) -> tuple[Leak, ...]:
    """Return the pairs that `to_dict` wrote.

    Raises:
        ValueError: it didn't write that.
    """
    try:
        pairs = [(int(p["first"]), int(p["second"]), str(p["kind"]), float(p["similarity"])) for p in written["pairs"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no list of leaks: {error!r}") from error
    return tuple(Leak(*pair) for pair in pairs)
