"""A recipe's networks: totals first, then layer by layer as PyTorch prints a module, with shapes and parameters."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.data.classes import load_table
from octavo.errors import UserError, lookup
from octavo.networks.description import Description, aligned, describe_member, describe_segmenter
from octavo.recipe import ClassifyRecipe, Member, Recipe, SegmentRecipe

CLASSES = 50
"""Number of classes that classifiers are shown with, as the reference's have."""
CLASSES_UNKNOWN = 7
"""Number of classes that a segmenter is shown with whose recipe names no table: the reference's."""


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
    if isinstance(recipe, SegmentRecipe):
        table = recipe.data.classes
        if classes is None:
            classes = CLASSES_UNKNOWN if table is None else len(load_table(table).trained)
        found = describe_segmenter(recipe, classes, depth)
        counts = (f"{n:,}" for n in (found.extractor, found.head, found.parameters))
        totals = aligned([("segmenter", "backbone", f"head ({classes} classes)", "parameters"), (found.name, *counts)])
        return f"{totals}\n\n{found.text}\n"
    assert isinstance(recipe, ClassifyRecipe)
    classes = classes or CLASSES
    nets = [describe_member(m, recipe, classes, depth) for m in chosen if isinstance(m, Member)]
    return "\n\n".join([_totals(nets, classes), *(net.text for net in nets)]) + "\n"


def _totals(nets: Sequence[Description], classes: int) -> str:
    rows = [(n.name, f"{n.features:,}", f"{n.extractor:,}", f"{n.head:,}", f"{n.parameters:,}") for n in nets]
    if len(rows) > 1:
        backbones, heads = sum(n.extractor for n in nets), sum(n.head for n in nets)
        rows.append(("sum", "", f"{backbones:,}", f"{heads:,}", f"{backbones + heads:,}"))
    return aligned([("member", "features", "extractor", f"head ({classes} classes)", "parameters"), *rows])
