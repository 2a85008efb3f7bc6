"""Which encoding masks have, concluded from what is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from octavo.data.classes import MOST, ClassEntry, ClassTable, Colour, dumps
from octavo.data.colour_codes import colour_of, colour_text
from octavo.data.fitting import (
    Verdict,
    best_decoder,
    channels_of,
    exact_tables,
    form_text,
    in_table,
    is_smeared,
    lossy_text,
    name_files,
    near_tables,
    quoted,
    shipped_tables,
    spans,
    stray_texts,
    well_covered,
    write_hint,
)
from octavo.data.masks import UNKNOWN, MaskDecoder
from octavo.data.smears import (
    binary,
    near_share,
    propose,
    shares,
    shown_colours,
    smeared_colours,
    smeared_table,
    smeared_values,
)
from octavo.data.survey import FEW, Facts, by_colour, by_half, by_value, tally


def infer(facts: Sequence[Facts], tolerant: bool, toml: str) -> Verdict:
    """Tell what these masks are, all of them readable; `toml` is the path that advice gives for a table to write."""
    odd = [f for f in facts if f.photograph]
    if 2 * len(odd) > len(facts):
        reason = f"{odd[0].file}: looks like a photograph ({odd[0].distinct:,} {_tokens(odd[0])}), as "
        reason += f"{len(odd):,} of {len(facts):,} masks do; expected masks of a few classes"
        return Verdict(None, "photographs", reason)
    errors = [f"{f.file}: looks like a photograph, not like a mask ({f.distinct:,} {_tokens(f)})" for f in odd]
    plain = [f for f in facts if not f.photograph]
    if not all(f.has_values for f in plain):
        verdict = _from_colours(plain, tolerant, toml)
    elif any(f.kind == "palette" and f.coloured for f in plain):
        verdict = _from_palettes(plain, tolerant, toml)
    else:
        verdict = _from_values(plain, tolerant, toml)
    return replace(verdict, errors=(*verdict.errors, *errors))


def read_by(facts: Sequence[Facts], table: ClassTable, tolerant: bool, toml: str) -> Verdict:
    """Tell how these masks hold the classes of `table`.

    Raises:
        UserError: when `tolerant` doesn't go with the table.
    """
    decoder, share = best_decoder(facts, table, tolerant)
    as_ids = decoder.encoding == "ids"
    form = f'{form_text(facts, decoder)}, table "{table.name}"'
    if share < 0.5 and (tolerant or near_share(facts, table) < 0.7):
        seen = infer(facts, tolerant, toml)
        reason = f'table "{table.name}" doesn\'t fit: {share:.1%} of the pixels are in its classes; the masks are '
        return Verdict(None, form, f"{reason}{seen.form}", candidates=seen.candidates, proposal=seen.proposal)
    if as_ids and not tolerant and (reason := lossy_text(facts)) and {e.value for e in table.entries} != {0, 255}:
        return Verdict(None, form, reason)
    if as_ids and (mixed := [f.file for f in facts if not f.has_values]):
        error = f"{name_files(mixed)}: in colour, but the others hold class ids; one table can't read both"
        return Verdict(decoder, form, errors=(error,))
    found = tally(facts, by_value if as_ids else by_half if tolerant else by_colour)
    strange = [_tokens_of(f, decoder)[channels_of(f, decoder) == UNKNOWN] for f in facts]
    stray = np.isin(found.tokens, np.concatenate(strange))
    if not stray.any() and not found.rest:
        return Verdict(decoder, form)
    if is_smeared(found, stray):
        return smeared_table(facts, table, found, stray, decoder)
    return Verdict(decoder, form, errors=tuple(stray_texts(facts, found, stray, (table.name,), as_ids)))


def _tokens_of(facts: Facts, decoder: MaskDecoder) -> np.ndarray:
    if decoder.encoding == "ids":
        return facts.tally.tokens
    return facts.halves[0] if decoder.tolerant else facts.codes


def _tokens(facts: Facts) -> str:
    return "values" if facts.has_values else "colours"


# ── Colours ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _from_colours(facts: Sequence[Facts], tolerant: bool, toml: str) -> Verdict:
    found = tally(facts, by_half if tolerant else by_colour)
    if exact := exact_tables(found):
        return _choose(exact, facts, tolerant)
    if near := near_tables(found):
        stray = ~in_table(found, next(iter(near.values())))
        errors = tuple(stray_texts(() if tolerant else facts, found, stray, tuple(near), False))
        return replace(_choose(near, facts, tolerant), errors=errors)
    if len(found.tokens) == 1:
        only = colour_text(int(found.tokens[0]))
        return Verdict(None, "one colour", f"every mask is of the one colour {only}; there is nothing to learn")
    if not tolerant and is_smeared(found, np.ones(len(found.tokens), bool)):
        return smeared_colours(facts, found, toml)
    if (count := len(found.tokens)) > MOST:
        return Verdict(None, f"{count} colours", f"masks have {count} colours, but at most {MOST} classes are trained")
    reason = f"masks have {count} colours, which are no shipped table's: {shown_colours(found)}; {write_hint(toml)} "
    reason += "writes a table of them, for you to name"
    return Verdict(None, f"{count} colours of no shipped table", reason, proposal=propose(found))


def _from_palettes(facts: Sequence[Facts], tolerant: bool, toml: str) -> Verdict:
    """Tell palette files: by their palettes' colours where these are a shipped table's, else by their indices."""
    painted = [f for f in facts if f.kind == "palette" and f.coloured]  # grey ids may lie beside them
    found = tally(painted, by_colour)
    exact = exact_tables(found)
    if sure := {name: table for name, table in exact.items() if well_covered(found, table)}:
        return _choose(sure, facts, tolerant)
    if exact:
        choices = " or ".join(f'data.classes = "{name}"' for name in exact)
        reason = (
            f"palette colours are those of table {quoted(exact)}, but few of its classes are here and none that is "
            f"void; write {choices} if these are its classes, or else {toml} ({write_hint(toml)} writes the ids found)"
        )
        seen = _ids(facts, toml)
        return Verdict(None, seen.form, reason, candidates=tuple(exact), proposal=seen.proposal)
    shades: dict[int, int] = {}
    for f in painted:
        for token, code in zip(f.tally.tokens.tolist(), f.codes.tolist(), strict=True):
            if shades.setdefault(token, code) != code:  # palettes of their own: their indices mean nothing
                return _from_colours(facts, tolerant, toml)
    return _from_values(facts, tolerant, toml)


def _choose(fits: Mapping[str, ClassTable], facts: Sequence[Facts], tolerant: bool) -> Verdict:
    """Take the one table that fits, or refuse to choose between several."""
    decoders = [best_decoder(facts, table, tolerant)[0] for table in fits.values()]
    form = f"{form_text(facts, decoders[0])}, table{'s' if len(fits) > 1 else ''} {quoted(fits)}"
    if len(fits) == 1:
        return Verdict(decoders[0], form)
    differ = [
        f'"{entry.name}" is {" but ".join(f"{_role(table, entry)} in {name}" for name, table in fits.items())}'
        for entry in next(iter(fits.values())).entries
        if len({_role(table, entry) for table in fits.values()}) > 1
    ]
    why = f" ({differ[0]})" if len(differ) == 1 else ""
    choices = " or ".join(f'data.classes = "{name}"' for name in fits)
    return Verdict(None, form, f"masks fit the tables {quoted(fits)}{why}; write {choices}", candidates=tuple(fits))


def _role(table: ClassTable, like: ClassEntry) -> str:
    entry = next((e for e in table.entries if e.colour == like.colour), None)
    return "missing" if entry is None else "ignored" if entry.ignored else "trained"


# ── Values ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _from_values(facts: Sequence[Facts], tolerant: bool, toml: str) -> Verdict:
    found = tally(facts, by_value)
    values: list[int] = found.tokens.tolist()
    ids = values[:-1] if values[-1] == 255 else values
    plain = ids == list(range(len(ids))) and np.median([f.distinct for f in facts]) <= FEW
    if len(values) == 1:
        return Verdict(None, "one value", f"every mask holds the value {values[0]} alone; there is nothing to learn")
    if len({f.kind == "one-bit" for f in facts}) == 2 and values != [0, 255]:
        reason = f"1-bit masks beside others of {spans(values)}: name their table by data.classes, or save them alike"
        return Verdict(None, "class ids", reason)
    if not plain and is_smeared(found, np.ones(len(values), bool)):
        return smeared_values(facts, found, tolerant)
    if tolerant and values != [0, 255]:
        reason = f"data.tolerant: masks hold the values {spans(values)}, not a blur of 0 and 255; set it to false"
        return Verdict(None, "class ids", reason)
    if values in ([0, 255], [0, 1]):
        table = binary(values[1])
        decoder = MaskDecoder(table, "ids", tolerant)
        return Verdict(decoder, f"{form_text(facts, decoder)}, binary 0/{values[1]}", proposal=dumps(table))
    if reason := lossy_text(facts):
        return Verdict(None, "class ids", reason)
    return _ids(facts, toml)


def _ids(facts: Sequence[Facts], toml: str) -> Verdict:
    """Take values for class ids; 255 beside plain ids is void, as in PASCAL VOC."""
    found = tally(facts, by_value)
    values: list[int] = found.tokens.tolist()
    step = _step(values)
    void = values[-1] == 255 and step == 1 and values[-2] < 128
    ids = values[:-1] if void else values
    table = _table_of_ids(facts, ids, void)
    decoder = MaskDecoder(table, "ids")
    notes = [f"classes have no names yet: {write_hint(toml)} writes a table of them, for you to name"]
    notes += ["255 is taken as void (no class), as in PASCAL VOC"] if void else []
    notes += ["0 is taken as a class; if it means unlabelled, say ignored = true in that table"] if ids[0] == 0 else []
    warnings = []
    if step > 1:
        warnings.append(f"values are {step} apart: {len(ids)} ids, scaled to be seen; each is taken as a class")
    elif gaps := sorted(set(range(ids[-1])) - set(ids)):
        warnings.append(
            f"ids have gaps: no mask holds {spans(gaps)}; the {len(ids)} ids that are found are the classes"
        )
    proposal = dumps(table, shares(found, range(len(values))))
    form = f"{form_text(facts, decoder)}: {spans(values)}"
    verdict = Verdict(decoder, form, "", (), tuple(warnings), tuple(notes), proposal=proposal)
    return _compared(verdict, values, ids, toml)


def _step(values: Sequence[int]) -> int:
    """Return how far apart ids are that were scaled to be seen, such as 0, 128, 255; 1 where they weren't."""
    apart = np.diff(values)
    even = len(values) > 2 and values[0] == 0 and apart.max() - apart.min() <= (1 if apart.min() >= 8 else 0)
    return int(apart.max()) if even else 1


