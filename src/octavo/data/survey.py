"""What mask files hold, before anything is concluded: values, colours, how much of each lies in the flat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from octavo.data.masks import Kind, RawMask, read_mask
from octavo.data.pixels import BrokenImage, probe, strict, working_on
from octavo.progress import Progress
from octavo.threads import in_threads

if TYPE_CHECKING:
    from octavo.data.pairs import Pairs

FEW = 64
"""A mask with more values or colours than this is no plain mask."""
_KEPT = 1024  # of a mask's colours, the most frequent are remembered: a photograph has a hundred thousand
_GROUP = 8
_FLAT = 0.4  # share of a mask that lies in the flat; 13 real photographs had 0–0.22, JPEG masks 0.69 and more
_HALVES = np.uint32(0x808080)


@dataclass(frozen=True, eq=False)
class Tally:
    """Values or colours, ascending, with how many pixels have each, and how many of those lie in the flat.

    A pixel lies in the flat when its four neighbours equal it: what smoothing leaves along edges never does.
    """

    tokens: np.ndarray
    counts: np.ndarray
    flats: np.ndarray
    rest: int = 0
    """Pixels of values and colours that are too many to be listed."""

    @property
    def edges(self) -> np.ndarray:
        """Which of them are found along edges only: bool [n]."""
        return self.flats < 0.02 * self.counts

    def share(self, chosen: np.ndarray) -> float:
        """Return the share of all pixels that the chosen ones (bool [n]) have."""
        return float(self.counts[chosen].sum() / max(self.counts.sum() + self.rest, 1))


@dataclass(frozen=True, eq=False)
class Facts:
    """What one mask file turned out to be; `tally` holds values where `has_values`, else colours."""

    file: str
    index: int
    kind: Kind
    format: str
    size: tuple[int, int]
    image_size: tuple[int, int] | None
    """(width, height) of the image it belongs to; None when that can't be read."""
    has_values: bool
    tally: Tally
    shades: np.ndarray
    """Colour of each value, uint32 [256]."""
    halves: tuple[np.ndarray, np.ndarray]
    """Colours with each channel rounded to 0 or 255, and their counts."""
    distinct: int
    void: int = 0
    """Pixels without data, as a GeoTIFF says; the tally has none of them."""
    nodata: int | None = None
    """The value or colour that stands for that."""
    broken: str = ""

    @property
    def codes(self) -> np.ndarray:
        """The colours of the tally's tokens."""
        return self.shades[self.tally.tokens] if self.has_values else self.tally.tokens

    @property
    def coloured(self) -> bool:
        """Whether it shows anything but greys."""
        return bool((self.codes != (self.codes & 0xFF) * np.uint32(0x010101)).any())

    @property
    def photograph(self) -> bool:
        """Whether it looks like a photograph: a great many colours, few neighbours alike."""
        many = self.distinct > (FEW if self.has_values else 4 * FEW)
        return many and bool(self.tally.flats.sum() < _FLAT * self.size[0] * self.size[1])


def look(pairs: Pairs, chosen: Sequence[int], progress: Progress) -> list[Facts]:
    """Read the masks `chosen` (indices of pairs), in threads; those that can't be read say why in `broken`."""

    def facts(index: int) -> Facts:
        with working_on(pairs.mask_path(index)):
            return _facts(pairs, index)

    def group(start: int) -> list[Facts]:
        with strict():
            return [facts(i) for i in chosen[start : start + _GROUP]]

    seen: list[Facts] = []
    for some in in_threads(group, range(0, len(chosen), _GROUP)):
        seen += some
        progress("masks", len(seen), len(chosen))
    return seen


def tally(facts: Sequence[Facts], of: Callable[[Facts], tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Tally:
    """Return what all masks hold together; `of` gives one mask's tokens, counts and counts in the flat."""
    parts = [of(f) for f in facts]
    tokens, counts, flats = (np.concatenate([p[k] for p in parts]) for k in range(3))
    found, place = np.unique(tokens, return_inverse=True)
    total, flat = (np.bincount(place, weights=w, minlength=len(found)).astype(np.int64) for w in (counts, flats))
    return Tally(found, total, flat, 0 if of is by_half else sum(f.tally.rest for f in facts))


def by_value(facts: Facts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give a mask's values, for `tally`."""
    return facts.tally.tokens, facts.tally.counts, facts.tally.flats


def by_colour(facts: Facts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give a mask's colours, for `tally`."""
    return facts.codes, facts.tally.counts, facts.tally.flats


def by_half(facts: Facts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give a mask's colours with each channel rounded to 0 or 255, for `tally`."""
    return facts.halves[0], facts.halves[1], facts.halves[1]


def _facts(pairs: Pairs, index: int) -> Facts:
    try:
        mask = read_mask(pairs.mask_path(index))
    except (BrokenImage, OSError) as error:
        none = np.empty(0, np.int64)
        tokens = none.astype(np.uint32)
        return Facts(pairs.masks[index], index, "grey", "", (0, 0), None, True, Tally(tokens, none, none),
                     tokens, (tokens, none), 0, broken=str(error))  # fmt: skip
    try:
        header = probe(pairs.path(index))
        image_size = header.width, header.height
    except (BrokenImage, OSError):
        image_size = None
    return _summary(pairs.masks[index], index, mask, image_size)


def _summary(file: str, index: int, mask: RawMask, image_size: tuple[int, int] | None) -> Facts:
    values = mask.values
    whole, void = _count(mask.plane if values is None else values), 0
    nodata = mask.nodata if mask.nodata is None or values is None else mask.nodata & 0xFF
    if nodata is not None:
        kept = whole.tokens != nodata
        void = int(whole.counts[~kept].sum())
        whole = Tally(whole.tokens[kept], whole.counts[kept], whole.flats[kept])
    shades = mask.shades()
    codes = whole.tokens if values is None else shades[whole.tokens]
    halves, place = np.unique(((codes & _HALVES) >> np.uint32(7)) * np.uint32(255), return_inverse=True)
    counts = np.bincount(place, weights=whole.counts).astype(np.int64)
    top = np.sort(np.argsort(-whole.counts, kind="stable")[:_KEPT])
    rest = int(whole.counts.sum() - whole.counts[top].sum())
    listed = Tally(whole.tokens[top], whole.counts[top], whole.flats[top], rest)
    return Facts(file, index, mask.kind, mask.format, mask.size, image_size, values is not None, listed, shades,
                 (halves, counts), len(whole.tokens), void, nodata)  # fmt: skip


def _count(plane: np.ndarray) -> Tally:
    """Count what a plane [H, W] holds, by runs of equal pixels: masks have few, and sorting every pixel takes long."""
    flat = np.ones(plane.shape, bool)
    across, down = plane[:, 1:] == plane[:, :-1], plane[1:] == plane[:-1]
    flat[:, 1:] &= across
    flat[:, :-1] &= across
    flat[1:] &= down
    flat[:-1] &= down
    line = plane.ravel()
    starts = np.concatenate([[0], np.flatnonzero(line[1:] != line[:-1]) + 1])
    lengths = np.diff(np.append(starts, line.size))
    inside = np.add.reduceat(flat.ravel(), starts, dtype=np.int64)
    tokens, place = np.unique(line[starts], return_inverse=True)
    counts, flats = (np.bincount(place, weights=w).astype(np.int64) for w in (lengths, inside))
    return Tally(tokens.astype(np.uint32), counts, flats)
