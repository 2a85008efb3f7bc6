"""Networks trained on different folds → one member: out-of-fold predictions, and the mean of all elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from octavo.engine.job import Job
from octavo.engine.member_folder import MemberFolder


def bag(job: Job, folder: MemberFolder) -> None:
    """Finish a member whose networks are all trained, one a fold.

    Its outputs are, for `holdout`, the logits of each training image by the one network that didn't see it, and for
    other parts the mean of all networks' logits. Its history is the mean of theirs, epoch by epoch.
    """
    folders = [folder.fold(fold) for fold in range(job.recipe.folds)]
    outputs = [each.outputs() for each in folders]
    train, folds = job.parts["holdout"], job.folds
    assert folds is not None
    out_of_fold = np.zeros((len(train), job.classes), np.float32)
    for fold, found in enumerate(outputs):
        out_of_fold[folds[train] == fold] = found.get("holdout", out_of_fold[:0])
    means = {
        part: np.stack([found[part] for found in outputs]).mean(axis=0, dtype=np.float64).astype(np.float32)
        for part in outputs[0]
        if part != "holdout"
    }
    facts = folders[0].facts() | {"folds": len(folders)}
    folder.finish(facts, {"holdout": out_of_fold, **means}, mean_history([each.history() for each in folders]))


def mean_history(histories: Sequence[Sequence[Mapping[str, str]]]) -> list[dict[str, str]]:
    """Return the mean of several histories, epoch by epoch over those that came so far; empty cells count nowhere."""
    rows: dict[str, dict[str, list[float]]] = {}
    for row in (row for history in histories for row in history):
        cells = rows.setdefault(row["epoch"], {})
        for key, cell in row.items():
            if cell and key != "epoch":
                cells.setdefault(key, []).append(float(cell))
    order = sorted(rows, key=int)
    return [{"epoch": epoch} | {key: repr(float(np.mean(v))) for key, v in rows[epoch].items()} for epoch in order]
