"""A recipe's networks: totals first, then layer by layer as PyTorch prints a module, with shapes and parameters."""

from __future__ import annotations

from octavo.errors import UserError, lookup
from octavo.recipe import Recipe
from octavo.tasks.known import task_of


def describe(recipe: Recipe, member: str | None = None, classes: int | None = None, depth: int | None = None) -> str:
    """Return the networks of a recipe as text: all of them, or the one called `member`.

    Totals of extractor and head come first; for an FCN then the layers that the parts of the paper's diagram are. Each
    network follows as PyTorch's own nested print, every layer with its constructor arguments. Beside each layer stands
    its output shape without the batch (channels×height×width), and behind a dot its number of parameters, those of the
    layers inside it included; – is a layer that isn't called itself. Nothing is loaded; it takes no memory.

    Args:
        recipe: the recipe.
        member: name of one network.
        classes: number of classes that the heads end in; by default 50 for classifiers, and for segmenters as many as
            the recipe's own table has, or else 7.
        depth: how many levels of layers are shown, 1 for backbone and head alone; by default all.

    Raises:
        UserError: unknown member, a depth below 1, or a network that can't be built.
    """
    if depth is not None and depth < 1:
        raise UserError(f"depth: expected 1 or more, got {depth}")
    chosen = recipe.networks
    if member is not None:
        chosen = (lookup({m.name: m for m in chosen}, member, "member"),)
    return task_of(recipe).describe(recipe, chosen, classes, depth)
