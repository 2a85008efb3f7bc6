"""What a user is told before the first step: the data, the weights, the time, memory and disk that it takes."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from functools import partial
from pathlib import Path

from octavo.engine.estimate import estimate
from octavo.engine.hardware import Hardware
from octavo.engine.material import Material
from octavo.errors import UserError
from octavo.networks import pack
from octavo.options import Options
from octavo.progress import Say
from octavo.recipe import Recipe
from octavo.tasks.known import task_of
from octavo.words import counted


def announce_weights(recipe: Recipe, options: Options, say: Say) -> None:
    """Say which weights will be downloaded, and what layers start from if that isn't plain."""
    missing = {row.path or row.url: row for row in pack.table(recipe, options.weights_dir) if row.state == "missing"}
    if missing:
        size = sum(row.size_bytes for row in missing.values())
        files = counted(len(missing), "file")
        say(f"weights to download: {files}, {size / 1e6:,.0f} MB (torch hub's cache keeps them)")
    for note in task_of(recipe).weights_notes(recipe, options.weights_dir):
        say(f"note: {note}")


def announce(
    recipe: Recipe,
    material: Material,
    hardware: Hardware,
    out: Path,
    say: Say,
    known: Collection[str] = (),
    search: float = 0.0,
) -> None:
    """Say what is trained on what, and what it will take; refuse if the disk is too small.

    `known` names the members whose features are in the cache already; `search` is how many seconds it takes to search
    for near-duplicates before the first step.
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
    for note in task_of(recipe).notes(recipe, material):
        say(f"note: {note}")
    anatomy = partial(task_of(recipe).anatomy, recipe, classes=classes, sizes=material.pixels.sizes)
    need = estimate(recipe, anatomy, material.counts_of_one, hardware, known=known, search=search)
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


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
