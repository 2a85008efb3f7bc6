"""What a run was made from, fixed before its first step: recipe, manifest, samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from octavo.data.classes import ClassTable
from octavo.engine.consistency import require_samples
from octavo.engine.run_results import RunResults
from octavo.errors import Damaged, UserError
from octavo.files import read_rows
from octavo.numbers.bootstrap import group_ids
from octavo.recipe import EnsembleRecipe, Recipe, load, named
from octavo.toml import parse_toml

RECIPE, SAMPLES = "recipe.toml", "samples.csv"
R = TypeVar("R", bound=Recipe)


class RunInputs(RunResults):
    """What a run was made from, in its folder."""

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return self.on_disk.once(self.path / RECIPE, None, self._parse_recipe)

    def _parse_recipe(self) -> Recipe:
        path = self.path / RECIPE
        content = self.on_disk.read(path, self._fixed(RECIPE), self.on_disk.restore)
        return load(named(parse_toml(content, path), path), where=path)

    def recipe_as(self, kind: type[R]) -> R:
        """Return the resolved recipe of a run of one kind.

        Raises:
            UserError: the run is of another task.
        """
        recipe = self.recipe
        if not isinstance(recipe, kind):
            raise self.of_another_task()
        return recipe

    def of_another_task(self) -> UserError:
        """Return the error that something isn't made for runs of this task."""
        return UserError(f'{self.path}: is a run of task "{self.recipe.task}", for which this is not made')

    @property
    def ensemble_recipe(self) -> EnsembleRecipe:
        """The resolved recipe of a run of an ensemble.

        Raises:
            UserError: the run has a single network and no ensemble.
        """
        return self.recipe_as(EnsembleRecipe)

    @property
    def manifest(self) -> dict[str, Any]:
        """Versions, hashes of data and weights, seed, hardware."""
        return self.on_disk.manifest()

    def _fixed(self, name: str) -> str | None:
        """Return the hash of recipe or samples, as the run began; None before files were hashed."""
        manifest = self.manifest
        if "format" not in manifest:
            return None
        return manifest["recipe"] if name == RECIPE else manifest["data"]["samples"]

    @property
    def data(self) -> Path | None:
        """Where the data lay that the run was trained on, as far as that is known."""
        root = self.manifest.get("data", {}).get("root")
        return Path(root) if isinstance(root, str) else None

    @property
    def table(self) -> ClassTable:
        """Names and colours of the classes of masks (runs of segmenters)."""
        return ClassTable.from_dict(self.manifest["table"])

    def samples(self) -> list[dict[str, str]]:
        """Return a row per image: file, label, part (`fit`, `holdout`, `val`, `test`, `broken`, `unused`)."""
        return [dict(row) for row in self.on_disk.once(self.path / SAMPLES, None, self._parse_samples)]

    def _parse_samples(self) -> list[dict[str, str]]:
        path, remedy = self.path / SAMPLES, self.on_disk.restore
        rows = read_rows(self.on_disk.read(path, self._fixed(SAMPLES), remedy), path, remedy)
        require_samples(rows, self.manifest, path, remedy)
        return rows

    def labels(self, part: str) -> np.ndarray:
        """Return class ids int64 [n] of the images of one part, in the order of the stored logits."""
        ids = {name: i for i, name in enumerate(self.manifest["classes"])}
        labels = [row["label"] for row in self.samples() if row["part"] == part]
        if other := next((label for label in labels if label not in ids), None):
            restore = self.on_disk.restore
            raise Damaged(f'{self.path / SAMPLES}: damaged: "{other}" is none of the run\'s classes; {restore}')
        return np.array([ids[label] for label in labels], np.int64)

    def files(self, part: str) -> list[str]:
        """Return the images of one part, in the order of the stored logits."""
        return [row["file"] for row in self.samples() if row["part"] == part]

    def groups(self, part: str) -> np.ndarray | None:
        """Return what group each image of one part is of, int64 [n]; None where the data have no groups."""
        return group_ids([row.get("group", "") for row in self.samples() if row["part"] == part])
