"""The table of predicted masks by stage of training: one row an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from octavo.pictures.grid import GridRow, Swatch, picture_grid
from octavo.pictures.style import Colour


def stage_table(rows: Sequence[GridRow], columns: Sequence[str], classes: Mapping[str, Colour]) -> Figure:
    """Return the table of predicted masks by stage: one row an image, a legend of the classes below.

    Args:
        rows: image, truth, and a mask a stage.
        columns: headers; a second line of one is set smaller.
        classes: name → red, green, blue in 0–255.

    Raises:
        ValueError: no rows, or a row with another number of pictures.
    """
    return picture_grid(rows, columns, {"": {name: Swatch(colour) for name, colour in classes.items()}})
