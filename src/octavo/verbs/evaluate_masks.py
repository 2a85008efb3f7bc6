"""A segmenter's run + images and masks → a report: mIoU by the recipe's rule, class by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from octavo.cache import open_cache
from octavo.data import store, torchvision_data
from octavo.data.batches import MaskRows
from octavo.data.division import scored_without
from octavo.data.doctor import resolve
from octavo.data.masks import MaskDecoder
from octavo.data.pairs import Pairs
from octavo.data.pixels import BrokenImage
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import find
from octavo.engine.restore_segmenter import APPROXIMATE, TrainedSegmenter, restore_segmenter
from octavo.engine.windows import WHOLE, Told
from octavo.errors import UserError, lookup
from octavo.numbers.bootstrap import group_ids
from octavo.numbers.confusion import confusion
from octavo.numbers.grade_masks import grade_masks
from octavo.numbers.mask_results import SegmentReport
from octavo.numbers.rules import RULES
from octavo.progress import Progress, silent
from octavo.recipe import SegmentRecipe
from octavo.verbs.gate import alone, told, without_twins
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
    recipe, table = run.recipe_as(SegmentRecipe), run.table
    member = run.member(recipe.segmenter.name)
    if not member.finished:
        raise UserError(f"{run.path}: this run is not finished; go on with `{run.resume}`")
    if rule:
        lookup(RULES, rule, "--rule")
    notes: tuple[str, ...] = ()
    if data is None:
        parts = member.outputs()
        name = split or "val"
        confusions, groups = lookup(parts, name, "--split"), run.groups(name)
    else:
        cache = open_cache(cache)
        pairs = torchvision_data.read_pairs(data, layout, columns, cache=cache, progress=progress)
        confusions, name, notes, groups = _confusions(run, pairs, split, device, cache, skip_broken, progress)
    report = grade_masks(
        confusions.astype(np.int64),
        table.names,
        table.scored,
        rule=rule or recipe.measure.rule,
        split=name,
        seed=recipe.seed,
        groups=groups,
    )
    found = alone(run, name)  # other data are called FOLDER/PART, which is none of the run's
    if found is None or len(found[0]) != len(confusions):
        return report.model_copy(update={"warnings": (*report.warnings, *notes)})
    own, kinds = found
    clean = without_twins(own, kinds, {}, str((run.leaks or {})["rule"]))
    if own.any() and not own.all():
        rest = grade_masks(
            confusions[own].astype(np.int64), table.names, table.scored, rule=report.rule_name, split=name,
            seed=recipe.seed, groups=None if groups is None else groups[own],
        )  # fmt: skip
        clean = clean.model_copy(update={"metrics": {key: value for key, value in rest.metrics.items() if value}})
    beware = (*report.warnings, *notes, *told(clean, "miou", "mIoU"))
    return report.model_copy(update={"warnings": beware, "without_twins": clean})


def _confusions(
    run: RunFolder,
    pairs: Pairs,
    split: str | None,
    device: str,
    cache: Path,
    skip_broken: bool,
    progress: Progress,
) -> tuple[np.ndarray, str, tuple[str, ...], np.ndarray | None]:
    """Return the counts of each image of other data, int64 [n,C+1,C+1], their name, what to know of them, their groups.

    Groups are int [n], None where the data have none.
    """
    masks = store.build(
        pairs.mask_files, _decoder(run, pairs, progress), cache, skip_broken=skip_broken, progress=progress
    )
    own = masks.digest == run.manifest["data"]["masks"]
    if own and split is None:  # the run's own images, most of which it was trained on
        return run.member(run.recipe_as(SegmentRecipe).segmenter.name).outputs()["val"], "val", (), run.groups("val")
    indices, name = _part(pairs, split)
    truth, trained = MaskRows(masks), restore_segmenter(run, find(device).device)
    rows, groups, cut, lost = [], [], 0, set(masks.broken)
    for done, index in enumerate(indices.tolist(), 1):

        def told(windows: int, total: int, done: int = done, name: str = pairs.files[index]) -> None:
            progress("evaluate", done - 1, len(indices), f"{name}: window {windows:,} of {total:,}")

        ids = None if index in masks.broken else _ids(pairs, index, trained, skip_broken, told)
        if ids is None:
            lost.add(index)
        else:
            mask = truth[np.array([index])][0]
            if ids.shape != mask.shape:
                raise UserError(
                    f"{pairs.path(index)}: is {ids.shape[1]}×{ids.shape[0]} pixels, its mask "
                    f"{mask.shape[1]}×{mask.shape[0]}; image and mask must be of one size"
                )
            rows.append(confusion(ids, mask, len(run.table.names)))
            groups.append(pairs.groups[index] if pairs.groups else "")
            cut += not trained.goes_whole(*ids.shape)
        progress("evaluate", done, len(indices))
    notes = scored_without(pairs, indices, lost, name)
    if not rows:
        raise UserError(f"{pairs.root}: no images with masks to score")
    called = name if own else f"{Path(pairs.root).stem}/{name}"
    return np.stack(rows), called, (*notes, *_on_windows(trained, cut)), group_ids(groups)


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


def _decoder(run: RunFolder, pairs: Pairs, progress: Progress) -> MaskDecoder:
    """Return how the other data's masks are read: by the run's table, in whichever encoding they are."""
    return resolve(pairs, run.table, run.recipe_as(SegmentRecipe).data.tolerant, progress)


def _part(pairs: Pairs, split: str | None) -> tuple[np.ndarray, str]:
    if split is not None:
        return lookup(pairs.splits, split, f"{pairs.root}: --split"), split
    if pairs.own_split:
        return pairs.splits["val"], "val"
    return np.arange(len(pairs.files)), "all"
