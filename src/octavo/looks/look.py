"""What one look at a run found: pictures with a sentence each, tables, and where the numbers lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from matplotlib.figure import Figure
from pydantic import Field, model_validator

from octavo.integrity import SEAL, parse_object
from octavo.numbers.results import Name, Number, Result

Cell = Name | int | Number | None
"""What stands in a table; `None` where there is no number."""


class Shown(Result):
    """A picture in the run's folder `plots`.

    Attributes:
        file: its name there, such as `confusion.png`.
        caption: a sentence that says what to see.
        alt: what a reader hears who can't see it.
        wide: whether it needs the page's whole width to be legible.
    """

    file: str
    caption: Name
    alt: Name
    wide: bool = True


class Table(Result):
    """Rows of text and numbers.

    Attributes:
        title: what the rows are.
        columns: a header each, with its unit.
        rows: as many cells as there are columns, each.
        kinds: how each column is written and sorted: `text`, `count` (1,234), `number` (0.1234), `share` (12.3 %).
        caption: a sentence that says what to see, if the title doesn't.
    """

    title: Name
    columns: tuple[Name, ...]
    rows: tuple[tuple[Cell, ...], ...]
    kinds: tuple[Literal["text", "count", "number", "share"], ...]
    caption: Name = ""

    @model_validator(mode="after")
    def _even(self) -> Table:
        if any(len(row) != len(self.columns) for row in (self.kinds, *self.rows)):
            raise ValueError(f'table "{self.title}": every row needs {len(self.columns)} cells')
        return self


class Points(Result):
    """Images as points in a plane, for a plot that answers the mouse; n of them.

    Attributes:
        title: what the plane is: method, layer, seed.
        x: n numbers without unit.
        y: n numbers without unit.
        truth: class ids.
        predicted: class ids.
        confidence: probability of the predicted class, 0–1.
        names: of the images.
        classes: their names in the order of ids.
        thumbs: file in the run's folder `explained`: thumbnails in rows, in the order of the points.
        side: pixels of a thumbnail's side.
        across: thumbnails in a row.
    """

    title: Name
    x: tuple[Number, ...]
    y: tuple[Number, ...]
    truth: tuple[int, ...]
    predicted: tuple[int, ...]
    confidence: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    names: tuple[Name, ...]
    classes: tuple[Name, ...]
    thumbs: str
    side: int
    across: int


class Look(Result):
    """What one look found.

    Attributes:
        name: names its file and its place in the page: `explained/NAME.json`.
        title: of its section.
        sees: one to three sentences: what was done, and what a reader should see.
        source: where the numbers lie, from the run's folder, such as `metrics.json`.
        shown: pictures.
        tables: numbers.
        texts: title → long text that is folded until it is opened, such as a network's layers.
        points: a plot that answers the mouse.
        warnings: what a reader must know before trusting the rest, a sentence each.
        state: `RunFolder.state` of what it shows, when it was taken.
        files: path in the run's folder → SHA-256 of each picture and other file of it.
    """

    format: Literal[1] = 1
    name: str
    title: Name
    sees: Name
    source: str
    shown: tuple[Shown, ...] = ()
    tables: tuple[Table, ...] = ()
    texts: dict[str, Name] = Field(default_factory=dict)
    points: Points | None = None
    warnings: tuple[Name, ...] = ()
    state: str = ""
    files: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str, where: str = "explained") -> Look:
        """Return the look that a file of the run's folder `explained` holds, whose seal isn't checked.

        Raises:
            UserError: the text is no look; `where` names its file.
        """
        value = parse_object(text.encode("utf-8", "surrogatepass"), Path(where), "octavo explain makes it anew")
        return super().from_json(json.dumps({key: item for key, item in value.items() if key != SEAL}), where)


@dataclass(frozen=True, eq=False)
class Drawing:
    """A look and what it consists of.

    Attributes:
        look: what was found.
        figures: file name in `plots` → figure, or the bytes of the file.
        files: file name in `explained` → content.
    """

    look: Look
    figures: Mapping[str, Figure | bytes] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def single(
        cls,
        figure: Figure | bytes,
        *,
        name: str,
        title: str,
        sees: str,
        source: str,
        caption: str,
        alt: str,
        wide: bool = True,
        tables: Sequence[Table] = (),
        warnings: Sequence[str] = (),
    ) -> Drawing:
        """Return a look of one figure, `plots/NAME.png`; the words are those of `Look` and `Shown`."""
        file = f"{name}.png"
        shown = Shown(file=file, caption=caption, alt=alt, wide=wide)
        look = Look(
            name=name,
            title=title,
            sees=sees,
            source=source,
            shown=(shown,),
            tables=tuple(tables),
            warnings=tuple(warnings),
        )
        return cls(look, {file: figure})

    def __post_init__(self) -> None:
        """Refuse a look whose pictures aren't drawn."""
        if missing := {shown.file for shown in self.look.shown} - set(self.figures):
            raise ValueError(f"look {self.look.name}: no figure for {sorted(missing)}")


@dataclass(frozen=True)
class Way:
    """A way to look at a run.

    Attributes:
        draw: from the subject to a drawing; None where there is nothing to see.
        thorough: whether it runs networks or takes long in any case, so that a report goes without.
        seconds: subject → about how long it would run networks, where that depends on what is at hand.
        of: what it shows that may change in a finished run, as `RunFolder.state` calls it.
    """

    draw: Callable[[Any], Drawing | None]
    thorough: bool = False
    seconds: Callable[[Any], float] = lambda _: 0.0
    of: tuple[str, ...] = ()
