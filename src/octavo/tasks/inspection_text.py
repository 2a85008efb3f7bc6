"""Inspected image files in words: their sizes and kinds, and lists of those that are the same or nearly so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rich.console import Console
from rich.text import Text

from octavo.data.walk import one_line
from octavo.tasks.inspection import Duplicates, Flaw, Near, Sizes

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


class Findings(Protocol):
    """What a check found wrong with data of any task."""

    @property
    def errors(self) -> Sequence[str]:
        """What keeps training from starting, apart from broken files."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What doesn't."""
        ...

    @property
    def broken(self) -> Sequence[Flaw]:
        """Files that can't be decoded."""
        ...

    @property
    def suspicious(self) -> Sequence[Flaw]:
        """Files that look wrong."""
        ...

    @property
    def duplicates(self) -> Sequence[Duplicates]:
        """Images that are the same."""
        ...

    @property
    def near(self) -> Sequence[Near]:
        """Images that are nearly the same."""
        ...


def show_findings(console: Console, found: Findings, contradiction: str) -> None:
    """Show what a check found wrong; `contradiction` is the title of equal images with different truths."""
    leaks = [d for d in found.duplicates if d.leak]
    double = [d for d in found.duplicates if d.contradictory and not d.leak]
    plain = [d for d in found.duplicates if not d.leak and not d.contradictory]
    listed(console, "errors", "red", found.errors)
    listed(console, "broken files", "red", [f"{f.file}: {f.reason}" for f in found.broken])
    listed(console, "the same image in two splits: the score is flattered", "red", [same_text(d) for d in leaks])
    listed(console, near_title(found.near), "red", [near_text(n) for n in found.near])
    listed(console, contradiction, "yellow", [same_text(d) for d in double])
    listed(console, "duplicates", "yellow", [same_text(d) for d in plain])
    listed(console, "suspicious files", "yellow", [f"{f.file}: {f.reason}" for f in found.suspicious])
    listed(console, "warnings", "yellow", found.warnings)


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
