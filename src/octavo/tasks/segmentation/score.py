"""A folder of predicted masks, ours or another tool's, against the truth: the mIoU card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from octavo.data.classes import IGNORE, ClassTable
from octavo.data.decoding import decoded
from octavo.data.doctor import resolve
from octavo.data.fitting import naming_options
from octavo.data.masks import Encoding, MaskDecoder, RawMask, read_mask
from octavo.data.pairs import Pairs
from octavo.data.pixels import BrokenImage, probe
from octavo.data.walk import one_line
from octavo.errors import UserError, lookup
from octavo.numbers.bootstrap import group_ids
from octavo.numbers.confusion import confusion
from octavo.numbers.grade_masks import grade_masks, mask_card, present_in
from octavo.numbers.mask_results import MaskScore
from octavo.numbers.rules import RULES, headline_rule
from octavo.progress import Progress, silent
from octavo.tasks.segmentation.mask_files import match_masks, some
from octavo.tasks.segmentation.truth import MaskedTruth, masked_truth

_SAMPLE = 16  # predictions by which their encoding is told


def score_masks(
    predictions: str | Path,
    truth: str | Path | Pairs,
    *,
    classes: str | Path | ClassTable | None = None,
    tolerant: bool = False,
    split: str | None = None,
    layout: str | None = None,
    columns: str | None = None,
    rule: str | None = None,
    missing: Literal["refuse", "wrong"] = "refuse",
    seed: int = 0,
    replicates: int = 2000,
    level: float = 0.95,
    progress: Progress = silent,
) -> MaskScore:
    """Return how predicted masks compare with the truth, by every rule.

    A prediction belongs to the image (or mask) that has its path, else to the one with which it shares the longest end
    of a path, without the files' endings and words such as `_sat`, `_mask` and `_pred`: to `val/0010_sat.jpg` belong
    `0010.png`, `0010_mask.png` and `val/0010_sat.png`. One that is so an image's of another split is refused.
    Its grey values or palette indices are the table's ids, or its colours the table's: which is told by looking.

    Args:
        predictions: a folder, looked through whole; `…_overlay` beside a prediction is passed over.
        truth: a folder or CSV file of images and masks, `torchvision:VOCSegmentation`, what was read from one, or a
            run, whose images, masks, parts, classes and rule are then the truth's.
        classes: table of classes: a name or a TOML file, if the truth doesn't tell.
        tolerant: take each channel of a mask as 255 from 128 on, else as 0.
        split: the part to score on; by default `val`, or everything where there is none.
        layout: the truth's layout, if it can't be found by looking.
        columns: what is what in a table of the truth, if that can't be.
        rule: of the headline, a key of `RULES`; by default see `headline_rule`.
        missing: what to do with images without prediction: `refuse`, or count their pixels as `wrong`.
        seed: of the bootstrap.
        replicates: of the same.
        level: of all intervals.
        progress: told how far it is.

    Raises:
        UserError: predictions that are missing, that belong to no image, to several, or to one that has one already,
            that differ from their mask in size, or that hold values or colours of no class; and what is wrong with the
            truth or the options.
    """
    folder = Path(predictions)
    lookup({"refuse": 0, "wrong": 0}, missing, "missing")
    if rule is not None:
        lookup(RULES, rule, "rule")
    masked = masked_truth(truth, layout, columns, classes, tolerant, progress)
    pairs = masked.pairs
    part, name = _part(pairs, split)
    matched = match_masks(folder, pairs, part, name)
    answers = matched.files
    gone = [i for i in part.tolist() if i not in answers]
    if gone and missing == "refuse":
        raise UserError(
            f"{folder}: {len(gone)} of {len(part)} images of {name} have no prediction: "
            f"{some([pairs.files[i] for i in gone])}; add them, or ask for missing ones to be counted as wrong"
        )
    _same_sizes(folder, pairs, answers)
    with naming_options():
        decoder = resolve(pairs, masked.classes, masked.tolerant, progress)
        reader = _reader(folder, list(answers.values()), decoder)
        counts = dict(zip(answers, _counted(folder, masked, answers, decoder, reader, progress), strict=True))
        counts |= dict(zip(gone, _blank(pairs, gone, decoder), strict=True))
    confusions = np.stack([counts[i] for i in part.tolist()])
    table = decoder.table
    chosen = headline_rule(rule or masked.rule, table.scored, present_in(confusions))
    groups = group_ids([pairs.groups[i] for i in part.tolist()]) if pairs.groups else None
    report = grade_masks(
        confusions, table.names, table.scored, rule=chosen, split=name, seed=seed, replicates=replicates, level=level,
        groups=groups,
    )  # fmt: skip
    notes = matched.warnings
    if gone:
        notes += (f"{len(gone)} of {len(part)} images have no prediction; their pixels count as no class",)
    return MaskScore(
        report=report.model_copy(update={"warnings": (*report.warnings, *notes)}),
        rows=mask_card(confusions, table.names, table.scored, chosen),
        missing=len(gone),
        matched_by=matched.ways,
        read_as=reader.encoding,
        table=table.name,
    )


def _part(pairs: Pairs, split: str | None) -> tuple[NDArray[np.int64], str]:
    """Return the indices to score, and what they are called."""
    everything = np.arange(len(pairs.files))
    if split is None:
        part, name = (pairs.splits["val"], "val") if "val" in pairs.splits else (everything, "all")
    else:
        part, name = lookup({**pairs.splits, "all": everything}, split, f"{pairs.root}: split"), split
    if not len(part):
        raise UserError(f"{pairs.root}: split {name} has no image with a mask to score")
    return np.asarray(part, np.int64), name


def _same_sizes(folder: Path, pairs: Pairs, answers: dict[int, Path]) -> None:
    """Refuse predictions whose size isn't their mask's, by their headers."""
    bad = []
    for i, path in answers.items():
        sizes = []
        for file in (path, pairs.mask_path(i)):
            try:
                header = probe(file)
            except BrokenImage as error:
                raise UserError(one_line(f"{file}: {error}; expected a mask")) from None
            sizes.append(f"{header.width}×{header.height}")
        if sizes[0] != sizes[1]:
            bad.append(f"{path.relative_to(folder).as_posix()} is {sizes[0]}, its mask {sizes[1]}")
    if bad:
        raise UserError(
            one_line(f"{folder}: {len(bad)} of {len(answers)} predictions differ from their mask in size: {some(bad)}"
                     "; predict at the image's own size, or enlarge without interpolating")
        )  # fmt: skip


def _reader(folder: Path, paths: Sequence[Path], truth: MaskDecoder) -> MaskDecoder:
    """Return the decoder that a sample of the predictions is read by."""
    if not paths:
        raise UserError(f"{folder}: no prediction belongs to an image; expected at least one")
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _SAMPLE)).astype(int)).tolist()
    try:
        raws = [read_mask(paths[i]) for i in chosen]
    except BrokenImage as error:
        raise UserError(one_line(f"{folder}: a prediction can't be read as a mask: {error}")) from None
    likely = _by_kind(raws)
    order: tuple[Encoding, ...] = (likely, "ids" if likely == "colours" else "colours")
    for encoding in order:
        # Tolerance suits one encoding of a table and not the other.
        try:
            decoder = replace(truth, encoding=encoding)
        except UserError:
            continue
        if all(_fits(decoder, raw) for raw in raws):
            return decoder
    return replace(truth, encoding=likely, tolerant=truth.tolerant and likely == truth.encoding)


def _by_kind(raws: Sequence[RawMask]) -> Encoding:
    """Return what masks of this kind usually hold: colours if any is in colour or has a palette that isn't grey."""
    for raw in raws:
        used = raw.shades()[np.unique(raw.plane)] if raw.palette is not None else np.zeros(1, np.uint32)
        if raw.kind == "colour" or bool((used != (used & 255) * np.uint32(0x010101)).any()):
            return "colours"
    return "ids"


