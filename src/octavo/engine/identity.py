"""Identity of a run's data: images and their labels or masks by content, in their order, parts and groups.

What was computed of some data may stand in for others only where these are the same; `evaluate`, `train --resume`,
`reproduce`, `distil`, `report RUN RUN` and the tests of prediction sets all ask here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from octavo.engine.folder import RunFolder
from octavo.numbers.bootstrap import group_ids
from octavo.words import counted

IMAGE_COLUMN, MASK_COLUMN = "pixels", "mask_pixels"
"""Columns of `samples.csv` that hold content digests (see `octavo.data.content`); runs of before lack them."""
TRAINED = ("fit", "holdout")
"""Parts that weights, epochs or the ensemble were fitted on."""
_SHOWN = 3
"""Files that are named of those that have changed."""
_OTHER = {IMAGE_COLUMN: "other pixels", MASK_COLUMN: "another mask"}


@dataclass(frozen=True)
class PartIdentity:
    """Some images of a data set, in their order; equal ones may stand in for each other.

    Attributes:
        images: content digest of each.
        truths: its label, or the content digest of its mask.
        groups: a number that is equal within a group; None where there are no groups.
    """

    images: tuple[str, ...]
    truths: tuple[str, ...]
    groups: tuple[int, ...] | None


@dataclass(frozen=True)
class DataIdentity:
    """What the images of a data set are, and what they are labelled with.

    Attributes:
        rows: of each file its `file`, `label` or `mask`, and where it is known `part`, `group`, and content digests.
        own_split: whether the data came with a validation part.
        decoded: how images were decoded: content digests of other decodings say nothing about each other.
        pixels: SHA-256 of all decoded images.
        masks: SHA-256 of all decoded masks; None where there are labels.
        classes: names in the order of their ids.
        table: names, values and colours of the classes of masks.
    """

    rows: Sequence[Mapping[str, str]]
    own_split: bool
    decoded: object
    pixels: str
    masks: str | None = None
    classes: tuple[str, ...] = ()
    table: Mapping[str, Any] | None = None

    @classmethod
    def of_run(cls, run: RunFolder) -> DataIdentity:
        """Return the identity of the data that a run was made from."""
        manifest = run.manifest
        data = manifest["data"]
        return cls(
            run.samples(), data.get("own_split", True), run.recipe.decoding, data["pixels"], data.get("masks"),
            tuple(manifest["classes"]), manifest.get("table"),
        )  # fmt: skip

    @cached_property
    def truth_column(self) -> str:
        """The column that holds what images are labelled with."""
        return "label" if self.masks is None else MASK_COLUMN

    def known_from(self, other: DataIdentity) -> DataIdentity:
        """Return it with the digests of `other` where it has none, and all images (or all masks) are the same."""
        if len(self.rows) != len(other.rows):
            return self
        same = {IMAGE_COLUMN: bool(self.pixels) and self.pixels == other.pixels, MASK_COLUMN: self.masks == other.masks}
        taken = [column for column, equal in same.items() if equal and self.rows and column not in self.rows[0]]
        rows = [
            {**own, **{column: row[column] for column in taken if column in row}}
            for own, row in zip(self.rows, other.rows, strict=True)
        ]
        return replace(self, rows=rows)

    def places(self, parts: Iterable[str]) -> list[int]:
        """Return the places of the images of some parts, ascending."""
        chosen = set(parts)
        return [i for i, row in enumerate(self.rows) if row["part"] in chosen]

    def part_rows(self, part: str) -> list[Mapping[str, str]]:
        """Return the rows of one part, in their order."""
        return [row for row in self.rows if row["part"] == part]

    def part(self, places: Sequence[int] | np.ndarray) -> PartIdentity | None:
        """Return the identity of the images at some places; None where their content isn't known."""
        rows = [self.rows[int(i)] for i in places]
        if not all(row.get(IMAGE_COLUMN) and self.truth_column in row for row in rows):
            return None
        groups = group_ids([row.get("group", "") for row in rows])
        return PartIdentity(
            tuple(row[IMAGE_COLUMN] for row in rows),
            tuple(row[self.truth_column] for row in rows),
            None if groups is None else tuple(groups.tolist()),
        )

    def whole(self, *, given: bool = False) -> tuple[object, ...] | None:
        """Return the identity of all of it, broken files too, without the parts; None where its content isn't known.

        With `given` labels count as the data have them, without a run's corrections.
        """
        if not all(IMAGE_COLUMN in row and self.truth_column in row for row in self.rows):
            return None
        truths = tuple((given and row.get("given")) or row[self.truth_column] for row in self.rows)
        groups = group_ids([row.get("group", "") for row in self.rows])
        known = None if groups is None else tuple(groups.tolist())
        return tuple(row[IMAGE_COLUMN] for row in self.rows), truths, known, self.own_split

    def trained_on(self, images: Iterable[str]) -> int:
        """Return how many of some images, by their content digests, are among the training images."""
        seen = {self.rows[i].get(IMAGE_COLUMN, "") for i in self.places(TRAINED)} - {""}
        return sum(image in seen for image in images)


