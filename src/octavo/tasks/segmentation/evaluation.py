"""A segmenter's run + images and masks → a report: mIoU by the recipe's rule, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from octavo.cache import open_cache
from octavo.data import store, torchvision_data
from octavo.data.batches import MaskRows
from octavo.data.content import digest_of
from octavo.data.division import scored_without
from octavo.data.doctor import resolve
from octavo.data.pairs import Pairs
from octavo.data.pixels import BrokenImage
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import find
from octavo.engine.identity import IMAGE_COLUMN, MASK_COLUMN, DataIdentity
from octavo.engine.windows import WHOLE, Told
from octavo.errors import UserError, lookup
from octavo.numbers.bootstrap import group_ids
from octavo.numbers.confusion import confusion
from octavo.numbers.gap import apart, gap_warning
from octavo.numbers.grade_masks import grade_masks, mask_gap, present_in
from octavo.numbers.mask_results import SegmentReport
from octavo.numbers.rules import RULES, headline_rule
from octavo.progress import Progress, silent
from octavo.recipe import SegmentRecipe
from octavo.tasks.leakage import alone, told, without_twins
from octavo.tasks.segmentation.restore import APPROXIMATE, TrainedSegmenter, restore_segmenter
from octavo.tasks.stored_outputs import called, flattered_by, stand_in
from octavo.words import counted


def regrade_masks(run: RunFolder, *, progress: Progress = silent) -> SegmentReport:
    """Grade a segmenter's run on its own validation images from the stored counts; writes `metrics.json`."""
    run.metrics = report = evaluate_masks(run, split="val", progress=progress)
    return report


def evaluate_masks(
    run: RunFolder,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    layout: str | None = None,
    columns: str | None = None,
    device: str = "auto",
    cache: Path | None = None,
    skip_broken: bool = False,
    rule: str | None = None,
    progress: Progress = silent,
) -> SegmentReport:
    """Grade a segmenter on a part of its own data, or on other images and masks.

    Args:
        run: a finished run.
        data: another folder of images and masks, read with the run's own table of classes.
        split: `val` by default; with `data` a split of it, all of it where it has none.
        layout: layout of `data`.
        columns: what is what in a table of `data`, as in `image=img,mask=gt`.
        device: where to compute if the counts aren't stored.
        cache: folder for the store of masks.
        skip_broken: leave out files of `data` that can't be decoded.
        rule: of the headline, instead of the recipe's.
        progress: told after every image.

    Raises:
        UserError: an unfinished run, a split that isn't there, masks that hold what is in no class.
    """
    member = run.member(run.recipe_as(SegmentRecipe).segmenter.name)
    if not member.finished:
        raise UserError(f"{run.path}: this run is not finished; go on with `{run.resume}`")
    if rule:
        lookup(RULES, rule, "--rule")
    if data is not None:
        cache = open_cache(cache)
        pairs = torchvision_data.read_pairs(data, layout, columns, cache=cache, progress=progress)
        given = _decoded(run, pairs, cache, skip_broken, progress)
        found = _of_given(run, given, split, device, skip_broken, progress)
    else:
        name = split or "val"
        found = _Counts(lookup(member.outputs(), name, "--split"), name, run.groups(name))
    report = _graded(run, found, rule)
    if found.images:
        report = flattered_by(report, run.path, found.own or DataIdentity.of_run(run), found.images)
    return report


@dataclass(frozen=True, eq=False)
class _Counts:
    """Counts of the scored images, int64 [n,C+1,C+1], and what is known of these.

    Attributes:
        confusions: the counts.
        name: what the images are called.
        groups: int [n], None where the data have none.
        notes: what to know of how they were predicted.
        images: content digests of other data; empty for the run's own.
        own: the identity of the run's data, where it was needed.
    """

    confusions: np.ndarray
    name: str
    groups: np.ndarray | None
    notes: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    own: DataIdentity | None = None


