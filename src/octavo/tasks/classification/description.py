"""Members of a recipe in words: totals first, then layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.networks.description import Description, aligned, describe_member
from octavo.recipe import EnsembleRecipe, Member

CLASSES = 50
"""Number of classes that classifiers are shown with, as the reference's have."""


def describe(recipe: EnsembleRecipe, chosen: Sequence[Member], classes: int | None, depth: int | None) -> str:
    """Return some members of a recipe as text; see `octavo.verbs.describe`."""
    classes = classes or CLASSES
    nets = [describe_member(m, recipe, classes, depth) for m in chosen]
    return "\n\n".join([_totals(nets, classes), *(net.text for net in nets)]) + "\n"


def _totals(nets: Sequence[Description], classes: int) -> str:
    rows = [(n.name, f"{n.features:,}", f"{n.extractor:,}", f"{n.head:,}", f"{n.parameters:,}") for n in nets]
    if len(rows) > 1:
        backbones, heads = sum(n.extractor for n in nets), sum(n.head for n in nets)
        rows.append(("sum", "", f"{backbones:,}", f"{heads:,}", f"{backbones + heads:,}"))
    return aligned([("member", "features", "extractor", f"head ({classes} classes)", "parameters"), *rows])
