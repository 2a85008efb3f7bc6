"""The mask doctor: what masks are, which table of classes reads them, and what is wrong with them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from octavo.data.classes import IGNORE, ClassTable, load_table
from octavo.data.encodings import infer, read_by
from octavo.data.fitting import Verdict, as_options, channels_of, counts_of, name_files
from octavo.data.masks import UNKNOWN, MaskDecoder
from octavo.data.survey import Facts, look
from octavo.data.walk import one_line
from octavo.errors import UserError
from octavo.log import warn
from octavo.progress import Progress, silent
from octavo.words import counted

if TYPE_CHECKING:
    from octavo.data.pairs import Pairs

FILE = "classes.toml"
"""A table of this name beside the images is taken by itself."""
_SAMPLE = 64  # masks by which training tells the encoding of a table that it knows
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What masks are and what is wrong with them.

    Attributes:
        decoder: that reads them; None when they can't be told.
        form: what they are, in a few words.
        refusal: why training can't start as things are, and what to write; "" when it can.
        errors: what must be mended, the refusal first.
        warnings: what to look at.
        notes: what is good to know.
        broken: masks that can't be read, and why.
        candidates: shipped tables that fit, when more than one does.
        proposal: text of a `classes.toml` to start from; "" where a shipped table is meant.
        counts: split → pixels of each trained class, int64 [C], in the masks looked at; empty without a decoder.
        ignored: split → pixels of no class.
        looked: how many masks were looked at.
        shown: place of a mask that training can read → which classes it shows, bool [C].
        hidden: warnings of classes whose value is a mask's nodata value.
    """

    decoder: MaskDecoder | None
    form: str
    refusal: str
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    broken: tuple[tuple[str, str], ...]
    candidates: tuple[str, ...]
    proposal: str
    counts: Mapping[str, np.ndarray]
    ignored: Mapping[str, int]
    looked: int
    shown: Mapping[int, np.ndarray]
    hidden: tuple[str, ...] = ()

    def in_options(self) -> Diagnosis:
        """Return it in the words of `octavo check`, where the recipe's keys are options."""
        texts = {name: tuple(map(as_options, getattr(self, name))) for name in ("errors", "warnings", "notes")}
        return replace(self, form=as_options(self.form), refusal=as_options(self.refusal), **texts)


def diagnose(
    pairs: Pairs,
    classes: str | Path | ClassTable | None = None,
    tolerant: bool = False,
    *,
    limit: int | None = None,
    progress: Progress = silent,
) -> Diagnosis:
    """Look at the masks, `limit` of them evenly or all, and tell what they are and what is wrong with them.

    The table is `classes` (a table, a shipped one's name, a TOML file), else `classes.toml` beside the images, else
    what the masks themselves tell.

    Raises:
        UserError: for a table that can't be read, or that `tolerant` doesn't go with.
    """
    table, source = _table(pairs, classes)
    facts = look(pairs, _evenly(len(pairs.files), limit), progress)
    whole = [f for f in facts if not f.broken]
    toml = (Path(pairs.folder or pairs.root) / FILE).as_posix()
    if not whole:
        first = next((f"{f.file}: {f.broken}" for f in facts), "there is none")
        verdict = Verdict(None, "nothing readable", f"not one mask can be read ({first})")
    elif not any(len(f.tally.tokens) for f in whole):
        verdict = Verdict(None, "no data", "every mask holds its nodata value alone; there is nothing to learn")
    elif table is not None:
        verdict = read_by(whole, table, tolerant, toml)
    else:
        verdict = infer(whole, tolerant, toml)
    notes = (*verdict.notes, *([f"classes are those of {source}"] if source else []))
    return _finished(pairs, facts, replace(verdict, notes=notes))


def resolve(
    pairs: Pairs,
    classes: str | Path | ClassTable | None = None,
    tolerant: bool = False,
    progress: Progress = silent,
) -> MaskDecoder:
    """Return the decoder of these masks, for training; a table that is known is told from a sample of them.

    Masks that don't fit are found when they are decoded.

    Raises:
        UserError: when what they are can't be told: with what to write.
    """
    known = _table(pairs, classes)[0]
    found = diagnose(pairs, known, tolerant, limit=None if known is None else _SAMPLE, progress=progress)
    if found.decoder is None or found.refusal:
        raise UserError(one_line(f"{pairs.root}: {found.refusal}"))
    for text in found.hidden:
        warn(text)
    return found.decoder


def _table(pairs: Pairs, classes: str | Path | ClassTable | None) -> tuple[ClassTable | None, str]:
    """Return the table that was named or lies beside the images, and where that is."""
    if isinstance(classes, ClassTable):
        return classes, ""
    if classes is not None:
        try:
            return load_table(classes), ""
        except UserError as error:
            raise UserError(re.sub(r"^classes: no ", "data.classes: no ", str(error))) from error
    for folder in dict.fromkeys((pairs.root, pairs.folder)):
        if folder and (path := Path(folder) / FILE).is_file():
            return load_table(path), str(path)
    return None, ""


def _evenly(count: int, limit: int | None) -> list[int]:
    if limit is None or limit >= count:
        return list(range(count))
    return np.unique(np.linspace(0, count - 1, limit).astype(int)).tolist()


