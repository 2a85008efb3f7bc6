"""Labelled images that predictions are scored against: those that a user names, or a run's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from octavo.data.samples import Samples
from octavo.data.torchvision_data import read
from octavo.recipe import ClassifyRecipe
from octavo.tasks.truth import SPLITS, require_no_layout, run_of, splits_of


def labelled_truth(truth: str | Path | Samples, layout: str | None = None, columns: str | None = None) -> Samples:
    """Return the labelled images that a truth names; of a run those of its own parts, whose files needn't be there.

    Raises:
        UserError: as `read`; a segmenter's run, or a layout of a run.
    """
    if isinstance(truth, Samples):
        return truth
    if (run := run_of(truth)) is None:
        return read(truth, layout, columns)
    require_no_layout(truth, layout, columns)
    run.recipe_as(ClassifyRecipe)
    rows = [row for row in run.samples() if row["part"] in {part for parts in SPLITS.values() for part in parts}]
    classes = tuple(run.manifest["classes"])
    labels = np.array([classes.index(row["label"]) for row in rows], np.int64)
    groups = tuple(row.get("group", "") for row in rows)
    return Samples(
        str(run.path), "run", tuple(row["file"] for row in rows), labels, classes,
        splits_of([row["part"] for row in rows]), True, folder=str(run.manifest["data"]["root"]),
        groups=groups if any(groups) else (),
    )  # fmt: skip
