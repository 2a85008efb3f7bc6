"""Truth that predictions are scored against, where it is a run: its images by split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from octavo.engine.folder import MANIFEST, RunFolder
from octavo.engine.identity import TRAINED
from octavo.errors import UserError

SPLITS = {"train": TRAINED, "val": ("val",), "test": ("test",)}
"""Split of a truth → parts of a run that are in it."""


def run_of(truth: str | Path) -> RunFolder | None:
    """Return the run that a truth names by its folder or its `samples.csv`; None where it is something else."""
    path = Path(truth)
    folder = path.parent if path.name == "samples.csv" else path
    return RunFolder.open(folder) if (folder / MANIFEST).is_file() and (folder / "samples.csv").is_file() else None


def require_no_layout(truth: str | Path, layout: str | None, columns: str | None) -> None:
    """Refuse a layout or columns of a truth that is a run.

    Raises:
        UserError: the first that is given.
    """
    for name, given in {"--layout": layout, "--columns": columns}.items():
        if given:
            raise UserError(f"{name} {given}: means nothing for a run, as {truth} is; leave it away")


def splits_of(parts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the places of each split of a run's images, whose parts are given in their order."""
    own = np.array(parts, dtype=object)
    found = {split: np.flatnonzero(np.isin(own, members)) for split, members in SPLITS.items()}
    return {split: places for split, places in found.items() if len(places) or split == "train"}
