"""A recipe's labelled images, read, split and stored: what an ensemble of classifiers is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from octavo.data import store, torchvision_data
from octavo.data.corrections import corrected
from octavo.data.division import divide_samples
from octavo.engine.identity import IMAGE_COLUMN
from octavo.engine.material import Material, part_of
from octavo.networks.build import check_recipe
from octavo.progress import Progress
from octavo.recipe import ClassifyRecipe


def prepare(
    recipe: ClassifyRecipe,
    data: str,
    layout: str | None,
    cache: Path,
    skip_broken: bool,
    labels: Path | None = None,
    *,
    columns: str | None = None,
    progress: Progress,
) -> Material:
    """Return the images that `data` holds, split as the recipe says and decoded into the cache.

    `labels` is a CSV file of corrected labels (see `corrected`). They come after the split, so that none of them moves
    an image into another part.

    Raises:
        UserError: data or labels that can't be read or used, members that can't be built.
    """
    samples = torchvision_data.read(data, layout, columns, cache=cache, progress=progress)
    check_recipe(recipe, len(samples.classes))
    if not samples.own_split:
        samples = samples.with_val(recipe.data.val, recipe.seed)
    right, corrections = corrected(samples, labels) if labels else (samples, None)
    pixels = store.build(
        samples, store.ImageDecoder(recipe.stored_side), cache, skip_broken=skip_broken, progress=progress
    )
    division = divide_samples(recipe, samples, right, pixels.broken, corrections.dropped if corrections else ())
    parts, folds = division.parts, division.folds
    names = [right.classes[label] if label >= 0 else "" for label in right.labels]
    rows: list[dict[str, Any]] = [
        {"file": file, "label": name, "part": part}
        for file, name, part in zip(samples.files, names, part_of(parts, pixels.broken, len(names)), strict=True)
    ]
    for i, row in enumerate(rows):
        row |= {"fold": str(folds[i] + 1) if folds[i] >= 0 else ""} if folds is not None else {}
        row |= {"group": samples.groups[i]} if samples.groups else {}
        row |= {"given": corrections.given.get(i, "")} if corrections else {}
        row |= {IMAGE_COLUMN: pixels.digests[i]}
    return Material(
        data, right, right.classes, right.labels, pixels, parts, rows, pixels.broken, folds=folds,
        corrections=corrections, warnings=division.warnings,
    )  # fmt: skip
