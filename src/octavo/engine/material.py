"""A recipe's images, read, split and stored: what a run is made from, before any network."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from octavo.data import store, torchvision_data
from octavo.data.batches import Labels, MaskRows
from octavo.data.classes import ClassTable
from octavo.data.pairs import Pairs
from octavo.data.samples import Samples
from octavo.data.store import Pixels
from octavo.engine.hardware import Hardware
from octavo.errors import UserError
from octavo.networks.build import check_recipe
from octavo.progress import Progress
from octavo.recipe import ClassifyRecipe, Recipe
from octavo.version import __version__
from octavo.words import counted


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

    @property
    def counts(self) -> dict[str, int]:
        """Images in each part."""
        return {part: len(indices) for part, indices in self.parts.items()}

    def manifest(self, recipe: Recipe, hardware: Hardware) -> dict[str, Any]:
        """Return what is fixed before the first step: versions, hashes, seed, hardware, classes."""
        packages = ("torch", "torchvision", "pytorch-lightning", "numpy", "pillow")
        root = self.data if self.data.startswith("torchvision:") else str(Path(self.data).absolute())
        masks = {"masks": self.labels.pixels.digest} if isinstance(self.labels, MaskRows) else {}
        return {
            "octavo": __version__,
            "task": recipe.task,
            "seed": recipe.seed,
            "classes": list(self.classes),
            **({"table": self.table.to_dict()} if self.table else {}),
            "data": {
                "root": root,
                "layout": self.samples.layout,
                "own_split": self.samples.own_split,
                "pixels": self.pixels.digest,
                **masks,
                "parts": self.counts,
                "broken": len(self.broken),
            },
            "python": platform.python_version(),
            "packages": {name: version(name) for name in packages},
            "hardware": hardware.describe(),
        }


def part_of(parts: Mapping[str, np.ndarray], broken: Mapping[int, str], count: int) -> list[str]:
    """Return the part that each of `count` files is in: one of `parts`, `broken` or `unused`."""
    known = {int(i): part for part, indices in parts.items() for i in indices}
    return [known.get(i, "broken" if i in broken else "unused") for i in range(count)]


def prepare(
    recipe: ClassifyRecipe, data: str, layout: str | None, cache: Path, skip_broken: bool, *, progress: Progress
) -> Material:
    """Return the images that `data` holds, split as the recipe says and decoded into the cache.

    Raises:
        UserError: data that can't be read or used, members that can't be built.
    """
    samples = torchvision_data.read(data, layout, cache=cache, progress=progress)
    check_recipe(recipe, len(samples.classes))
    if not samples.own_split:
        samples = samples.with_val(recipe.data.val, recipe.seed)
    pixels = store.build(
        samples, store.ImageDecoder(recipe.stored_side), cache, skip_broken=skip_broken, progress=progress
    )
    fit, held = samples.holdout(recipe.data.holdout, recipe.seed)
    parts = {"fit": fit, "holdout": held, "val": samples.splits.get("val", np.empty(0, np.int64))}
    if "test" in samples.splits:
        parts["test"] = samples.splits["test"]
    broken = np.array(sorted(pixels.broken), np.int64)
    parts = {part: np.setdiff1d(indices, broken) for part, indices in parts.items()}
    _require(recipe, samples, parts)
    names = [samples.classes[label] if label >= 0 else "" for label in samples.labels]
    rows = [
        {"file": file, "label": name, "part": part}
        for file, name, part in zip(samples.files, names, part_of(parts, pixels.broken, len(names)), strict=True)
    ]
    return Material(data, samples, samples.classes, samples.labels, pixels, parts, rows, pixels.broken)


def _require(recipe: ClassifyRecipe, samples: Samples, parts: dict[str, np.ndarray]) -> None:
    """Refuse what would fail or mislead later."""
    count = len(samples.classes)
    if count < 2:
        raise UserError(f"{samples.root}: one class only ({samples.classes[0]}); a classifier needs two or more")
    if len(parts["fit"]) < 2 or not len(parts["val"]):
        raise UserError(
            f"{samples.root}: {counted(len(parts['fit']), 'image')} to train on and {len(parts['val'])} to validate; "
            "expected at least 2 and 1"
        )
    given = recipe.train.class_weights
    if not isinstance(given, str) and len(given) != count:
        raise UserError(f"train.class_weights: {len(given)} weights for {count} classes")
    if recipe.data.holdout and not len(parts["holdout"]):
        raise UserError(f"{samples.root}: too few images for data.holdout; every class has only one")
