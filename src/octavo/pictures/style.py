"""What all figures share: inks, a palette, text, and how they are written."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from octavo.files import write_atomic

Colour = tuple[int, int, int]
"""Red, green and blue, each 0–255."""

INK, PALE, FAINT = "#222222", "#707070", "#d0d0d0"
PALETTE = (
    "#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#AA4499", "#44AA99", "#999933", "#882255", "#E69F00",
)  # fmt: skip
"""Ten colours that colour-blind readers tell apart: Paul Tol's "muted" scheme, and Okabe and Ito's orange."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
"""Ten shapes, one beside each colour of the palette, so that no colour is the only sign."""


def save(figure: Figure | bytes, path: Path) -> Path:
    """Write a figure, or the bytes of a picture, whole or not at all, and return where; PNG or SVG by the ending."""
    content = figure if isinstance(figure, bytes) else drawn(figure, path.suffix.removeprefix("."))
    write_atomic(path, content)
    return path


def drawn(figure: Figure, form: str = "png", dpi: int = 130) -> bytes:
    """Return a figure as the bytes of a `png` or `svg` file."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        # Names in a script that matplotlib's own font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")
        # zlib's level 4 takes a third of the time of its default, for files that are 4 % larger.
        figure.savefig(
            buffer,
            format=form,
            dpi=dpi,
            bbox_inches="tight",
            pil_kwargs={"compress_level": 4} if form == "png" else {},
        )
    return buffer.getvalue()


def legend(place: Axes | Figure, entries: Sequence[tuple[str, Artist]], **looks: Any) -> Legend:
    """Name artists in a legend without a frame, whatever they are called; `looks` are matplotlib's.

    Its own way leaves out names that begin with an underscore.
    """
    made = place.legend([artist for _, artist in entries], ["x"] * len(entries), frameon=False, **looks)
    for text, (name, _) in zip(made.get_texts(), entries, strict=True):
        text.set_text(plain(name))
    return made


def plain(text: str) -> str:
    """Return text in which no dollar sign begins a formula."""
    return text.replace("$", r"\$")


def short(text: str, length: int) -> str:
    """Return text of at most `length` letters, its middle left out."""
    length = max(length, 5)
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[: length - half - 1]}…{text[-half:]}"
