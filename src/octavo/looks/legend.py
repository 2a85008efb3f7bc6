"""Which classes a picture of masks names, and in which colours: at most ten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from octavo.data.classes import IGNORE, ClassTable, Colour
from octavo.data.masks import MaskDecoder

_MOST = 10
_GREYS = (225, 150, 90, 255, 0)


@dataclass(frozen=True, eq=False)
class Legend:
    """The colours of a picture of masks.

    Attributes:
        colours: uint8 [256,3] by channel index; 255 is no class.
        entries: what the legend names, at most ten.
    """

    colours: np.ndarray
    entries: Mapping[str, Colour]


def legend_of(table: ClassTable, pixels: np.ndarray, *, void: bool) -> Legend:
    """Return the legend of masks: all classes of the table, or, of more than ten, the commonest of those that occur.

    Args:
        table: the classes; theirs are the colours.
        pixels: int [C+1], how many of each trained class, and of no class, the pictures show.
        void: whether pixels of no class are drawn in a colour of their own, which takes an entry.
    """
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(table.trained)] = table.colours
    colours[IGNORE] = table.void_colour
    own = table.entries if void else table.trained
    if len(own) <= _MOST:
        return Legend(colours, {entry.name: entry.colour for entry in own})
    ignored = [entry for entry in table.entries if entry.ignored][:1] if void and pixels[-1] else []
    common = np.argsort(-pixels[:-1], kind="stable")
    common = common[pixels[common] > 0]
    room = _MOST - len(ignored)
    kept, rest = (common[: room - 1], common[room - 1 :]) if len(common) > room else (common, common[:0])
    other = _unlike(table.colours[kept])
    colours[rest] = other
    entries = {table.trained[i].name: table.trained[i].colour for i in sorted(kept.tolist())}
    entries |= {entry.name: entry.colour for entry in ignored}
    return Legend(colours, entries | ({f"{len(rest)} other classes": other} if len(rest) else {}))


def _unlike(colours: np.ndarray) -> Colour:
    """Return the grey that is farthest from all colours, uint8 [·,3]."""
    far = [np.abs(colours.astype(int) - grey).sum(axis=1).min(initial=765) for grey in _GREYS]
    grey = _GREYS[int(np.argmax(far))]
    return grey, grey, grey


def ids_of(picture: np.ndarray, table: ClassTable) -> np.ndarray:
    """Return the channel indices, uint8 [H,W], of a mask painted in the table's colours, uint8 [H,W,3]."""
    codes = picture.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32)
    return MaskDecoder(table, "colours").of_codes(codes)
