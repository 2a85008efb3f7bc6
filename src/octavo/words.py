"""Counts in words."""

from __future__ import annotations

_HISSING = ("s", "x", "z", "ch", "sh")


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count and its noun: `1 file`, `2,500 files`, `0 classes`; `plural` where it isn't regular."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {plural or noun + ('es' if noun.endswith(_HISSING) else 's')}"
