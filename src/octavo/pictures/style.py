"""What all figures share: inks, a palette, text, and how they are written."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

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
        figure.savefig(buffer, format=form, dpi=dpi, bbox_inches="tight")
    return buffer.getvalue()


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
