"""A recipe's images, read, split and stored: what a run is made from, before any network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octavo.data.batches import Labels, MaskRows
from octavo.data.classes import ClassTable
from octavo.data.corrections import Corrections
from octavo.data.pairs import Pairs
from octavo.data.samples import Samples
from octavo.data.store import Pixels
from octavo.engine.hardware import Hardware
from octavo.engine.identity import DataIdentity
from octavo.engine.job import parts_of_fold
from octavo.engine.versions import versions
from octavo.files import csv_bytes
from octavo.recipe import Recipe, dumps


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
        warnings: what was lost with the files that are left out, and classes that may be one, a sentence each.
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
