"""Predicted masks at early, middle and late stages of training, as the reference's table has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from octavo.data.masks import paint
from octavo.errors import UserError
from octavo.files import inside
from octavo.looks.legend import Legend, ids_of, legend_of
from octavo.looks.look import Drawing
from octavo.looks.subject import SegmentSubject
from octavo.pictures.grid import GridRow, smaller
from octavo.pictures.stages import stage_table

_STAGES = ("early", "middle")
_ROWS, _MASKS = 12, 6
"""Images and stages that are drawn at most, so that the table stays legible."""


def stages(subject: SegmentSubject) -> Drawing | None:
    """Draw the table: original, truth, early, middle, final; a row an image. None if no masks were kept."""
    if not subject.run.stages():
        subject.say("no masks by stage were kept: the recipe's stages name no image or no epoch")
        return None
    columns = _columns(subject)
    folders = [folder for _, folder in columns]
    places = _places(subject, folders)
    pixels = subject.counts[places].sum(0)
    legend = legend_of(subject.run.table, pixels.sum(0) + pixels.sum(1), void=True)
    rows = [_row(subject, i, folders, legend) for i in places]
    if any(picture is None for row in rows for picture in row.pictures):
        subject.say("some masks of some stages are missing; their places are empty")
    headers = ("original", "truth", *(header for header, _ in columns))
    figure = stage_table(rows, headers, legend.entries)
    return Drawing.single(
        figure,
        name="stages",
        title="Masks by stage of training",
        sees=_sees(len(rows), columns),
        source="masks/",
        caption="From left to right the masks should come closer to the truth, large areas first and borders last.",
        alt="Original images, true masks, and predicted masks by stage of training",
    )


def _sees(images: int, columns: list[tuple[str, Path]]) -> str:
    epochs = [header.partition("epoch ")[2] for header, _ in columns]
    listed = f"epochs {', '.join(epochs)}" if len(epochs) > 1 else f"epoch {epochs[0]}"
    what = "1 validation image" if images == 1 else f"{images} validation images"
    final = " The last of them gave the weights that the run keeps." if columns[-1][1].name == "best" else ""
    return f"{what}: original, truth, and the mask predicted after {listed}.{final}"


def _places(subject: SegmentSubject, folders: list[Path]) -> list[int]:
    """Return which validation images have a mask of any stage, twelve at most."""
    files = subject.run.member(subject.name)
    kept = {name for folder in folders for name in files.masks(folder)}
    names = subject.mask_names
    places = [i for i, name in enumerate(names) if name in kept]
    if lost := sorted(kept - {names[i] for i in places}):
        raise UserError(f"{subject.run.path}: its data have no image of the kept mask {lost[0]}.png any more")
    if len(places) > _ROWS:
        subject.say(f"masks by stage: the first {_ROWS} of {len(places)} images are drawn; masks/ has all")
    return places[:_ROWS]


def _row(subject: SegmentSubject, index: int, folders: list[Path], legend: Legend) -> GridRow:
    name, table = subject.mask_names[index], subject.run.table
    files = [inside(folder, f"{name}.png", nested=True) for folder in folders]
    masks = [paint(smaller(subject.truth(index)), table)]
    masks += [smaller(subject.kept_mask(file)) if file.is_file() else None for file in files]
    if len(table.entries) > len(legend.entries):
        masks = [None if mask is None else legend.colours[ids_of(mask, table)] for mask in masks]
    return GridRow(subject.titles[index], (smaller(subject.picture(index), smooth=True), *masks))


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
    final = [(f"final\nepoch {subject.final_epoch}", found["best"])] if "best" in found else []
    room = _MASKS - len(final)
    if len(columns) > room:
        subject.say(f"masks by stage: {room} of {len(columns)} epochs are drawn; masks/ has all")
        columns = [columns[i] for i in np.linspace(0, len(columns) - 1, room).round().astype(int)]
    return [*columns, *final]
