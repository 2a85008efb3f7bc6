"""Octavo: from a folder of images to the strongest honest model of it.

`octavo.train(recipe, data=…)` gives a `Run`; `octavo.load(folder)` opens one. Importing octavo imports no torch.
The work behind them is in modules of their own, such as `octavo.verbs.training`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.errors import UserError
from octavo.version import __version__

if TYPE_CHECKING:
    from octavo.recipe import Recipe
    from octavo.run import Run

__all__ = ["Recipe", "Run", "UserError", "__version__", "load", "train"]


def train(recipe: str | Path | Recipe, data: str | Path, *, overrides: tuple[str, ...] = (), **options: Any) -> Run:
    """Train a recipe on a folder of images and return the run.

    Args:
        recipe: name of a shipped recipe, path of a TOML file, or a Recipe.
        data: folder, CSV file, or `torchvision:NAME`.
        overrides: changes to the recipe such as `"train.epochs=3"`.
        options: fields of `octavo.options.Options`: out, device, weights_dir, resume, overwrite, skip_broken, ….

    Raises:
        UserError: anything in recipe, data or options that can be mended.
    """
    from octavo.options import Options
    from octavo.run import Run
    from octavo.verbs.training import train as run_training

    return Run(run_training(recipe, data, overrides, Options(**options)).path, options.get("device", "auto"))


def load(folder: str | Path, device: str = "auto") -> Run:
    """Return the run in `folder`.

    Raises:
        UserError: there is no run.
    """
    from octavo.run import Run

    return Run(folder, device)


def __getattr__(name: str) -> Any:
    if name == "Run":
        from octavo.run import Run

        return Run
    if name == "Recipe":
        from octavo.recipe import Recipe

        return Recipe
    raise AttributeError(f"module 'octavo' has no attribute {name!r}")
