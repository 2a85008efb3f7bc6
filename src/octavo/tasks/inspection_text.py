"""Inspected image files in words: their sizes and kinds, and lists of those that are the same or nearly so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from octavo.data.walk import one_line
from octavo.tasks.inspection import Duplicates, Near, Sizes

_SHOWN = 10


def show_sizes(
    console: Console, sizes: Sizes | None, formats: Mapping[str, int], modes: Mapping[str, int], unread: str
) -> None:
    """Show how large images are, what kinds of files, and how many files aren't read."""
    if sizes:
        small, mid, large = (f"{w}×{h}" for w, h in (sizes.smallest, sizes.median, sizes.largest))
        common = ", ".join(f"{w}×{h} ({n:,})" for w, h, n in sizes.common)
        console.print(f"sizes: {small} smallest, {mid} median, {large} largest; most common {common}", highlight=False)
        kinds = ", ".join(f"{k} {n:,}" for k, n in [*formats.items(), *modes.items()])
        console.print(f"formats and modes: {kinds}", highlight=False)
    if unread:
        console.print(Text(one_line(unread)))


def same_text(duplicates: Duplicates) -> str:
    """Return one line that names images that are the same."""
    how = "same bytes" if duplicates.same_bytes else "same pixels"
    places = zip(duplicates.files[:4], duplicates.splits, duplicates.classes, strict=False)
    more = f" and {len(duplicates.files) - 4} more" if len(duplicates.files) > 4 else ""
    return " = ".join(f"{f} ({s}, {c})" for f, s, c in places) + f"{more}: {how}"


def near_title(near: Sequence[Near]) -> str:
    """Return what is said above images that are nearly the same."""
    if any(n.splits[0] != n.splits[1] for n in near):
        return "nearly the same image in two splits: the score is flattered"
    return "nearly the same image twice: a random split may put it into two parts"


def near_text(near: Near) -> str:
    """Return one line that names two images that are nearly the same."""
    (first, second), (one, other) = near.files, near.splits
    return f"{first} ({one}) = {second} ({other}): {near.kind}, similarity {near.similarity:.2f}"


def listed(console: Console, title: str, style: str, lines: Sequence[str]) -> None:
    """Show at most ten lines under a title that counts them all; nothing where there are none."""
    if not lines:
        return
    console.print(Text(f"{title}: {len(lines):,}", style=f"bold {style}"))
    for line in lines[:_SHOWN]:
        console.print(Text(f"  {one_line(line)}"))
    if len(lines) > _SHOWN:
        console.print(Text(f"  … and {len(lines) - _SHOWN:,} more"))