def _finished(pairs: Pairs, facts: Sequence[Facts], verdict: Verdict) -> Diagnosis:
    whole = [f for f in facts if not f.broken]
    split_of = {int(i): split for split, index in pairs.splits.items() for i in index}
    counts: dict[str, np.ndarray] = {}
    ignored: dict[str, int] = {}
    shown: dict[int, np.ndarray] = {}
    hidden: tuple[str, ...] = ()
    warnings, notes = list(verdict.warnings), list(verdict.notes)
    refusal = [verdict.refusal] if verdict.refusal else []
    if verdict.decoder is not None:
        each = {f.index: _pixels(f, verdict.decoder) for f in whole}
        classes = len(verdict.decoder.table.names)
        hidden = tuple(_hidden(whole, verdict.decoder))
        shown = {i: own[:classes] > 0 for i, own in each.items() if not own[256]}
        for split in sorted(pairs.splits, key=_SPLITS.index):
            own = [each[i] for i in each if split_of.get(i) == split]
            total = np.sum(own, axis=0) if own else np.zeros(257, np.int64)
            counts[split] = total[: len(verdict.decoder.table.names)]
            ignored[split] = int(total[IGNORE])
        warnings += _absent(verdict.decoder.table, counts)
        warnings += _empty(whole, each)
        notes += _uniform(whole, each, verdict.decoder.table)
    return Diagnosis(
        verdict.decoder, verdict.form, verdict.refusal, (*refusal, *verdict.errors, *_sizes(pairs, whole)),
        (*warnings, *hidden), (*notes, *_void(whole)), tuple((f.file, f.broken) for f in facts if f.broken),
        verdict.candidates, verdict.proposal, counts, ignored, len(facts), shown, hidden,
    )  # fmt: skip


def _pixels(facts: Facts, decoder: MaskDecoder) -> np.ndarray:
    """Return the pixels of each channel, of UNKNOWN and of IGNORE: int64 [257]; what has no class comes last too."""
    found = np.zeros(257, np.int64)
    np.add.at(found, channels_of(facts, decoder), counts_of(facts, decoder))
    found[256], found[UNKNOWN] = found[UNKNOWN], 0
    found[IGNORE] += facts.void
    return found


def _void(facts: Sequence[Facts]) -> Iterator[str]:
    if files := [f.file for f in facts if f.void]:
        yield f"nodata is void (no class) in {counted(len(files), 'mask')}: {name_files(files)}"


def _hidden(facts: Sequence[Facts], decoder: MaskDecoder) -> Iterator[str]:
    """Say which classes have the value that stands for no data."""
    files: dict[int, list[str]] = {}
    for f in facts:
        if f.void and f.nodata is not None:
            codes = np.array([f.shades[f.nodata] if f.has_values and decoder.encoding == "colours" else f.nodata])
            own = decoder.of_codes(codes) if decoder.encoding == "colours" else decoder.of_values(f.kind)[codes & 255]
            files.setdefault(int(own[0]), []).append(f.file)
    for channel, some in files.items():
        if channel < len(decoder.table.names):
            yield (
                f'{name_files(some)}: nodata is the value of class "{decoder.table.names[channel]}"; its pixels are '
                "void there; `gdal_edit.py -unsetnodata FILE` makes them that class"
            )


def _sizes(pairs: Pairs, facts: Sequence[Facts]) -> Iterator[str]:
    for f in facts:
        if f.image_size is None or f.size == f.image_size:
            continue
        mask, image = ("×".join(map(str, size)) for size in (f.size, f.image_size))
        turned = "; one of them is turned by 90°" if f.size == f.image_size[::-1] else ""
        yield f"{f.file}: {mask}, but its image {pairs.files[f.index]} is {image}{turned}"


def _absent(table: ClassTable, counts: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Say which classes a split lacks, of those that have pixels at all and of those that have none."""
    for split, own in counts.items():
        if own.sum() and (lacking := [f'"{n}"' for n, c in zip(table.names, own, strict=True) if c == 0]):
            why = "; they can't be learnt" if split == "train" else "; they have no IoU there"
            yield f"{split} has no pixel of {len(lacking)} of {len(table.names)} classes: {', '.join(lacking)}{why}"


def _empty(facts: Sequence[Facts], each: Mapping[int, np.ndarray]) -> Iterator[str]:
    files = [f.file for f in facts if each[f.index][IGNORE] == each[f.index].sum()]
    if files:
        some = counted(len(files), "mask")
        yield f"{some} without a pixel of any class, from which nothing is learnt: {name_files(files)}"


def _uniform(facts: Sequence[Facts], each: Mapping[int, np.ndarray], table: ClassTable) -> Iterator[str]:
    """Say how many masks are of one class alone, and which class that is most often."""
    only = [int(np.argmax(each[f.index])) for f in facts if np.count_nonzero(each[f.index]) == 1]
    trained = [channel for channel in only if channel < len(table.names)]
    if trained:
        channel, count = Counter(trained).most_common(1)[0]
        which = f'{count:,} of them of "{table.names[channel]}"'
        yield f"{len(trained):,} of {len(facts):,} masks are of one class alone, {which}"