def _graded(run: RunFolder, found: _Counts, rule: str | None) -> SegmentReport:
    """Grade counts; of the run's own images also without those that training had near copies of."""
    recipe, table = run.recipe_as(SegmentRecipe), run.table
    chosen = headline_rule(rule or recipe.measure.rule, table.scored, present_in(found.confusions))
    grade = partial(grade_masks, names=table.names, scored=table.scored, rule=chosen, split=found.name)
    report = grade(found.confusions.astype(np.int64), groups=found.groups)
    notes = (*found.notes, *(_gap(run, found, chosen) if not found.images else ()))
    clean = alone(run, found.name) if not found.images else None
    if clean is None:
        return report.model_copy(update={"warnings": (*report.warnings, *notes)})
    own, kinds = clean
    apart = without_twins(own, kinds, {}, str((run.leaks or {})["rule"]))
    if own.any() and not own.all():
        groups = None if found.groups is None else found.groups[own]
        rest = grade(found.confusions[own].astype(np.int64), groups=groups)
        apart = apart.model_copy(update={"metrics": {key: value for key, value in rest.metrics.items() if value}})
    beware = (*report.warnings, *notes, *told(apart, "miou", "mIoU"))
    return report.model_copy(update={"warnings": beware, "without_twins": apart})


def _gap(run: RunFolder, found: _Counts, rule: str) -> tuple[str, ...]:
    """Return a warning if a part is scored otherwise than held-out training images, and sampling can't explain it."""
    held = run.member(run.recipe_as(SegmentRecipe).segmenter.name).outputs().get("holdout")
    if found.name not in ("val", "test") or held is None or not len(held):
        return ()
    both = np.concatenate([held, found.confusions]).astype(np.int64)
    groups = (run.groups("holdout"), found.groups)
    units = np.arange(len(both)) if groups[0] is None or groups[1] is None else apart(groups[0], groups[1])
    gap = mask_gap(both, len(held), units, run.table.scored, rule)
    return tuple(filter(None, [gap_warning(gap, f"mIoU ({rule})", len(held), len(both) - len(held), found.name)]))


@dataclass(frozen=True, eq=False)
class _Given:
    """Other data that a run is graded on: images, masks as the run's table reads them, and their identity."""

    run: RunFolder
    pairs: Pairs
    masks: store.Pixels
    cache: Path
    progress: Progress

    def identity(self, places: Sequence[int] | np.ndarray) -> DataIdentity:
        """Return what the images at some places are; the content of the others stays unknown, for want of decoding."""
        decoder = store.ImageDecoder(scale=self.run.recipe_as(SegmentRecipe).data.scale)
        digests, whole = self._digests(decoder, [int(i) for i in places])
        groups = self.pairs.groups or [""] * len(self.pairs.files)
        rows = [
            {"file": file, "group": group, MASK_COLUMN: mask} | ({IMAGE_COLUMN: digests[i]} if i in digests else {})
            for i, (file, group, mask) in enumerate(zip(self.pairs.files, groups, self.masks.digests, strict=True))
        ]
        return DataIdentity(rows, self.pairs.own_split, None, whole, self.masks.digest)

    def _digests(self, decoder: store.ImageDecoder, places: Sequence[int]) -> tuple[dict[int, str], str]:
        """Return the content digests of some images, and that of all of them if the cache knows it, else nothing."""
        if pixels := store.built(self.pairs, decoder, self.cache):
            return {i: pixels.digests[i] for i in places}, pixels.digest
        images, found = store.decoded([self.pairs.path(i) for i in places], decoder), dict[int, str]()
        for done, (i, image) in enumerate(zip(places, images, strict=True), 1):
            found[i] = "" if isinstance(image, str) else digest_of(image.transpose(2, 0, 1))
            self.progress("compare images", done, len(places))
        return found, ""


def _decoded(run: RunFolder, pairs: Pairs, cache: Path, skip_broken: bool, progress: Progress) -> _Given:
    """Return other data, its masks read by the run's table, in whichever encoding they are."""
    decoder = resolve(pairs, run.table, run.recipe_as(SegmentRecipe).data.tolerant, progress)
    masks = store.build(pairs.mask_files, decoder, cache, skip_broken=skip_broken, progress=progress)
    return _Given(run, pairs, masks, cache, progress)


