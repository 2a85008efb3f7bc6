"""Predicted masks at early, middle and late stages of training, as the reference's table has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from octavo.data.classes import ClassTable
from octavo.data.masks import paint
from octavo.data.pixels import decode
from octavo.errors import UserError
from octavo.looks.look import Drawing, Look, Shown
from octavo.looks.subject import SegmentSubject
from octavo.pictures.stages import StageRow, stage_table

_STAGES = ("early", "middle")


def stages(subject: SegmentSubject) -> Drawing | None:
    """Draw the table: original, truth, early, middle, final; a row an image. None if no masks were kept."""
    if not subject.run.stages():
        subject.say("no masks by stage were kept: the recipe's stages name no image or no epoch")
        return None
    columns = _columns(subject)
    rows = _rows(subject, [folder for _, folder in columns])
    if any(picture is None for row in rows for picture in row.pictures):
        subject.say("some masks of some stages are missing; their places are empty")
    headers = ("original", "truth", *(header for header, _ in columns))
    figure = stage_table(rows, headers, _legend(subject.run.table))
    shown = Shown(
        file="stages.png",
        caption="From left to right the masks should come closer to the truth, large areas first and borders last.",
        alt="Original images, true masks, and predicted masks by stage of training",
    )
    look = Look(
        name="stages",
        title="Masks by stage of training",
        sees=f"{len(rows)} validation images: original, truth, and the predicted mask at stages of training.",
        source="masks/",
        shown=(shown,),
    )
    return Drawing(look, {"stages.png": figure})


def _rows(subject: SegmentSubject, folders: list[Path]) -> list[StageRow]:
    kept = {path.relative_to(folder).with_suffix("").as_posix() for folder in folders for path in folder.rglob("*.png")}
    names = subject.mask_names
    places = [i for i, name in enumerate(names) if name in kept]
    if lost := sorted(kept - {names[i] for i in places}):
        raise UserError(f"{subject.pairs.root}: has no image of the kept mask {lost[0]}.png any more; restore it")
    return [
        StageRow(
            names[i],
            (
                subject.picture(i),
                paint(subject.truth(i), subject.run.table),
                *(_kept(folder / f"{names[i]}.png") for folder in folders),
            ),
        )
        for i in places
    ]


def _columns(subject: SegmentSubject) -> list[tuple[str, Path]]:
    """Return header and folder of each stage; an epoch that the recipe names but that has no masks is noted."""
    found, epochs = subject.run.stages(), subject.recipe.stage_epochs
    columns = []
    for place, epoch in enumerate(epochs):
        name = f"epoch_{epoch:03d}"
        if name not in found:
            subject.say(f"epoch {epoch} has no masks, so its column is left out: training did not get that far")
            continue
        header = f"{_STAGES[place]}\nepoch {epoch}" if len(epochs) == len(_STAGES) else f"epoch {epoch}"
        columns.append((header, found[name]))
    if "best" in found:
        columns.append((f"final\nepoch {_final_epoch(subject)}", found["best"]))
    return columns


def _final_epoch(subject: SegmentSubject) -> int:
    """Return the epoch whose weights the segmenter became."""
    history = subject.run.member(subject.name).history()
    scored = [row for row in history if row.get("holdout_miou")]
    if subject.recipe.train_of(subject.recipe.segmenter).keep == "best" and scored:
        return int(max(scored, key=lambda row: float(row["holdout_miou"]))["epoch"])
    return int(history[-1]["epoch"])


def _legend(table: ClassTable) -> dict[str, tuple[int, int, int]]:
    return {entry.name: entry.colour for entry in table.entries}


def _kept(path: Path) -> np.ndarray | None:
    return decode(path) if path.is_file() else None
