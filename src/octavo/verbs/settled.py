"""Recipe as it runs here: precision settled by the hardware, files by their whole path."""

from __future__ import annotations

from pathlib import Path

from octavo.engine.hardware import Hardware
from octavo.recipe import Recipe


def settled(recipe: Recipe, hardware: Hardware) -> Recipe:
    """Return the recipe with `precision = "auto"` as it is on this hardware, and files by their whole path."""
    train = recipe.train
    if train.precision == "auto":
        train = train.model_copy(update={"precision": "bf16" if hardware.bf16 else "32"})
    return recipe.model_copy(update={"train": train}).with_whole_paths(_whole_path)


def _whole_path(path: str) -> str:
    return str(Path(path).expanduser().absolute())
