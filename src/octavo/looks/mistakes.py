"""The worst mistakes and the least certain images."""

from __future__ import annotations

import numpy as np

from octavo.looks.look import Cell, Drawing, Look, Shown, Table
from octavo.looks.subject import ClassifySubject
from octavo.numbers.ranking import least_certain, second, worst_mistakes
from octavo.pictures.sheets import Tile, contact_sheet
from octavo.words import counted

MOST, NARROW = 24, 3
"""Images on a contact sheet, and up to how many it doesn't need the whole width."""


def mistakes(subject: ClassifySubject) -> Drawing:
    """Draw the validation images that the ensemble got most confidently wrong, and those it is least certain of."""
    wrong = worst_mistakes(subject.labels, subject.predicted, subject.probabilities)
    order, margin = least_certain(subject.probabilities)
    worst, unsure = wrong[:MOST], order[:MOST]
    figures = {"least_certain.png": contact_sheet([_tile(subject, i) for i in unsure])}
    if len(worst):
        figures["mistakes.png"] = contact_sheet([_tile(subject, i) for i in worst])
    look = Look(
        name="mistakes",
        title="The worst mistakes and the least certain images",
        sees=_sees(subject, wrong, margin),
        source="predictions/val.csv",
        shown=tuple(shown for shown in _shown(len(worst), len(unsure)) if shown.file in figures),
        tables=tuple(_tables(subject, worst, unsure, margin)),
    )
    return Drawing(look, figures)


def _sees(subject: ClassifySubject, wrong: np.ndarray, margin: np.ndarray) -> str:
    total, unsure = len(subject.labels), int((margin < 0.1).sum())
    close = f"In {unsure:,} the two most probable classes are less than 10 points apart."
    if not len(wrong):
        return f"The ensemble has none of the {counted(total, 'validation image')} wrong. {close}"
    sure = int((subject.probabilities[wrong, subject.predicted[wrong]] >= 0.9).sum())
    return (
        f"The ensemble has {len(wrong):,} of {counted(total, 'validation image')} wrong, {sure:,} of them with a "
        f"probability of at least 90 %. {close}"
    )


def _shown(worst: int, unsure: int) -> tuple[Shown, ...]:
    return (
        Shown(
            file="mistakes.png",
            caption=f"The {counted(worst, 'worst mistake')}, the most confident first, with the true and the predicted "
            "class and its probability: look for wrong labels, several things in one image, and classes that differ in "
            "name only.",
            alt="Contact sheet of the most confident mistakes",
            wide=worst > NARROW,
        ),
        Shown(
            file="least_certain.png",
            caption=f"The {counted(unsure, 'image')} with the smallest margin between the two most probable classes, "
            "right or wrong: more images like these would teach the most.",
            alt="Contact sheet of the images that the ensemble is least certain of",
            wide=unsure > NARROW,
        ),
    )


def _tables(subject: ClassifySubject, worst: np.ndarray, unsure: np.ndarray, margin: np.ndarray) -> list[Table]:
    of_truth = subject.probabilities[worst, subject.labels[worst]]
    order = "In the order of the contact sheet"
    first = f"{order}: the most probable wrong answer first."
    last = f"{order}; the margin is the highest probability less the second highest."
    tables = [_table(subject, worst, "The worst mistakes", "probability of the truth", of_truth, first)]
    tables.append(_table(subject, unsure, "The least certain images", "margin", margin[unsure], last))
    return [table for table in tables if table.rows]


def _table(
    subject: ClassifySubject, places: np.ndarray, title: str, what: str, values: np.ndarray, caption: str
) -> Table:
    """Return a row an image of `places`, whose last cell is its number of `values`."""
    names, found = subject.classes, subject.probabilities
    seconds = second(found[places], subject.predicted[places])
    rows: list[tuple[Cell, ...]] = []
    for number, (i, other, value) in enumerate(zip(places, seconds, values, strict=True), 1):
        said = subject.predicted[i]
        answers = (names[said], float(found[i, said]), names[other], float(found[i, other]))
        rows.append((number, subject.names[i], names[subject.labels[i]], *answers, float(value)))
    return Table(
        title=title,
        columns=("no.", "image", "truth", "prediction", "probability", "second class", "its probability", what),
        rows=tuple(rows),
        kinds=("count", "text", "text", "text", "share", "text", "share", "share"),
        caption=caption,
    )


def _tile(subject: ClassifySubject, index: int) -> Tile:
    predicted = subject.predicted[index]
    return Tile(
        subject.picture(index),
        ("true ", subject.classes[subject.labels[index]], ""),
        ("→ ", subject.classes[predicted], f", {100 * subject.probabilities[index, predicted]:.0f} %"),
    )
