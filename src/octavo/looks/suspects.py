"""Labels that are probably wrong."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from octavo.data.corrections import DROP, filled_in
from octavo.errors import UserError
from octavo.files import csv_bytes
from octavo.looks.look import Drawing, Look, Shown, Table
from octavo.looks.subject import ClassifySubject
from octavo.numbers.suspects import Suspects, label_suspects
from octavo.pictures.sheets import Tile, contact_sheet
from octavo.words import counted

MOST, NARROW, LISTED = 24, 3, 200
"""Images on a contact sheet, up to how many it doesn't need the whole width, and rows of a table."""
LIST = "suspects.csv"
COLUMNS = ("file", "part", "label", "suggested", "self_confidence", "suggested_probability", "corrected")
"""The list of all of them in the run's folder `explained`, and its columns; a user fills the last one."""
_METHOD = (
    "Confident learning (Northcutt, Jiang and Chuang, Journal of Artificial Intelligence Research 70, 2021; cleanlab) "
    "compares the labels with the ensemble's probabilities, of networks that were not trained on the image."
)


@dataclass(frozen=True, eq=False)
class _Part:
    """Images that were judged, and what was found among them; n images."""

    name: str
    words: str
    files: list[str]
    labels: np.ndarray
    found: Suspects


def suspects(subject: ClassifySubject) -> Drawing:
    """Draw the images whose label is probably wrong: of the validation images, and of the held-out training images."""
    held = "training" if subject.recipe.folds else "held-out training"
    parts = [_part(subject, name, words) for name, words in (("val", "validation"), ("holdout", held))]
    parts = [part for part in parts if len(part.files)]
    some = [part for part in parts if len(part.found.indices)]
    look = Look(
        name="suspects",
        title="Labels that are probably wrong",
        sees=" ".join((_sees(parts), *_caveats(subject, parts))),
        source="members/*/outputs.safetensors",
        shown=tuple(_shown(part) for part in some),
        tables=tuple(_table(subject, part) for part in some),
    )
    figures = {_file(part): contact_sheet(_tiles(subject, part)) for part in some}
    return Drawing(look, figures, _list(subject, parts))


def _part(subject: ClassifySubject, name: str, words: str) -> _Part:
    run, labels = subject.run, subject.run.labels(name)
    files = run.files(name)
    outputs = [run.member(member).outputs().get(name) for member in subject.members]
    logits = [output for output in outputs if output is not None and len(output) == len(files)]
    if not files or len(logits) < len(outputs):
        return _Part(name, words, [], labels[:0], label_suspects(labels[:0], np.zeros((0, len(subject.classes)))))
    probabilities = softmax(run.ensemble.logits(np.stack(logits)), axis=1)
    return _Part(name, words, files, labels, label_suspects(labels, probabilities))


def _sees(parts: list[_Part]) -> str:
    counts = [
        f"{len(part.found.indices):,} of {counted(len(part.files), f'{part.words} image')}"
        f" ({100 * len(part.found.indices) / len(part.files):.1f} %)"
        for part in parts
    ]
    many = sum(len(part.found.indices) for part in parts)
    hint = (
        "Each is a guess for a person to judge: a mistake of the network looks the same. All are in "
        f"explained/{LIST}: the right class goes into its column corrected, or {DROP} to drop the image, and "
        "--labels trains with it."
    )
    return f"{_METHOD} Suspicious are {' and '.join(counts)}. {hint if many else ''}".strip()


def _caveats(subject: ClassifySubject, parts: list[_Part]) -> tuple[str, ...]:
    """Return what was chosen on the images that are judged, and which images aren't."""
    report, recipe = subject.report, subject.recipe
    trains = [recipe.train_of(member) for member in recipe.members]
    found = []
    for part in parts:
        here = (part.name, "out-of-fold" if part.name == "holdout" else part.name)
        chosen = ["the ensemble's weights"] if report.fitted_on in here else []
        chosen += ["its calibration"] if report.calibrated_on in here else []
        if part.name == "holdout" and any(train.keep == "best" or train.patience for train in trains):
            chosen.append("the last epoch of members")
        if chosen:
            found.append(f"The {part.words} images served to choose {' and '.join(chosen)}, so they are judged mildly.")
    if recipe.folds:
        return (*found, "Each training image is judged by those networks whose fold left it out.")
    return (
        *found,
        "The other training images are not judged, because a network repeats the labels it learnt; with data.folds all "
        "are.",
    )


