"""A run + data → a report: every member and the ensemble, each number with its interval and its rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from scipy.special import softmax

from octavo.cache import open_cache
from octavo.data import store, torchvision_data
from octavo.data.batches import PixelRows, in_order
from octavo.data.corrections import beware_of
from octavo.data.division import scored_without
from octavo.data.samples import Samples
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import find
from octavo.engine.identity import IMAGE_COLUMN, DataIdentity
from octavo.engine.restore import answers, restore_all
from octavo.engine.sets import METHOD, half_tried, tried_on
from octavo.errors import NotWritten, UserError, lookup
from octavo.log import warn
from octavo.numbers.bootstrap import group_ids, interval
from octavo.numbers.ensemble import Ensemble
from octavo.numbers.gap import gap_warning, share_gap
from octavo.numbers.grade import grade
from octavo.numbers.metrics import METRICS
from octavo.numbers.results import Interval, Report, WithoutTwins
from octavo.progress import Progress, silent
from octavo.recipe import ClassifyRecipe
from octavo.tasks.classification.combination import as_the_reference, combine, has_part
from octavo.tasks.leakage import alone, told, without_twins
from octavo.tasks.stored_outputs import called, flattered_by, stand_in

BATCH = 64
_CLEAN = ("accuracy", "balanced_accuracy", "macro_f1", "nll")
"""Metrics that are told without the images that training had too."""


def regrade(run: RunFolder, *, progress: Progress = silent) -> Report:
    """Grade a run on its own validation images from the stored logits; writes `metrics.json` and the predictions."""
    report = _graded(run, run.outputs("val"), run.labels("val"), "val", False, progress, run.groups("val"))
    _keep(run, report)
    return report


def _keep(run: RunFolder, report: Report) -> None:
    answer = run.ensemble.logits(run.outputs("val")).argmax(1)
    names, classes = run.files("val"), run.manifest["classes"]
    short = [Path(file).name for file in names]
    ids = short if len(set(short)) == len(short) else names  # a name in two class folders needs its path
    run.write_predictions("val", [{"image_id": name, "label": classes[i]} for name, i in zip(ids, answer, strict=True)])
    run.metrics = report


def evaluate(
    run: RunFolder,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    layout: str | None = None,
    columns: str | None = None,
    device: str = "auto",
    cache: Path | None = None,
    skip_broken: bool = False,
    like_reference: bool = False,
    coverage: float | None = None,
    sets: str = METHOD,
    progress: Progress = silent,
) -> Report:
    """Grade a run on a part of its own data, or on other data.

    Args:
        run: a finished run.
        data: another folder of labelled images; its classes are matched by name. The run's own is scored as without.
        split: `val` by default; with `data` a split of it, all of it where it has none.
        layout: layout of `data`.
        columns: what is what in a table of `data`, as in `image=image_id,label=dx`.
        device: where to compute if the logits aren't stored.
        cache: folder for the pixel store.
        skip_broken: leave out files of `data` that can't be decoded.
        like_reference: choose weights and calibration on the scored images, as is often done: the numbers are then
            labelled as flattered, and stand beside the honest ones. Nothing of the run is changed.
        coverage: also try prediction sets: fitted on the run's validation images and tried on the scored ones, or
            where those are the same, fitted on one half of them and tried on the other.
        sets: how they are made, a key of `conformal.METHODS`.
        progress: told how far it is.

    Raises:
        UserError: an unfinished run, a split that isn't there, a class that the run doesn't know.
    """
    asked = partial(_with_sets, coverage=coverage, method=sets)
    if data is None:
        parts = dict.fromkeys(run.member(run.ensemble.names[0]).outputs())
        lookup(parts, split or "val", "--split")
        part = split or "val"
        logits, labels = run.outputs(part), run.labels(part)
        report = _graded(run, logits, labels, part, like_reference, progress, run.groups(part))
        if part == "val" and not like_reference:
            try:
                _keep(run, report)
            except NotWritten as error:
                warn(f"the numbers are not kept in the run: {error}")
        return asked(report, run, logits, labels)
    cache = open_cache(cache)
    samples = torchvision_data.read(data, layout, columns, cache=cache, progress=progress)
    given = _decoded(run, samples, cache, skip_broken, progress)
    indices, name = _part(given.samples, split)
    whole, indices = indices, np.setdiff1d(indices, np.array(sorted(given.pixels.broken), np.int64))
    own = DataIdentity.of_run(run).known_from(given.identity)
    if stands := stand_in(own, given.identity, indices, split):
        return evaluate(
            run, split=stands, like_reference=like_reference, coverage=coverage, sets=sets, progress=progress
        )
    name = called(own, given.identity, indices, given.samples.root, name)
    notes = scored_without(given.samples, whole, given.pixels.broken, name)
    trained = restore_all(run, run.ensemble.names, find(device).device)
    batches = in_order(PixelRows(given.pixels), indices, given.labels, BATCH)
    stack, truth = answers(trained, batches, progress=progress, what="evaluate"), given.labels[indices]
    groups = group_ids([given.samples.groups[i] for i in indices]) if given.samples.groups else None
    report = _graded(run, stack, truth, name, like_reference, progress, groups, known=False)
    report = report.model_copy(update={"warnings": (*report.warnings, *notes)})
    images = [given.pixels.digests[i] for i in indices]
    known = [row.get(IMAGE_COLUMN, "") for row in own.part_rows("val")]
    return asked(flattered_by(report, run.path, own, images), run, stack, truth, images=images, validation=known)


@dataclass(frozen=True, eq=False)
class _Given:
    """Other data that a run is graded on: samples, their labels as the run's class ids [N], pixels, and identity."""

    samples: Samples
    labels: np.ndarray
    pixels: store.Pixels

    @cached_property
    def identity(self) -> DataIdentity:
        """What the images are, and what they are labelled with."""
        names = [self.samples.classes[label] if label >= 0 else "" for label in self.samples.labels]
        groups = self.samples.groups or [""] * len(names)
        rows = [
            {"file": file, "label": name, "group": group, IMAGE_COLUMN: content}
            for file, name, group, content in zip(self.samples.files, names, groups, self.pixels.digests, strict=True)
        ]
        return DataIdentity(rows, self.samples.own_split, None, self.pixels.digest)


