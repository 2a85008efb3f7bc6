"""How well a table of classes fits what masks hold, and the words in which this is told."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

from octavo.data.classes import ClassTable, load_table, shipped
from octavo.data.colour_codes import colour_code, colour_of, colour_text
from octavo.data.masks import UNKNOWN, MaskDecoder
from octavo.data.survey import FEW, Facts, Tally
from octavo.errors import UserError
from octavo.words import counted

NEAR, STRAYS = 0.9, 20
"""A table still is the one meant if this share of the pixels fits it, and at most so many colours don't."""


@dataclass(frozen=True)
class Verdict:
    """What masks are taken for.

    Attributes:
        decoder: that reads them; None when they can't be told.
        form: what they are, in a few words.
        refusal: why training can't start as things are, and what to write; "" when it can.
        errors: masks that don't fit, and what in them doesn't.
        warnings: what to look at.
        notes: what is good to know.
        candidates: shipped tables that fit, when more than one does.
        proposal: text of a `classes.toml` to start from; "" where a shipped table is meant.
    """

    decoder: MaskDecoder | None
    form: str
    refusal: str = ""
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    proposal: str = ""


@cache
def shipped_tables() -> dict[str, ClassTable]:
    """Return the tables that come with Octavo, by name."""
    return {name: load_table(name) for name in shipped()}


def in_table(found: Tally, table: ClassTable) -> np.ndarray:
    """Tell which colours of a tally are a table's: bool [n]."""
    return np.isin(found.tokens, [colour_code(e.colour) for e in table.entries])


def exact_tables(found: Tally) -> dict[str, ClassTable]:
    """Return the shipped tables that have every colour of a tally of two or more."""
    if found.rest or len(found.tokens) < 2:
        return {}
    return {name: table for name, table in shipped_tables().items() if in_table(found, table).all()}


def near_tables(found: Tally) -> dict[str, ClassTable]:
    """Return the shipped tables that are meant although a few colours, which aren't blends, are none of their own."""
    near = {}
    for name, table in shipped_tables().items():
        own = in_table(found, table)
        few = np.count_nonzero(~own) <= STRAYS and not is_smeared(found, ~own)
        if few and np.count_nonzero(own) >= 3 and found.share(own) >= NEAR:
            near[name] = table
    return near


def is_smeared(found: Tally, stray: np.ndarray) -> bool:
    """Tell whether values or colours are a blurred mask's: a great many, or blends that lie along edges alone."""
    seldom_flat = found.flats < 0.2 * found.counts
    if found.rest or np.count_nonzero(stray & seldom_flat) > FEW:
        return True
    wide = int(found.tokens.max()) - int(found.tokens.min()) >= FEW
    return bool(wide and _blends(found, found.edges & stray) >= 3)


def _blends(found: Tally, chosen: np.ndarray) -> int:
    """Count the chosen colours that lie between two of those that fill areas."""
    thick = found.tokens[~found.edges][np.argsort(-found.counts[~found.edges], kind="stable")[:16]]
    colours, ends = (np.array([colour_of(int(c)) for c in codes]) for codes in (found.tokens[chosen], thick))
    if not len(colours):
        return 0
    between = np.zeros(len(colours), bool)
    for one, other in combinations(ends, 2):
        way = other - one
        place = np.clip((colours - one) @ way / (way @ way), 0, 1)
        between |= np.abs(one + place[:, None] * way - colours).max(axis=1) <= 8
    return int(np.count_nonzero(between))


def well_covered(found: Tally, table: ClassTable) -> bool:
    """Tell whether void or half of the classes are here: labelling tools use VOC's palette for classes of any kind."""
    seen = [e for e in table.entries if colour_code(e.colour) in found.tokens]
    return any(e.ignored for e in seen) or 2 * len(seen) >= len(table.names)


def best_decoder(facts: Sequence[Facts], table: ClassTable, tolerant: bool) -> tuple[MaskDecoder, float]:
    """Return the decoder of the encoding in which more pixels are in the table's classes, and their share.

    Raises:
        UserError: when `tolerant` doesn't go with the table.
    """
    decoders = [MaskDecoder(table, "ids", tolerant)] if _allows(table, tolerant) else []
    try:
        decoders.append(MaskDecoder(table, "colours", tolerant))
    except UserError:
        if not decoders:
            raise
    shares = [_share(facts, decoder) for decoder in decoders]
    best = max(shares)
    fitting = [d for d, share in zip(decoders, shares, strict=True) if share == best]
    # Colours that all are a table's are no accident; small numbers may be.
    shown = any(f.kind == "colour" or f.coloured for f in facts)
    if len(fitting) == 2 and shown and not _agree(facts, *fitting):
        return fitting[1], best
    return fitting[0], best