def _compared(verdict: Verdict, values: list[int], ids: list[int], toml: str) -> Verdict:
    """Refuse ids that a shipped table has too, if it ignores some of them; else say that it would name them."""
    same = {
        name: table
        for name, table in shipped_tables().items()
        if {e.value for e in table.trained} <= set(values) <= {e.value for e in table.entries}
    }
    if not same:
        return verdict
    choices = " or ".join(f'data.classes = "{name}"' for name in same)
    void = {n: [e.value for e in t.entries if e.ignored and e.value in ids] for n, t in same.items()}
    if not any(void.values()):
        note = f"the ids are those of table {quoted(same)} too; {choices} gives them names and colours"
        return replace(verdict, notes=(*verdict.notes, note))
    ignores = ", ".join(f'"{name}" ignores {spans(own)}' for name, own in void.items() if own)
    reason = (
        f"masks hold the ids {spans(values)}, as those of table {quoted(same)} do ({ignores}); write {choices}, or "
        f"else {toml} ({write_hint(toml)} writes every id as a class)"
    )
    return replace(verdict, decoder=None, refusal=reason, candidates=tuple(same))


def _table_of_ids(facts: Sequence[Facts], ids: list[int], void: bool) -> ClassTable:
    """Return a table of ids in their palette's colours, if these differ, else in those of VOC's colour map."""
    palettes = [f for f in facts if f.kind == "palette" and f.coloured]
    own = {v: colour_of(int(f.shades[v])) for f in palettes for v in f.tally.tokens.tolist()}
    values = [*ids, 255] if void else ids
    shades = own if set(own) == set(values) and len(set(own.values())) == len(values) else {}
    entries = [ClassEntry(f"class {v}", v, shades.get(v, _voc_colour(v))) for v in ids]
    if void:
        entries.append(ClassEntry("void", 255, shades.get(255, _voc_colour(255)), ignored=True))
    return ClassTable("ids", tuple(entries))


def _voc_colour(value: int) -> Colour:
    """Return a colour of PASCAL VOC's map, which has 256 that differ: the value's bits, dealt to the channels."""
    red, green, blue = (sum((value >> (3 * k + c) & 1) << (7 - k) for k in range(3)) for c in range(3))
    return red, green, blue