def _of_given(
    run: RunFolder, given: _Given, split: str | None, device: str, skip_broken: bool, progress: Progress
) -> _Counts:
    """Return the counts of other data; those that are stored, where all of it is the run's own."""
    pairs = given.pairs
    indices, name = _part(pairs, split)
    asked, broken = indices, np.array(sorted(given.masks.broken), np.int64)
    indices = np.setdiff1d(asked, broken)
    own = DataIdentity.of_run(run)
    everything = split is None and not pairs.own_split
    identity = given.identity(np.arange(len(pairs.files)) if everything else indices)
    own = own.known_from(identity)
    if stands := stand_in(own, identity, indices, split):
        stored = run.member(run.recipe_as(SegmentRecipe).segmenter.name).outputs()[stands]
        return _Counts(stored, stands, run.groups(stands))
    name = called(own, identity, indices, pairs.root, name)
    trained = restore_segmenter(run, find(device).device)
    rows, scored, cut = _predicted(given, indices, trained, skip_broken, progress)
    notes = scored_without(pairs, asked, set(asked.tolist()) - set(scored), name)
    if not rows:
        raise UserError(f"{pairs.root}: no images with masks to score")
    groups = group_ids([pairs.groups[i] if pairs.groups else "" for i in scored])
    images = tuple(identity.rows[i].get(IMAGE_COLUMN, "") for i in scored)
    return _Counts(np.stack(rows), name, groups, (*notes, *_on_windows(trained, cut)), images, own)


def _predicted(
    given: _Given, indices: np.ndarray, trained: TrainedSegmenter, skip_broken: bool, progress: Progress
) -> tuple[list[np.ndarray], list[int], int]:
    """Return the counts of each image that can be read, which those are, and how many went in windows."""
    pairs, truth = given.pairs, MaskRows(given.masks)
    rows: list[np.ndarray] = []
    scored: list[int] = []
    cut = 0
    for done, index in enumerate(indices.tolist(), 1):

        def told(windows: int, total: int, done: int = done, name: str = pairs.files[index]) -> None:
            progress("evaluate", done - 1, len(indices), f"{name}: window {windows:,} of {total:,}")

        ids = _ids(pairs, index, trained, skip_broken, told)
        if ids is not None:
            mask = truth[np.array([index])][0]
            if ids.shape != mask.shape:
                raise UserError(
                    f"{pairs.path(index)}: is {ids.shape[1]}×{ids.shape[0]} pixels, its mask "
                    f"{mask.shape[1]}×{mask.shape[0]}; image and mask must be of one size"
                )
            rows.append(confusion(ids, mask, len(given.run.table.names)))
            scored.append(index)
            cut += not trained.goes_whole(*ids.shape)
        progress("evaluate", done, len(indices))
    return rows, scored, cut


def _on_windows(trained: TrainedSegmenter, cut: int) -> tuple[str, ...]:
    """Say of how many images the masks were made in windows, and what that did to them."""
    if not cut:
        return ()
    what = f"; {APPROXIMATE}" if trained.sees_whole else ""
    return (f"{counted(cut, 'image')} of more than {WHOLE:,} pixels (after data.scale) predicted in windows{what}",)


def _ids(pairs: Pairs, index: int, trained: TrainedSegmenter, skip_broken: bool, told: Told) -> np.ndarray | None:
    """Return the predicted ids of one image in the size of its file, or None for a broken one that is left out."""
    try:
        return trained.ids(pairs.path(index), told)
    except BrokenImage as error:
        if skip_broken:
            return None
        raise UserError(f"{pairs.path(index)}: {error}; mend it, or leave it out by --skip-broken") from error


def _part(pairs: Pairs, split: str | None) -> tuple[np.ndarray, str]:
    if split is not None:
        return lookup(pairs.splits, split, f"{pairs.root}: --split"), split
    if pairs.own_split:
        return pairs.splits["val"], "val"
    return np.arange(len(pairs.files)), "all"