def comparable(data: Sequence[DataIdentity]) -> bool:
    """Tell whether the images of several runs can be compared by their pixels."""
    known = all(own.rows and IMAGE_COLUMN in own.rows[0] for own in data)
    return known and all(own.decoded == data[0].decoded for own in data)


def changes(then: DataIdentity, now: DataIdentity) -> list[str]:
    """Return, a line each, in what data differ from what they were; none where they are the same."""
    ignored = () if then.decoded == now.decoded else (IMAGE_COLUMN,)
    lines = changed_rows(then.rows, now.rows, ignored)
    if then.classes != now.classes:
        lines.append(f"the classes were {_some(then.classes)}, and are {_some(now.classes)} now")
    if then.table != now.table:
        lines.append("the table of classes has changed")
    had, have = (bool(data.rows) and "group" in data.rows[0] for data in (then, now))
    if had != have:
        lines.append(f"the images {'had' if had else 'have'} groups{'' if had else ' now'}")
    if lines:  # other files are other pixels: that says nothing more
        return lines
    if not ignored and then.pixels != now.pixels:
        lines.append("the pixels of the images have changed")
    if then.masks != now.masks:
        lines.append("the masks have changed")
    return lines


def changed_parts(then: DataIdentity, now: DataIdentity, part: str) -> list[str]:
    """Return, a line each, in what the images of one part and their labels differ; none: results can be paired."""
    known = ("file", "part", then.truth_column, IMAGE_COLUMN)
    was, here = ([{k: row[k] for k in known if k in row} for row in data.part_rows(part)] for data in (then, now))
    same = then.decoded == now.decoded
    lines = changed_rows(was, here, () if same else (IMAGE_COLUMN,))
    digests = bool(was) and bool(here) and IMAGE_COLUMN in was[0] and IMAGE_COLUMN in here[0]
    if not lines and same and not digests and then.pixels != now.pixels:
        lines.append("the pixels of the images, of training too, are others")
    return lines


def changed_rows(
    then: Sequence[Mapping[str, str]], now: Sequence[Mapping[str, str]], ignored: Sequence[str] = ()
) -> list[str]:
    """Return, a line each, how lists of files differ, in the columns that both have but those `ignored`."""
    was, here = ({row["file"]: row for row in rows} for rows in (then, now))
    lines = []
    for word, files in (("gone", [f for f in was if f not in here]), ("new", [f for f in here if f not in was])):
        if files:
            lines.append(f"{counted(len(files), 'file')} {'is' if len(files) == 1 else 'are'} {word} ({_some(files)})")
    shared = [file for file in was if file in here]
    columns = [c for c in (then[0] if then else {}) if now and c in now[0] and c not in ("file", *ignored)]
    for column in columns:
        other = [file for file in shared if was[file][column] != here[file][column]]
        if other and column in _OTHER:
            lines.append(f"{counted(len(other), 'file')} with {_OTHER[column]} ({_some(other)})")
        elif other:
            shown = "; ".join(f"{f}: {was[f][column]} → {here[f][column]}" for f in other[:_SHOWN])
            more = "; …" if len(other) > _SHOWN else ""
            lines.append(f"{counted(len(other), 'file')} with another {column} ({shown}{more})")
    if not lines and [*was] != [*here]:
        lines.append("the files are in another order")
    return lines


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
