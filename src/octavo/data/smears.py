"""Masks whose colours were blurred, by JPEG or by smoothing: what is said of them, and what mends them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octavo.data.classes import ClassEntry, ClassTable, Colour, dumps
from octavo.data.colour_codes import colour_of, colour_text
from octavo.data.fitting import (
    Verdict,
    exact_tables,
    form_text,
    in_table,
    name_files,
    near_tables,
    quoted,
    write_hint,
)
from octavo.data.masks import UNKNOWN, MaskDecoder
from octavo.data.survey import FEW, Facts, Tally, by_colour, by_half, tally
from octavo.errors import UserError
from octavo.words import counted

_JPEG = "smeared as JPEG leaves them"
_BLEND = "blended along edges as smoothing or resizing leaves them"
_NEAR = 24  # shades of one channel: JPEG seldom goes farther, blends mostly do
_AGAIN = "save the masks as PNG from their source"


def smeared_values(facts: Sequence[Facts], found: Tally, tolerant: bool) -> Verdict:
    """Tell blurred grey masks: 0/255, which tolerant decoding mends, or class ids, which nothing does."""
    how = _how(facts, found)
    if found.share((found.tokens < 48) | (found.tokens >= 208)) < 0.9:
        return Verdict(None, f"grey values {how}", f"masks hold {len(found.tokens)} grey values, {how}; {_AGAIN}")
    table = binary(255)
    decoder = MaskDecoder(table, "ids", tolerant=True)
    form = f"{form_text(facts, decoder)}, binary 0/255 {how}"
    if tolerant:
        return Verdict(decoder, form, proposal=dumps(table))
    files = name_files([f.file for f in facts if f.distinct > 2])
    reason = (
        f"{files}: values between 0 and 255, {how}; write data.tolerant = true, which takes those from 128 on as 255 "
        "(foreground) and the rest as 0"
    )
    return Verdict(None, form, reason, proposal=dumps(table))


def smeared_colours(facts: Sequence[Facts], found: Tally, toml: str) -> Verdict:
    """Refuse blurred colours of no given table, and say whether tolerant decoding mends them, and by which table."""
    how, halves = _how(facts, found), tally(facts, by_half)
    form = f"{_many(found, np.ones(len(found.tokens), bool))}, {how}"
    start = f"{name_files(_blurred(facts, FEW))}: {form}"
    if fits := exact_tables(halves):
        choices = " or ".join(f'data.classes = "{name}"' for name in fits)
        reason = f"{start}; write data.tolerant = true and {choices}{_caution(how)}"
        return Verdict(None, f"{form}; rounded, those of {quoted(fits)}", reason, candidates=tuple(fits))
    if near := near_tables(halves):
        stray = ~in_table(halves, next(iter(near.values())))
        reason = f"{start}; data.tolerant = true leaves {_left(halves, stray)} of no class of {quoted(near)}; {_AGAIN}"
        return Verdict(None, form, reason, candidates=tuple(near))
    if len(own := _own(found)) > 1 and _binary(own):
        reason = (
            f"{start}; write data.tolerant = true, and {toml} for the {len(halves.tokens)} colours that are left "
            f"({write_hint(toml)} writes it)"
        )
        return Verdict(None, form, reason, proposal=propose(halves))
    return Verdict(None, form, f"{start}; {_AGAIN}")


def smeared_table(
    facts: Sequence[Facts], table: ClassTable, found: Tally, stray: np.ndarray, decoder: MaskDecoder
) -> Verdict:
    """Refuse masks that blur a known table's colours or values, and say whether tolerant decoding mends them."""
    how = _how(facts, found)
    start = f"{name_files(_blurred(facts, len(table.entries)))}: {_many(found, stray)}"
    mend = _AGAIN if decoder.tolerant else _mend(facts, table, decoder, how)
    form = f'{form_text(facts, decoder)}, table "{table.name}", {how}'
    return Verdict(None, form, f'{start} in no class of table "{table.name}", {how}; {mend}')


def propose(found: Tally) -> str:
    """Return the text of a classes.toml with the colours found, the most frequent first, and their shares."""
    order = np.argsort(-found.counts, kind="stable")
    entries = (ClassEntry(f"class {k}", k, colour_of(int(found.tokens[i]))) for k, i in enumerate(order))
    return dumps(ClassTable("classes", tuple(entries)), shares(found, order))


