"""Colour codes: a colour as one number, and as people write it."""

from __future__ import annotations

from collections.abc import Iterable

from octavo.data.classes import Colour


def colour_code(colour: Iterable[int]) -> int:
    """Return a colour as one number: red + 256 · green + 65,536 · blue."""
    red, green, blue = colour
    return int(red) | int(green) << 8 | int(blue) << 16


def colour_of(code: int) -> Colour:
    """Return the red, green and blue of a colour's code."""
    return int(code) & 255, int(code) >> 8 & 255, int(code) >> 16 & 255


def colour_text(code: int) -> str:
    """Return a colour's code as people write it: 255,0,0."""
    return ",".join(map(str, colour_of(code)))