def _list(subject: ClassifySubject, parts: list[_Part]) -> dict[str, bytes]:
    """Return the list of all suspicious images, the most suspicious first, then others that the run's labels correct.

    A list that a user has begun to fill in is left alone.
    """
    path, rows = subject.run.explained(LIST), {row["file"]: row for row in subject.run.samples()}
    corrected = {file: DROP if row["part"] == "unused" else row["label"] for file, row in rows.items() if _given(row)}
    if _touched(path, corrected):
        subject.say(f"{path}: left as it is filled in; --labels {shlex.quote(str(path))} trains with it")
        return {}
    found = sorted((row for part in parts for row in _ranked(subject, part)), key=lambda row: row["self_confidence"])
    if found:
        subject.say(
            f"{path}: {counted(len(found), 'suspicious label')}; write the right class into its column corrected, or "
            f"{DROP} to drop the image, and train with --labels {shlex.quote(str(path))}"
        )
    for row in found:
        row |= {"label": _given(rows[row["file"]]) or row["label"], "corrected": corrected.pop(row["file"], "")}
    before = [
        {"file": file, "part": rows[file]["part"], "label": _given(rows[file]), "corrected": value}
        for file, value in corrected.items()
    ]
    return {LIST: csv_bytes([*found, *before], COLUMNS)}


def _touched(path: Path, corrected: Mapping[str, str]) -> bool:
    """Return whether something else stands in a list's last column than what the run was trained with."""
    try:
        return filled_in(path) != corrected
    except FileNotFoundError:
        return False
    except (UserError, OSError):
        return True


def _given(row: Mapping[str, str]) -> str:
    """Return an image's label as the data have it, where the run was trained with another; else nothing."""
    return row.get("given", "")


def _ranked(subject: ClassifySubject, part: _Part) -> list[dict[str, Any]]:
    found, names = part.found, subject.manifest["classes"]
    columns = (found.indices, found.suggested, found.self_confidence, found.confidence)
    return [
        {
            "file": part.files[i],
            "part": part.name,
            "label": names[part.labels[i]],
            "suggested": names[suggested],
            "self_confidence": round(float(own), 6),
            "suggested_probability": round(float(other), 6),
        }
        for i, suggested, own, other in zip(*columns, strict=True)
    ]


def _file(part: _Part) -> str:
    return "suspects.png" if part.name == "val" else f"suspects_{part.name}.png"


def _shown(part: _Part) -> Shown:
    shown, every = min(len(part.found.indices), MOST), len(part.found.indices)
    which = f"The first {shown} of {every:,}" if every > shown else f"All {shown}" if shown > 1 else "The only one"
    return Shown(
        file=_file(part),
        caption=f"{which} of the {part.words} images whose label is suspicious, the least probable label first: the "
        "given label with its probability, and below it the class that the ensemble suggests.",
        alt=f"Contact sheet of {part.words} images whose label is probably wrong",
        wide=shown > NARROW,
    )


def _table(subject: ClassifySubject, part: _Part) -> Table:
    found, names = part.found, subject.classes
    rows = [
        (number, subject.named[part.files[i]], names[part.labels[i]], names[suggested], float(own))
        for number, (i, suggested, own) in enumerate(
            zip(found.indices, found.suggested, found.self_confidence, strict=True), 1
        )
    ]
    more = f" The first {LISTED} of {len(rows):,}." if len(rows) > LISTED else ""
    return Table(
        title=f"Suspicious labels of {part.words} images",
        columns=("no.", "image", "given label", "suggested label", "self-confidence"),
        rows=tuple(rows[:LISTED]),
        kinds=("count", "text", "text", "text", "share"),
        caption=f"Self-confidence is the ensemble's probability of the given label.{more}",
    )


def _tiles(subject: ClassifySubject, part: _Part) -> list[Tile]:
    places = [i for i, row in enumerate(subject.run.samples()) if row["part"] == part.name]
    found, names, tiles = part.found, subject.classes, []
    for i, suggested, own in list(zip(found.indices, found.suggested, found.self_confidence, strict=True))[:MOST]:
        picture = subject.pixels.image(places[i]).transpose(1, 2, 0)
        given = ("label ", names[part.labels[i]], f", {100 * own:.1f} %")
        tiles.append(Tile(picture, given, ("→ ", names[suggested], "")))
    return tiles