def _decoded(run: RunFolder, samples: Samples, cache: Path, skip_broken: bool, progress: Progress) -> _Given:
    """Return other data, decoded as a run's own were."""
    labels = _labels(run, samples)
    decoder = store.ImageDecoder(run.recipe_as(ClassifyRecipe).stored_side)
    return _Given(samples, labels, store.build(samples, decoder, cache, skip_broken=skip_broken, progress=progress))


def _with_sets(
    report: Report,
    run: RunFolder,
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    coverage: float | None,
    method: str,
    images: Sequence[str] = (),
    validation: Sequence[str] = (),
) -> Report:
    """Return the report with prediction sets tried on the scored images, logits [M,n,C] and labels int [n].

    Of other data `images` are the content digests, and `validation` those of the run's validation images.
    """
    if coverage is None:
        return report
    if not images and report.split == "val":
        return report.model_copy(update={"sets": half_tried(run, coverage, method)})
    probabilities, where = softmax(run.ensemble.logits(logits), axis=1), f"the images of {report.split}"
    found = tried_on(run, probabilities, labels, where, coverage, method, images=images, validation=validation)
    return report.model_copy(update={"sets": found})


def _graded(
    run: RunFolder,
    logits: np.ndarray,
    labels: np.ndarray,
    split: str,
    like_reference: bool,
    progress: Progress,
    groups: np.ndarray | None,
    *,
    known: bool = True,
) -> Report:
    """Grade logits [M,n,C] of a part of the run's data, `known`, or of other images."""
    recipe, ensemble = run.recipe_as(ClassifyRecipe), run.ensemble
    fit_on = recipe.ensemble.fit_on
    fit = (run.outputs(fit_on), run.labels(fit_on)) if has_part(run, fit_on) else None
    rival = None
    where = "out-of-fold" if recipe.folds and fit_on == "holdout" else fit_on
    if like_reference and len(ensemble.names) < 2 and ensemble.calibration.method == "none":
        raise UserError("--score-like-reference: one member without calibration; there is nothing to choose")
    if fit_on == split:  # the run is already as the reference's: what would be honest?
        rival = combine(run, "holdout") if has_part(run, "holdout") else None
    elif split not in ("holdout", "train"):
        rival = as_the_reference(recipe, ensemble, logits, labels)
        if like_reference:
            rival, ensemble, fit, where = ensemble, rival, (logits, labels), split
    report = grade(
        ensemble.names,
        logits,
        labels,
        run.manifest["classes"],
        ensemble,
        split=split,
        fit=fit,
        fitted_on=where if fit is not None else "none",
        rounds=recipe.ensemble.rounds,
        rival=rival,
        groups=groups,
        progress=progress,
    )
    clean = _without_twins(run, ensemble, logits, labels, split, groups) if known else None
    beware = (
        *(_gap(run, logits, labels, split, groups) if known else ()),
        *beware_of(run.manifest["data"], split),
        *(told(clean, "accuracy", "the accuracy") if clean else ()),
    )
    return report.model_copy(update={"warnings": (*report.warnings, *beware), "without_twins": clean})


