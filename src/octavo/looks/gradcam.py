"""Where each member looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from scipy.special import softmax

from octavo.engine.gradcam import Heat
from octavo.engine.gradcam import gradcam as heat_of
from octavo.engine.hardware import find
from octavo.engine.restore import restore
from octavo.errors import UserError, suggest
from octavo.looks.look import Drawing, Table
from octavo.looks.subject import ClassifySubject
from octavo.numbers.ranking import surest, worst_mistakes
from octavo.pictures.heat import HeatCell, HeatRow, heat_table

WORST, SHOWN, LIMIT = 4, 8, 16
"""Mistakes among the images that are shown, images that are shown, and images that may be named."""
COARSE = 4
"""Cells along a map below which it says little."""


def gradcam(subject: ClassifySubject, images: Sequence[str] = ()) -> Drawing:
    """Draw Grad-CAM maps of every member on a few validation images, for the class that the ensemble predicts.

    Args:
        subject: a run; its networks are loaded one after another.
        images: validation files, by their path in the data or the end of it; by default the worst mistakes and the
            surest images.

    Raises:
        UserError: no such validation image, several of that name, or too many.
    """
    chosen = [_place(subject, name) for name in dict.fromkeys(images)] if images else _chosen(subject)
    if len(chosen) > LIMIT:
        raise UserError(f"--image: {len(chosen)} images; name at most {LIMIT}")
    heats = _heats(subject, chosen)
    rows = [_row(subject, heats, place, i) for place, i in enumerate(chosen)]
    without = [name for name, heat in heats.items() if heat.maps is None]
    if without:
        subject.say(f"gradcam: no spatial map in {', '.join(without)}")
    return Drawing.single(
        heat_table(rows, list(heats)),
        name="gradcam",
        title="Where each member looks",
        sees=_sees(without),
        source="predictions/val.csv",
        caption="Yellow regions speak most for the class that the ensemble predicts; below each map stands the "
        "member's own probability of that class. Maps beside the object tell of a network that goes by the "
        "background.",
        alt="Validation images under the Grad-CAM maps of every member",
        wide=len(heats) > 1,
        tables=(_images(subject, chosen), _layers(heats)),
        warnings=_coarse(heats),
    )


def _sees(without: list[str]) -> str:
    lacks = (
        f" No spatial map, and so no heat, have {', '.join(without)}: transformers, or images too small."
        if without
        else ""
    )
    return (
        "Grad-CAM (Selvaraju et al., ICCV 2017) on the last spatial map of every member's extractor, for the class "
        "that the ensemble predicts, right or wrong. Each map is scaled to its own highest value, so that heat can't "
        f"be compared between maps.{lacks}"
    )


def _coarse(heats: dict[str, Heat]) -> tuple[str, ...]:
    names = [name for name, heat in heats.items() if heat.maps is not None and heat.maps.shape[1] < COARSE]
    if not names:
        return ()
    return (
        f"Maps of fewer than {COARSE}×{COARSE} cells say little about where: {', '.join(names)}; larger images help.",
    )


def _chosen(subject: ClassifySubject) -> list[int]:
    """Return the worst mistakes and then images that were surely recognised, of as many classes as possible."""
    given = (subject.labels, subject.predicted, subject.probabilities)
    worst, sure = worst_mistakes(*given), surest(*given)
    right = sure[: max(SHOWN - WORST, SHOWN - len(worst))]
    return [int(i) for i in (*worst[: SHOWN - len(right)], *right)]


def _place(subject: ClassifySubject, name: str) -> int:
    """Return the place of a validation image by its whole path, or by the end of it if only one ends so."""
    files, names = subject.files, subject.names
    for known in (files, names):
        if known.count(name) == 1:
            return known.index(name)
    parts = PurePosixPath(name).parts
    ends = [i for i, file in enumerate(files) if parts and PurePosixPath(file).parts[-len(parts) :] == parts]
    if not ends:
        raise UserError(f'--image: no validation image "{name}"{suggest(name, names)}')
    if len(ends) > 1:
        raise UserError(f'--image: "{name}" names {len(ends)} validation images, such as {names[ends[0]]}; name a path')
    return ends[0]


def _heats(subject: ClassifySubject, chosen: Sequence[int]) -> dict[str, Heat]:
    """Return member → its maps; one member is in memory at a time."""
    device, heats = find(subject.device).device, {}
    pictures, targets = [subject.picture(i) for i in chosen], [int(subject.predicted[i]) for i in chosen]
    for done, name in enumerate(subject.members, 1):
        heats[name] = heat_of(restore(subject.run, name, device), pictures, targets)
        subject.progress("gradcam", done, len(subject.members), name)
    return heats


def _row(subject: ClassifySubject, heats: dict[str, Heat], place: int, index: int) -> HeatRow:
    predicted, truth = int(subject.predicted[index]), int(subject.labels[index])
    alone = [subject.alone(i, np.array([index]))[0] for i in range(len(subject.members))]
    share = softmax(np.stack(alone), axis=1)[:, predicted]
    cells = [
        HeatCell(heat.seen[place], None if heat.maps is None else heat.maps[place], f"{100 * own:.0f} %")
        for heat, own in zip(heats.values(), share, strict=True)
    ]
    lines = (
        PurePosixPath(subject.names[index]).name,
        f"true: {subject.classes[truth]}",
        f"→ {subject.classes[predicted]}",
        f"{100 * subject.probabilities[index, predicted]:.0f} %, {'right' if predicted == truth else 'wrong'}",
    )
    return HeatRow(lines, subject.picture(index), tuple(cells))


def _images(subject: ClassifySubject, chosen: Sequence[int]) -> Table:
    rows = [
        (
            subject.names[i],
            subject.classes[subject.labels[i]],
            subject.classes[subject.predicted[i]],
            float(subject.probabilities[i, subject.predicted[i]]),
        )
        for i in chosen
    ]
    return Table(
        title="Images, from top to bottom",
        columns=("image", "truth", "prediction of the ensemble", "probability"),
        rows=tuple(rows),
        kinds=("text", "text", "text", "share"),
    )


def _layers(heats: dict[str, Heat]) -> Table:
    rows = [
        (name, heat.layer, f"{heat.maps.shape[1]}×{heat.maps.shape[2]}", f"{heat.seen.shape[1]}×{heat.seen.shape[2]}")
        if heat.maps is not None
        else (name, "no spatial map", None, f"{heat.seen.shape[1]}×{heat.seen.shape[2]}")
        for name, heat in heats.items()
    ]
    return Table(
        title="Where the maps were taken",
        columns=("member", "layer", "map, cells", "input, px"),
        rows=tuple(rows),
        kinds=("text",) * 4,
        caption="The fewer cells a map has, the coarser it says where.",
    )
