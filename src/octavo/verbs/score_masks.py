"""A folder of predicted masks, ours or another tool's, against the truth: the mIoU card."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from octavo.data.classes import IGNORE, ClassTable
from octavo.data.decoding import decoded
from octavo.data.doctor import resolve
from octavo.data.fitting import naming_options
from octavo.data.masks import Encoding, MaskDecoder, RawMask, read_mask
from octavo.data.matching import IMAGE_TAILS, MASK_TAILS
from octavo.data.pairs import Pairs
from octavo.data.pixels import BrokenImage, probe
from octavo.data.torchvision_data import read_pairs
from octavo.data.walk import natural, one_line, walk
from octavo.errors import UserError, lookup
from octavo.numbers.bootstrap import group_ids
from octavo.numbers.confusion import confusion
from octavo.numbers.grade_masks import grade_masks, mask_card
from octavo.numbers.mask_results import MaskScore
from octavo.numbers.rules import RULES
from octavo.progress import Progress, silent

_AMBIGUOUS = -1
_SAMPLE = 16  # predictions by which their encoding is told
_SHOWN = 3
_OVERLAY = "_overlay"
_TAIL = re.compile(
    rf"(.+?)[ _.-](?:{'|'.join((*IMAGE_TAILS, *MASK_TAILS, 'pred', 'predicted', 'prediction'))})", re.IGNORECASE
)


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

    A prediction belongs to the image (or mask) whose path ends with its own, without the files' endings and words such
    as `_sat`, `_mask` and `_pred`: to `val/0010_sat.jpg` belong `0010.png`, `0010_mask.png` and `val/0010_sat.png`.
    Its grey values or palette indices are the table's ids, or its colours the table's: which is told by looking.

    Args:
        predictions: a folder, looked through whole; `…_overlay` beside a prediction is passed over.
        truth: a folder or CSV file of images and masks, `torchvision:VOCSegmentation`, or what was read from one.
        classes: table of classes: a name or a TOML file, if the truth doesn't tell.
        tolerant: take each channel of a mask as 255 from 128 on, else as 0.
        split: the part to score on; by default `val`, or everything where there is none.
        layout: the truth's layout, if it can't be found by looking.
        columns: what is what in a table of the truth, if that can't be.
        rule: of the headline, a key of `RULES`; by default `course` if the table has classes that aren't scored, else
            `voc`.
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
    pairs = truth if isinstance(truth, Pairs) else read_pairs(truth, layout, columns, progress=progress)
    part, name = _part(pairs, split)
    answers = _matched(folder, pairs, part, name)
    gone = [i for i in part.tolist() if i not in answers]
    if gone and missing == "refuse":
        raise UserError(
            f"{folder}: {len(gone)} of {len(part)} images of {name} have no prediction: "
            f"{_some([pairs.files[i] for i in gone])}; add them, or ask for missing ones to be counted as wrong"
        )
    _same_sizes(folder, pairs, answers)
    with naming_options():
        decoder = resolve(pairs, classes, tolerant, progress)
        reader = _reader(folder, list(answers.values()), decoder)
        counts = _counted(folder, pairs, answers, decoder, reader, progress)
        confusions = np.stack([*counts, *_blank(pairs, gone, decoder)])
    table = decoder.table
    chosen = rule or ("voc" if table.scored.all() else "course")
    groups = group_ids([pairs.groups[i] for i in (*answers, *gone)]) if pairs.groups else None
    report = grade_masks(
        confusions, table.names, table.scored, rule=chosen, split=name, seed=seed, replicates=replicates, level=level,
        groups=groups,
    )  # fmt: skip
    if gone:
        note = f"{len(gone)} of {len(part)} images have no prediction; their pixels count as no class"
        report = report.model_copy(update={"warnings": (*report.warnings, note)})
    rows = mask_card(confusions, table.names, table.scored, chosen)
    return MaskScore(report=report, rows=rows, missing=len(gone), read_as=reader.encoding, table=table.name)


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


def _stem(file: str) -> str:
    """Return a path without its ending, in composed Unicode (macOS writes é as e and ´)."""
    return unicodedata.normalize("NFC", str(PurePosixPath(file).with_suffix("")))


def _bare(stem: str) -> str:
    """Return a stem without the word that says what the file is: `val/0010_sat` → `val/0010`."""
    path = PurePosixPath(stem)
    hit = _TAIL.fullmatch(path.name)
    return str(path.with_name(hit[1])) if hit else stem


def _ends(path: str) -> list[str]:
    """Return `a/b/c`, `b/c`, `c`."""
    parts = path.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


@dataclass(frozen=True, eq=False)
class _Index:
    """The images of a part by every end of their path and of their mask's: whole stems first, then bare ones."""

    stems: dict[str, int]
    bare: dict[str, int]

    @classmethod
    def of(cls, pairs: Pairs, part: Sequence[int]) -> _Index:
        index = cls({}, {})
        for i in part:
            names = {_stem(pairs.files[i]), _stem(pairs.masks[i])}
            for known, own in ((index.stems, names), (index.bare, {_bare(n) for n in names})):
                for end in {e for name in own for e in _ends(name)}:
                    known[end] = _AMBIGUOUS if known.get(end, i) != i else i
        return index

    def find(self, stem: str) -> int | None:
        """Return the image of a prediction's stem, `_AMBIGUOUS` for several, or `None`."""
        # The longest end decides; a whole stem goes before a bare one.
        for known, name in ((self.stems, stem), (self.bare, stem), (self.bare, _bare(stem))):
            for end in _ends(name):
                if end in known:
                    return known[end]
        return None


