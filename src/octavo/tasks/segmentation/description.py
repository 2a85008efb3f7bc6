"""Segmenter of a recipe in words: totals first, then the parts of the paper's diagram and all layers."""

from __future__ import annotations

from octavo.data.classes import load_table
from octavo.networks.description import aligned, describe_segmenter
from octavo.recipe import SegmentRecipe

CLASSES_UNKNOWN = 7
"""Number of classes that a segmenter is shown with whose recipe names no table: the reference's."""


def describe(recipe: SegmentRecipe, classes: int | None, depth: int | None) -> str:
    """Return the segmenter of a recipe as text; see `octavo.verbs.describe`."""
    table = recipe.data.classes
    if classes is None:
        classes = CLASSES_UNKNOWN if table is None else len(load_table(table).trained)
    found = describe_segmenter(recipe, classes, depth)
    counts = (f"{n:,}" for n in (found.extractor, found.head, found.parameters))
    totals = aligned([("segmenter", "backbone", f"head ({classes} classes)", "parameters"), (found.name, *counts)])
    return f"{totals}\n\n{found.text}\n"
