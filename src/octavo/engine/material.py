"""A recipe's images, read, split and stored: what a run is made from, before any network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octavo.data import store, torchvision_data
from octavo.data.batches import Labels, MaskRows
from octavo.data.classes import ClassTable
from octavo.data.corrections import Corrections, corrected
from octavo.data.division import divide_samples
from octavo.data.pairs import Pairs
from octavo.data.samples import Samples
from octavo.data.store import Pixels
from octavo.engine.hardware import Hardware
from octavo.engine.identity import IMAGE_COLUMN, DataIdentity
from octavo.engine.job import parts_of_fold
from octavo.engine.versions import versions
from octavo.files import csv_bytes
from octavo.networks.build import check_recipe
from octavo.progress import Progress
from octavo.recipe import ClassifyRecipe, Recipe, dumps


@dataclass(frozen=True, eq=False)
class Material:
    """The images of a run, and what they are labelled with.

    Attributes:
        data: what the user named.
        samples: files and splits, and what was amiss.
        classes: names of the classes in the order of their ids.
        labels: class ids int64 [N], or the masks.
        pixels: the decoded images.
        parts: `fit`, `holdout`, `val` and maybe `test` → ascending int64 indices; broken files are in none.
        rows: a row per file for `samples.csv`.
        broken: place → reason, for files that can't be decoded.
        table: names and colours of the classes of masks.
        names: of the masks that are predicted, one an image.
        folds: fold of each training image from 0, int64 [N], -1 for the others; all of them are then in `holdout`, and
            none in `fit`. None: there are no folds.
        corrections: what `labels` and `parts` have over those of the data.
        warnings: what was lost with the files that are left out, a sentence each.
    """

    data: str
    samples: Samples | Pairs
    classes: tuple[str, ...]
    labels: Labels
    pixels: Pixels
    parts: Mapping[str, np.ndarray]
    rows: list[dict[str, Any]]
    broken: Mapping[int, str]
    table: ClassTable | None = None
    names: tuple[str, ...] = ()
    folds: np.ndarray | None = None
    corrections: Corrections | None = None
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Images in each part."""
        return {part: len(indices) for part, indices in self.parts.items()}

    @property
    def counts_of_one(self) -> dict[str, int]:
        """Images in each part of one training: the first fold's, where there are folds."""
        return {part: len(indices) for part, indices in parts_of_fold(self.parts, self.folds, 0).items()}

    def identity(self, recipe: Recipe) -> DataIdentity:
        """Return what the images are, and what they are labelled with, as `recipe` decodes them."""
        rows = [{key: str(value) for key, value in row.items()} for row in self.rows]
        masks = self.labels.pixels.digest if isinstance(self.labels, MaskRows) else None
        table = self.table.to_dict() if self.table else None
        return DataIdentity(
            rows, self.samples.own_split, recipe.decoding, self.pixels.digest, masks, self.classes, table
        )

    def manifest(self, recipe: Recipe, hardware: Hardware) -> dict[str, Any]:
        """Return what is fixed before the first step: versions, hashes, seed, hardware, classes.

        `recipe` and `data.samples` are the hashes of `recipe.toml` and `samples.csv` as they are written beside it.
        """
        root = self.data if self.data.startswith("torchvision:") else str(Path(self.data).absolute())
        masks = {"masks": self.labels.pixels.digest} if isinstance(self.labels, MaskRows) else {}
        return {
            **versions(),
            "task": recipe.task,
            "seed": recipe.seed,
            "recipe": hashlib.sha256(dumps(recipe).encode()).hexdigest(),
            "classes": list(self.classes),
            **({"table": self.table.to_dict()} if self.table else {}),
            "data": {
                "root": root,
                "layout": self.samples.layout,
                "own_split": self.samples.own_split,
                "samples": hashlib.sha256(csv_bytes(self.rows)).hexdigest(),
                "pixels": self.pixels.digest,
                **masks,
                **({"labels": self.corrections.facts()} if self.corrections else {}),
                "parts": self.counts,
                "broken": len(self.broken),
            },
            "hardware": hardware.describe(),
        }


def part_of(parts: Mapping[str, np.ndarray], broken: Mapping[int, str], count: int) -> list[str]:
    """Return the part that each of `count` files is in: one of `parts`, `broken` or `unused`."""
    known = {int(i): part for part, indices in parts.items() for i in indices}
    return [known.get(i, "broken" if i in broken else "unused") for i in range(count)]


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