def _allows(table: ClassTable, tolerant: bool) -> bool:
    return not tolerant or {e.value for e in table.entries} <= {0, 255}


def _share(facts: Sequence[Facts], decoder: MaskDecoder) -> float:
    hit = sum(int(counts_of(f, decoder)[channels_of(f, decoder) != UNKNOWN].sum()) for f in facts)
    return hit / max(sum(f.size[0] * f.size[1] - f.void for f in facts), 1)


def _agree(facts: Sequence[Facts], one: MaskDecoder, other: MaskDecoder) -> bool:
    pairs = [(channels_of(f, one), channels_of(f, other)) for f in facts]
    return all(np.array_equal(a, b) for a, b in pairs)


def channels_of(facts: Facts, decoder: MaskDecoder) -> np.ndarray:
    """Return the channel of each value or colour of a mask, uint8 [n]; UNKNOWN where it has none."""
    if decoder.encoding == "ids":
        if not facts.has_values:
            return np.full(len(facts.tally.tokens), UNKNOWN, np.uint8)
        return decoder.of_values(facts.kind)[facts.tally.tokens]
    return decoder.of_codes(facts.halves[0] if decoder.tolerant else facts.codes)


def counts_of(facts: Facts, decoder: MaskDecoder) -> np.ndarray:
    """Return how many pixels have each of those."""
    rounded = decoder.tolerant and decoder.encoding == "colours"
    return facts.halves[1] if rounded else facts.tally.counts


def lossy_text(facts: Sequence[Facts]) -> str:
    """Say which masks of class ids are JPEG files; "" when none is."""
    files = [f.file for f in facts if f.format in ("JPEG", "MPO")]
    return f"{name_files(files)}: JPEG changes class ids; save the masks as PNG from their source" if files else ""


def form_text(facts: Sequence[Facts], decoder: MaskDecoder) -> str:
    """Say how files hold their classes, such as `class ids in palette`."""
    words = {"grey": "grey", "palette": "palette", "one-bit": "1-bit", "colour": "RGB"}
    held = " and ".join(dict.fromkeys(words[f.kind] for f in facts))
    return f"{'class ids in' if decoder.encoding == 'ids' else 'colours in'} {held}"


def stray_texts(
    facts: Sequence[Facts], found: Tally, stray: np.ndarray, names: Sequence[str], as_ids: bool
) -> Iterator[str]:
    """Say which values or colours are in no class of the tables `names`, how often, and in which files."""
    what = "value" if as_ids else "colour"
    tables = f"table{'s' if len(names) > 1 else ''} {quoted(names)}"
    for token, count in zip(found.tokens[stray].tolist(), found.counts[stray].tolist(), strict=True):
        files = [f.file for f in facts if token in (f.tally.tokens if as_ids else f.codes)]
        masks = f" in {counted(len(files), 'mask')} ({name_files(files)})" if len(files) != 1 else f" in {files[0]}"
        name = str(token) if as_ids else colour_text(token)
        yield f"{what} {name} is in no class of {tables}: {counted(count, 'pixel')}{masks if files else ''}"


def name_files(files: Sequence[str]) -> str:
    """Name the first files and count the rest."""
    shown = files if len(files) <= 5 else files[:3]
    return ", ".join(shown) + (f" and {len(files) - 3:,} more" if len(files) > 5 else "")


def quoted(names: Iterable[str]) -> str:
    """Write names as messages do: "course" and "deepglobe"."""
    return " and ".join(f'"{name}"' for name in names)


def spans(values: Iterable[int]) -> str:
    """Write ascending whole numbers as people do: 0–5, 7, 255."""
    found: list[list[int]] = []
    for value in values:
        if found and value == found[-1][1] + 1:
            found[-1][1] = value
        else:
            found.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in found)


def write_hint(toml: str) -> str:
    """Say which command writes a table of what was found."""
    data = toml.rpartition("/")[0] or "."
    return f"octavo check {shlex.quote(data)} --write-classes {shlex.quote(toml)}"


def as_options(text: str) -> str:
    """Name the options of `octavo check` and `octavo score` where a message names the keys of a recipe."""
    text = re.sub(r"\b(write|set) (?=data\.(classes|tolerant) =)", "give ", text)
    text = re.sub(r'data\.classes = "([^"]*)"', lambda found: f"--classes {shlex.quote(found[1])}", text)
    text = text.replace("data.tolerant = true", "--tolerant").replace("data.classes", "--classes")
    if "data.tolerant" in text:
        text = text.replace("data.tolerant", "--tolerant").replace("; set it to false", "; leave it away")
    return text


@contextmanager
def naming_options() -> Iterator[None]:
    """Name those options in the mistakes that are told."""
    try:
        yield
    except UserError as error:
        raise UserError(as_options(str(error))) from error
