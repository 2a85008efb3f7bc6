"""What a user is told before the first step: the data, the weights, the time, memory and disk that it takes."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np

from octavo.engine.estimate import estimate
from octavo.engine.hardware import Hardware
from octavo.engine.material import Material
from octavo.errors import UserError
from octavo.networks import build, pack
from octavo.numbers.ensemble import CHOSEN
from octavo.numbers.grade_rule import FEW_TO_CALIBRATE
from octavo.options import Options
from octavo.progress import Say
from octavo.recipe import ClassifyRecipe, Recipe, SegmentRecipe
from octavo.words import counted

FEW_HELD_OUT = 200
"""Held-out images below which a user is told that they choose the ensemble's weights."""


def announce_weights(recipe: Recipe, options: Options, say: Say) -> None:
    """Say which weights will be downloaded, and what layers start from if that isn't plain."""
    missing = {row.path or row.url: row for row in pack.table(recipe, options.weights_dir) if row.state == "missing"}
    if missing:
        size = sum(row.size_bytes for row in missing.values())
        files = counted(len(missing), "file")
        say(f"weights to download: {files}, {size / 1e6:,.0f} MB (torch hub's cache keeps them)")
    if isinstance(recipe, SegmentRecipe):
        for note in build.notes(recipe.segmenter, options.weights_dir):
            say(f"note: {note}")


def announce(
    recipe: Recipe, material: Material, hardware: Hardware, out: Path, say: Say, known: Collection[str] = ()
) -> None:
    """Say what is trained on what, and what it will take; refuse if the disk is too small.

    `known` names the members whose features are in the cache already.
    """
    samples, broken, classes = material.samples, len(material.broken), len(material.classes)
    counts = _counts(recipe, material)
    left = f", {counted(broken, 'broken file')} left out" if broken else ""
    say(f"{samples.root}: layout {samples.layout}, {counted(classes, 'class')}, images: {counts}{left}")
    if samples.unread:
        say(samples.unread)
    for problem in samples.problems:
        say(f"note: {problem.text}")
    for warning in material.warnings:
        say(f"warning: {warning}")
    if isinstance(recipe, ClassifyRecipe) and (few := _few_held_out(recipe, material)):
        say(f"note: {few}")
    if isinstance(recipe, SegmentRecipe) and recipe.late_stages:
        say(f"note: {_late(recipe)}")
    need = estimate(recipe, classes, material.counts_of_one, hardware, whole=_typical(recipe, material), known=known)
    parent = next(p for p in out.absolute().parents if p.exists())
    free = shutil.disk_usage(parent).free
    say(
        f"estimate: about {_duration(need.seconds)} on {hardware.kind} (roughly, from operation counts), "
        f"{need.memory / 2**30:.1f} GiB of memory, {need.disk / 2**30:.1f} of {free / 2**30:,.0f} GiB free disk"
    )
    if need.disk > free:
        raise UserError(
            f"{parent}: the run needs about {need.disk / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free; "
            "choose another --out, or fewer members"
        )


def _counts(recipe: Recipe, material: Material) -> str:
    if not recipe.folds:
        return ", ".join(f"{n:,} {part}" for part, n in material.counts.items())
    others = [f"{n:,} {part}" for part, n in material.counts.items() if part not in ("fit", "holdout")]
    return ", ".join([f"{material.counts['holdout']:,} in {recipe.folds} folds", *others])


def _few_held_out(recipe: ClassifyRecipe, material: Material) -> str:
    """Say so where the ensemble's weights or temperatures are fitted on few images, and what would give them more."""
    held, spec = material.counts.get("holdout", 0), recipe.ensemble
    if recipe.folds or spec.fit_on != "holdout" or not held:
        return ""
    if len(recipe.members) > 1 and spec.combine in CHOSEN and held < FEW_HELD_OUT:
        work = "choose the ensemble's weights" + (" and calibrate the probabilities" if held < FEW_TO_CALIBRATE else "")
    elif spec.calibration != "none" and held < FEW_TO_CALIBRATE:
        work = "calibrate the probabilities"
    else:
        return ""
    return (
        f"{counted(held, 'held-out image')} will {work}; with --set data.folds=5 all training images do, for five "
        "times the training of heads or networks"
    )


def _late(recipe: SegmentRecipe) -> str:
    """Say which masks by stage there won't be, since fewer epochs are trained than the recipe counts on."""
    late, kept = ([str(epoch) for epoch in epochs] for epochs in (recipe.late_stages, recipe.stage_epochs))
    after = f"are kept after epoch{'s' * (len(kept) > 1)} {', '.join(kept)}" if kept else "aren't kept on the way"
    never = f"epochs {', '.join(late)} never come" if len(late) > 1 else f"epoch {late[0]} never comes"
    return f"stages.at: {never}, train.epochs is {recipe.train.epochs}; masks by stage {after}"


def _typical(recipe: Recipe, material: Material) -> tuple[int, int] | None:
    """Return height and width of a typical image in its file, for a segmenter, which is judged on whole images."""
    if not isinstance(recipe, SegmentRecipe):
        return None
    sizes = material.pixels.sizes
    height, width = np.median(sizes[sizes[:, 0] > 0], axis=0) / recipe.data.scale
    return round(float(height)), round(float(width))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
