"""A run + data → a report: every member and the ensemble, each number with its interval and its rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from octavo.cache import cache_dir
from octavo.data import store, torchvision_data
from octavo.data.batches import PixelRows, in_order
from octavo.data.samples import Samples
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import find
from octavo.engine.infer import outputs
from octavo.engine.restore import restore
from octavo.errors import UserError, lookup
from octavo.numbers.ensemble import Ensemble
from octavo.numbers.grade import grade
from octavo.numbers.results import Report
from octavo.progress import Progress, silent
from octavo.recipe import ClassifyRecipe

BATCH = 64


def regrade(run: RunFolder, *, progress: Progress = silent) -> Report:
    """Grade a run on its own validation images from the stored logits; writes `metrics.json` and the predictions."""
    labels = run.labels("val")
    report = _graded(run, run.ensemble, _stored(run, "val"), labels, "val", progress)
    answer = run.ensemble.logits(_stored(run, "val")).argmax(1)
    names, classes = run.files("val"), run.manifest["classes"]
    short = [Path(file).name for file in names]
    ids = short if len(set(short)) == len(short) else names  # a name in two class folders needs its path
    run.write_predictions("val", [{"image_id": name, "label": classes[i]} for name, i in zip(ids, answer, strict=True)])
    run.metrics = report
    return report


def evaluate(
    run: RunFolder,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    layout: str | None = None,
    device: str = "auto",
    cache: Path | None = None,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> Report:
    """Grade a run on a part of its own data, or on other data.

    Args:
        run: a finished run.
        data: another folder of labelled images; its classes are matched by name. The run's own is scored as without.
        split: `val` by default; with `data` a split of it, all of it where it has none.
        layout: layout of `data`.
        device: where to compute if the logits aren't stored.
        cache: folder for the pixel store.
        skip_broken: leave out files of `data` that can't be decoded.
        progress: told how far it is.

    Raises:
        UserError: an unfinished run, a split that isn't there, a class that the run doesn't know.
    """
    if data is None:
        parts = dict.fromkeys(run.member(run.ensemble.names[0]).outputs())
        lookup(parts, split or "val", "--split")
        if split in (None, "val"):
            return regrade(run, progress=progress)
        assert split is not None
        return _graded(run, run.ensemble, _stored(run, split), run.labels(split), split, progress)
    samples = torchvision_data.read(data, layout, cache=cache or cache_dir(), progress=progress)
    indices, name = _part(samples, split)
    labels = _labels(run, samples)
    pixels = store.build(
        samples,
        store.ImageDecoder(run.recipe_as(ClassifyRecipe).stored_side),
        cache or cache_dir(),
        skip_broken=skip_broken,
        progress=progress,
    )
    own = pixels.digest == run.manifest["data"]["pixels"]
    if split is None and own:
        return evaluate(run, progress=progress)  # the run's own images, most of which it was trained on
    if not own:
        name = f"{Path(samples.root).stem}/{name}"  # not to be taken for the run's own part of that name
    indices = np.setdiff1d(indices, np.array(sorted(pixels.broken), np.int64))
    target = find(device).device
    logits = []
    for member in run.ensemble.names:
        trained = restore(run, member, target)
        batches = in_order(PixelRows(pixels), indices, labels, BATCH)
        logits.append(
            outputs(
                trained.net,
                trained.inputs.plain,
                batches,
                target,
                bf16=trained.bf16,
                progress=progress,
                what=f"{member}: evaluate",
            )
        )
    return _graded(run, run.ensemble, np.stack(logits), labels[indices], name, progress)


def _graded(
    run: RunFolder, ensemble: Ensemble, logits: np.ndarray, labels: np.ndarray, split: str, progress: Progress
) -> Report:
    recipe = run.recipe_as(ClassifyRecipe)
    fitted = ensemble.combine == "greedy"
    where = recipe.ensemble.fit_on
    fit = (_stored(run, where), run.labels(where)) if fitted else None
    return grade(
        ensemble.names,
        logits,
        labels,
        run.manifest["classes"],
        ensemble,
        split=split,
        fit=fit,
        fitted_on=where if fitted else "none",
        rounds=recipe.ensemble.rounds,
        seed=recipe.seed,
        progress=progress,
    )


def _stored(run: RunFolder, part: str) -> np.ndarray:
    """Return the stored logits float32 [M,n,C] of one part."""
    return np.stack([run.member(name).outputs()[part] for name in run.ensemble.names])


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