def _fits(decoder: MaskDecoder, raw: RawMask) -> bool:
    try:
        decoder.channels(raw)
    except BrokenImage:
        return False
    return True


def _counted(
    folder: Path,
    masked: MaskedTruth,
    answers: dict[int, Path],
    truth: MaskDecoder,
    reader: MaskDecoder,
    progress: Progress,
) -> list[NDArray[np.int64]]:
    """Return the confusion of each image with a prediction; of the masks only a few are in memory at a time."""
    pairs, names, broken, counts = masked.pairs, truth.table.names, [], []
    masks = decoded([pairs.mask_path(i) for i in answers], truth)
    guesses = decoded(list(answers.values()), reader)
    for done, (i, mask, guess) in enumerate(zip(answers, masks, guesses, strict=True)):
        progress("scoring masks", done, len(answers))
        if isinstance(mask, str):
            raise UserError(one_line(f"{pairs.mask_path(i)}: {mask}"))
        masked.require_unchanged(i, mask)
        if isinstance(guess, str):
            broken.append(f"{answers[i].relative_to(folder).as_posix()}: {guess}")
        else:
            counts.append(confusion(guess, mask, len(names)))
    if broken:
        more = f" (and {len(broken) - 1} more such predictions)" if len(broken) > 1 else ""
        raise UserError(one_line(f"{folder}: {broken[0]}{more}"))
    return counts


def _blank(pairs: Pairs, gone: Sequence[int], truth: MaskDecoder) -> list[NDArray[np.int64]]:
    """Return the confusion of each image without a prediction: all its pixels are of no class."""
    counts = []
    for i, mask in zip(gone, decoded([pairs.mask_path(i) for i in gone], truth), strict=True):
        if isinstance(mask, str):
            raise UserError(one_line(f"{pairs.mask_path(i)}: {mask}"))
        counts.append(confusion(np.full_like(mask, IGNORE), mask, len(truth.table.names)))
    return counts