def _matched(folder: Path, pairs: Pairs, part: NDArray[np.int64], name: str) -> dict[int, Path]:
    """Return the prediction of each image that has one, in the order of the images."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a folder of predicted masks, one an image")
    files = sorted(walk(folder), key=natural)
    stems = {_stem(file) for file in files}
    files = [f for f in files if not (_stem(f).endswith(_OVERLAY) and _stem(f).removesuffix(_OVERLAY) in stems)]
    example = f"{PurePosixPath(_bare(_stem(pairs.files[part[0]]))).name}.png"
    if not files:
        raise UserError(f'{folder}: no predicted masks; expected one an image of {name}, such as "{example}"')
    index, others = _Index.of(pairs, part.tolist()), None
    found: dict[int, str] = {}
    wrong: dict[str, list[str]] = {}
    for file in files:
        image = index.find(_stem(file))
        if image is None:
            others = others or _Index.of(pairs, np.setdiff1d(np.arange(len(pairs.files)), part).tolist())
            why = "belong to no image" if others.find(_stem(file)) is None else "belong to another split"
            wrong.setdefault(why, []).append(file)
        elif image == _AMBIGUOUS:
            wrong.setdefault("fit several images", []).append(file)
        elif image in found:
            wrong.setdefault(f'belong to an image that has one already ("{found[image]}")', []).append(file)
        else:
            found[image] = file
    for why, bad in wrong.items():
        raise UserError(
            one_line(f"{folder}: {len(bad)} of {len(files)} predictions {why}: {_some(bad)}; expected one for each "
                     f'image of {name} in {pairs.root}, named like "{example}"; remove or rename the others')
        )  # fmt: skip
    return {i: folder / found[i] for i in sorted(found)}


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
            one_line(f"{folder}: {len(bad)} of {len(answers)} predictions differ from their mask in size: {_some(bad)}"
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
    pairs: Pairs,
    answers: dict[int, Path],
    truth: MaskDecoder,
    reader: MaskDecoder,
    progress: Progress,
) -> list[NDArray[np.int64]]:
    """Return the confusion of each image with a prediction; of the masks only a few are in memory at a time."""
    names, broken, counts = truth.table.names, [], []
    masks = decoded([pairs.mask_path(i) for i in answers], truth)
    guesses = decoded(list(answers.values()), reader)
    for done, (i, mask, guess) in enumerate(zip(answers, masks, guesses, strict=True)):
        progress("scoring masks", done, len(answers))
        if isinstance(mask, str):
            raise UserError(one_line(f"{pairs.mask_path(i)}: {mask}"))
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


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