def _gap(
    run: RunFolder, logits: np.ndarray, labels: np.ndarray, part: str, groups: np.ndarray | None
) -> tuple[str, ...]:
    """Return a warning if a part is scored otherwise than held-out training images, and sampling can't explain it.

    What is compared is the plain mean of the members, which wasn't chosen on held-out images. Out of fold images are
    answered by one network of several, so that a lower accuracy there says nothing.
    """
    if part not in ("val", "test") or not has_part(run, "holdout") or not len(held := run.labels("holdout")):
        return ()
    own, mine = (stack.mean(axis=0).argmax(axis=1) for stack in (run.outputs("holdout"), logits))
    others = run.groups("holdout")
    found = share_gap(own == held, mine == labels, None if groups is None or others is None else (others, groups))
    if run.recipe.folds and found.held < found.other:
        return ()
    what = "accuracy" if len(logits) == 1 else "accuracy of the members' plain mean"
    return tuple(filter(None, [gap_warning(found, what, len(held), len(labels), part)]))


def _without_twins(
    run: RunFolder, ensemble: Ensemble, logits: np.ndarray, labels: np.ndarray, part: str, groups: np.ndarray | None
) -> WithoutTwins | None:
    """Return the ensemble's numbers on the images of a run's part that training had no near copy of."""
    found = alone(run, part)
    if found is None:
        return None
    own, kinds = found
    metrics: dict[str, Interval] = {}
    if own.any() and not own.all():
        answer, rest = ensemble.logits(logits[:, own]), None if groups is None else groups[own]
        metrics = {key: interval(METRICS[key], answer, labels[own], groups=rest) for key in _CLEAN}
    return without_twins(own, kinds, metrics, str((run.leaks or {})["rule"]))


def _part(samples: Samples, split: str | None) -> tuple[np.ndarray, str]:
    if split is not None:
        return lookup(samples.splits, split, f"{samples.root}: --split"), split
    if samples.own_split:
        return samples.splits["val"], "val"
    return np.flatnonzero(samples.labels >= 0), "all"


def _labels(run: RunFolder, samples: Samples) -> np.ndarray:
    """Return the run's class ids of the samples, matched by class name."""
    ids = {name: i for i, name in enumerate(run.manifest["classes"])}
    unknown = [name for name in samples.classes if name not in ids]
    if unknown:
        raise UserError(
            f'{samples.root}: class "{unknown[0]}" is unknown to {run.path}, which was trained on: '
            f"{', '.join(list(ids)[:12])}{', …' if len(ids) > 12 else ''}"
        )
    own = np.array([ids[name] for name in samples.classes], np.int64)
    return np.where(samples.labels >= 0, own[samples.labels], -1)
