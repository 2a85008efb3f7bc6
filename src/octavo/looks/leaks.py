"""Images that training and scoring share, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from octavo.errors import UserError
from octavo.looks.look import Cell, Drawing, Look, Shown, Table
from octavo.looks.subject import ClassifySubject, SegmentSubject
from octavo.pictures.sheets import Tile, contact_sheet
from octavo.words import counted

PAIRS, ROWS = 12, 500
"""Pairs on the contact sheet and in the table; `leaks.json` has all."""
_PARTS = {"fit": "training", "holdout": "held out", "val": "validation", "test": "test"}


def leaks(subject: ClassifySubject | SegmentSubject) -> Drawing | None:
    """Draw pairs of images that parts of the data share; None where there are none, or nobody looked."""
    found = subject.run.leaks
    pairs: Sequence[Mapping[str, Any]] = found["pairs"] if found else ()
    if not found or not pairs:
        return None
    figures = {"leaks.png": contact_sheet(tiles, across=4)} if (tiles := _tiles(subject, pairs[:PAIRS])) else {}
    shown = Shown(
        file="leaks.png",
        caption=f"The {counted(len(tiles) // 2, 'most similar pair')}, twins side by side: odd numbers are scored, "
        "even ones were trained on. Judge by eye whether they are one picture.",
        alt="Pairs of images that are in two parts of the data",
    )
    table = Table(
        title="Images that are in two parts of the data",
        columns=("image", "part", "its twin", "its part", "differs by", "similarity"),
        rows=tuple(_row(subject, pair) for pair in pairs[:ROWS]),
        kinds=("text", "text", "text", "text", "text", "number"),
        caption="Similarity of texture where one is laid over the other, 1 for equal pixels."
        + (f" The first {ROWS} of {len(pairs):,}; leaks.json has all." if len(pairs) > ROWS else ""),
    )
    look = Look(
        name="leaks",
        title="Images that training and scoring share",
        sees=_sees(subject, len(pairs)),
        source="leaks.json",
        shown=(shown,) if figures else (),
        tables=(table,),
    )
    return Drawing(look, figures)


def _sees(subject: ClassifySubject | SegmentSubject, pairs: int) -> str:
    report, words = subject.report, f"{counted(pairs, 'pair')} of images in two parts of the data."
    found = report.without_twins
    if not found or not found.twins:
        return f"{words} No scored image is among them."
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.items())
    have = "has" if found.twins == 1 else "have"
    words = (
        f"{counted(found.twins, 'scored image')} {have} a twin, or what looks like one, among the training images "
        f"({kinds})."
    )
    key = report.headline
    if key not in found.metrics:
        return words
    own = report.quoted
    title = "accuracy" if key == "accuracy" else "mIoU"
    whole = f"{own.value:.4f} with them and " if own else ""
    return f"{words} The {title} is {whole}{found.metrics[key].value:.4f} on the {counted(found.n, 'image')} without."


def _row(subject: ClassifySubject | SegmentSubject, pair: Mapping[str, Any]) -> tuple[Cell, ...]:
    first, second = (subject.named[pair[key]] for key in ("first", "second"))
    parts = (_PARTS.get(pair[key], pair[key]) for key in ("first_part", "second_part"))
    return first, next(parts), second, next(parts), pair["kind"], float(pair["similarity"])


def _tiles(subject: ClassifySubject | SegmentSubject, pairs: Sequence[Mapping[str, Any]]) -> list[Tile]:
    """Return the two images of each pair; none where the data are gone."""
    try:
        pixels = subject.pixels
    except UserError as error:
        subject.say(f"leaks: shown without pictures: {error}")
        return []
    place = {row["file"]: i for i, row in enumerate(subject.rows)}
    return [
        Tile(
            pixels.image(place[pair[key]]).transpose(1, 2, 0),
            (f"{_PARTS.get(pair[f'{key}_part'], '')}: ", subject.named[pair[key]], ""),
            (pair["kind"], "", f", {pair['similarity']:.2f}") if key == "second" else ("", "", ""),
        )
        for pair in pairs
        for key in ("first", "second")
    ]
