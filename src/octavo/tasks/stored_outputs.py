"""Stored outputs of a run: when they may stand in for an evaluation of other data, and what to say of the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from octavo.engine.identity import TRAINED, DataIdentity
from octavo.numbers.mask_results import SegmentReport
from octavo.numbers.results import Report
from octavo.words import counted

R = TypeVar("R", Report, SegmentReport)


def stand_in(own: DataIdentity, given: DataIdentity, indices: np.ndarray, split: str | None) -> str:
    """Return the part of a run whose stored outputs are those of the images that are asked for; empty: none.

    Args:
        own: the run's data.
        given: the data that are named.
        indices: which of these are to be scored.
        split: the split that was asked for; None: the data's own `val`, or all of data that have none.

    Data without a split of their own of which a run drew its validation images are known as a whole: then the images
    that the run drew are meant.
    """
    if split is None and not given.own_split:
        whole = given.whole()
        if whole is None or whole != own.whole(given=True):
            return ""
        indices = np.array(own.places(["val"]), np.int64)
    asked, stored = given.part(indices), own.part(own.places([split or "val"]))
    return (split or "val") if asked is not None and len(asked.images) and asked == stored else ""


def called(own: DataIdentity, given: DataIdentity, indices: np.ndarray, root: str, name: str) -> str:
    """Return what images that are scored are called: `FOLDER/PART`, but for the run's own training images."""
    asked = given.part(indices)
    if name == "train" and asked is not None and asked == own.part(own.places(TRAINED)):
        return name
    return f"{Path(root).stem}/{name}"


def flattered_by(report: R, run: Path, own: DataIdentity, images: Sequence[str]) -> R:
    """Return the report of other data with a warning if scored images, by their content digests, were trained on."""
    count = own.trained_on(images)
    if report.split == "train" or not count:
        return report
    what, name = "all" if count == len(images) else f"{count:,}", run.name or run.resolve().name
    warning = (
        f"flattered: {what} of {counted(len(images), 'scored image')} {'is' if count == 1 else 'are'} among those that "
        f"{name} was trained or tuned on, by their pixels; score images that it has not seen (--split, another folder)"
    )
    return report.model_copy(update={"flattered": True, "warnings": (warning, *report.warnings)})