def shares(found: Tally, order: np.ndarray | Sequence[int]) -> list[str]:
    """Return what a table that is proposed says beside each class."""
    return [f"{found.counts[i] / found.counts.sum():.2%} of the pixels" for i in order]


def shown_colours(found: Tally, most: int = 8) -> str:
    """List colours with their shares, the most frequent first."""
    order = np.argsort(-found.counts, kind="stable")
    parts = [f"{colour_text(int(found.tokens[i]))} ({found.counts[i] / found.counts.sum():.1%})" for i in order[:most]]
    return ", ".join(parts) + (f" and {len(order) - most} more" if len(order) > most else "")


def binary(foreground: int) -> ClassTable:
    """Return the table of masks that hold 0 and one other value."""
    black, white = ClassEntry("background", 0, (0, 0, 0)), ClassEntry("foreground", foreground, (255, 255, 255))
    return ClassTable("binary", (black, white))


def near_share(facts: Sequence[Facts], table: ClassTable) -> float:
    """Return the share of pixels whose colours are, to 24 shades in each channel, those of a table's classes."""
    found = tally(facts, by_colour)
    return found.share(_away(found.tokens, [e.colour for e in table.entries]) <= _NEAR)


def _mend(facts: Sequence[Facts], table: ClassTable, decoder: MaskDecoder, how: str) -> str:
    """Say whether tolerant decoding mends masks that blur a table's classes."""
    if decoder.encoding == "ids" and {e.value for e in table.entries} == {0, 255}:
        return "data.tolerant = true takes values from 128 on as 255, the rest as 0"
    try:
        rounded = MaskDecoder(table, "colours", tolerant=True)
    except UserError:
        return _AGAIN
    halves = tally(facts, by_half)
    stray = rounded.of_codes(halves.tokens) == UNKNOWN
    text = f"data.tolerant = true takes each channel as 0 or 255{_caution(how)}"
    if not stray.any():
        return text
    ignore = "give those a class with ignored = true in classes.toml"
    return f"{text}, but leaves {_left(halves, stray)}: {_AGAIN}, or {ignore}"


def _left(halves: Tally, stray: np.ndarray) -> str:
    parts = zip(halves.tokens[stray].tolist(), halves.counts[stray].tolist(), strict=True)
    return ", ".join(f"{colour_text(token)} ({counted(count, 'pixel')})" for token, count in parts)


def _own(found: Tally) -> np.ndarray:
    """Return the colours that masks had before they were blurred: found in the flat, and often."""
    return found.tokens[~found.edges & (found.counts > 0.01 * found.counts.sum())]


def _binary(codes: np.ndarray) -> bool:
    """Tell whether colours are made of 0 and 255, or nearly; others would be lost when rounded."""
    parts = np.array([colour_of(int(c)) for c in codes]).reshape(-1, 3)
    return bool((np.minimum(parts, 255 - parts) <= _NEAR).all())


def _how(facts: Sequence[Facts], found: Tally) -> str:
    """Tell JPEG's ringing, which stays near the mask's own colours, from the even blends of a smoothed edge."""
    own = _own(found)
    stray = ~np.isin(found.tokens, own)
    if any(f.format in ("JPEG", "MPO") for f in facts) or not len(own) or not stray.any():
        return _JPEG
    centres = [colour_of(int(c)) for c in own]
    near = found.counts[stray][_away(found.tokens[stray], centres) <= _NEAR].sum() / found.counts[stray].sum()
    return _JPEG if near > 0.5 else _BLEND


def _away(codes: np.ndarray, centres: Sequence[Colour]) -> np.ndarray:
    """Return how far colours are from the nearest of the centres, in shades of the channel that differs most."""
    colours = np.stack([codes >> np.uint32(shift) & np.uint32(255) for shift in (0, 8, 16)], axis=1).astype(np.int64)
    return np.min([np.abs(colours - centre).max(axis=1) for centre in centres], axis=0)


def _many(found: Tally, stray: np.ndarray) -> str:
    count, more = np.count_nonzero(stray), " or more" if found.rest else ""
    return f"{count:,}{more} {'values' if found.tokens.max() < 256 else 'colours'}"


def _blurred(facts: Sequence[Facts], few: int) -> list[str]:
    return [f.file for f in facts if f.distinct > few] or [f.file for f in facts]


def _caution(how: str) -> str:
    return "; between two classes a blend may come out as a third" if how == _BLEND else ""
