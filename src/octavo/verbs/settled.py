"""Recipe as it runs here: precision settled by the hardware, files by their whole path."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from octavo.engine.hardware import Hardware
from octavo.networks.weights import is_file
from octavo.recipe import ClassifyRecipe, Network, Recipe, SegmentData, SegmentRecipe

N = TypeVar("N", bound=Network)


def settled(recipe: Recipe, hardware: Hardware) -> Recipe:
    """Return the recipe with `precision = "auto"` as it is on this hardware, and files by their whole path."""
    train = recipe.train
    if train.precision == "auto":
        train = train.model_copy(update={"precision": "bf16" if hardware.bf16 else "32"})
    recipe = recipe.model_copy(update={"train": train})
    if isinstance(recipe, SegmentRecipe):
        segmenter = _by_whole_path(recipe.segmenter)
        if segmenter.start:
            segmenter = segmenter.model_copy(update={"start": _whole_path(segmenter.start)})
        return recipe.model_copy(update={"segmenter": segmenter, "data": _table_found(recipe.data)})
    assert isinstance(recipe, ClassifyRecipe)
    recipe = recipe.model_copy(update={"members": tuple(map(_by_whole_path, recipe.members))})
    return recipe.taught_in(_whole_path(recipe.distil.run)) if recipe.distil.run else recipe


def _by_whole_path(network: N) -> N:
    return network.model_copy(update={"weights": _whole_path(network.weights)}) if is_file(network.weights) else network


def _table_found(data: SegmentData) -> SegmentData:
    is_path = data.classes is not None and (data.classes.endswith(".toml") or "/" in data.classes)
    return data.model_copy(update={"classes": _whole_path(str(data.classes))}) if is_path else data


def _whole_path(path: str) -> str:
    return str(Path(path).expanduser().absolute())
