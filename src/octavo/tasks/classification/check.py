"""What a data folder is and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from octavo.cache import open_cache
from octavo.data import torchvision_data
from octavo.data.corrections import corrected
from octavo.data.division import divide_samples
from octavo.data.samples import Samples
from octavo.data.walk import one_line
from octavo.errors import UserError, finding
from octavo.progress import Progress, silent
from octavo.recipe import ClassifyRecipe, load
from octavo.tasks.inspection import (
    Duplicates,
    Flaw,
    Near,
    Section,
    Seen,
    Sizes,
    duplicates_of,
    look_at_all,
    near_duplicates,
    sizes_of,
)
from octavo.tasks.inspection_text import show_findings, show_sizes
from octavo.words import counted

IMBALANCE = 10
"""A problem: the largest training class has this many times the images of the smallest."""

RECIPE = "quick"
"""Recipe by whose shares for validation and for holding out the data are judged."""
_SHOWN = 10


class CheckReport(Section):
    """What `octavo check` found."""

    data: str
    layout: str
    own_split: bool
    images: int
    classes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    """Split -> images of each class, in the order of class ids."""
    sizes: Sizes | None
    """None when not one image could be read."""
    formats: dict[str, int]
    modes: dict[str, int]
    """Pillow's colour mode -> images: RGB, L (grey), P (palette), I;16, CMYK, RGBA, …"""
    errors: tuple[str, ...]
    """What keeps training from starting, apart from broken files."""
    warnings: tuple[str, ...]
    broken: tuple[Flaw, ...]
    suspicious: tuple[Flaw, ...]
    duplicates: tuple[Duplicates, ...]
    """Those across splits first, then those with two labels, then the rest."""
    near: tuple[Near, ...] = ()
    """Images of two splits that are nearly the same; of data in one part any two."""
    unread: str = ""
    """In a line: files that lie among the images and aren't read, by their endings."""

    @property
    def ok(self) -> bool:
        """Whether training can start without `--skip-broken`."""
        return not (self.errors or self.broken)

    def show(self, console: Console) -> None:
        """Show it on the terminal."""
        render(self, console)


def check(
    data: str | Path,
    layout: str | None = None,
    columns: str | None = None,
    *,
    labels: Path | None = None,
    cache: Path | None = None,
    leaks: bool | None = None,
    progress: Progress = silent,
) -> CheckReport:
    """Look at every image of a data folder and report what it is and what is wrong with it.

    Args:
        data: folder, CSV file or `torchvision:NAME`.
        layout: its layout, if it can't be found by looking.
        columns: what is what in a table of images, if that can't be.
        labels: CSV file of corrected labels, which count instead of those of the data.
        cache: folder for decoded images.
        leaks: whether to look for images that are nearly the same; None: unless that takes long.
        progress: told how far it is.

    Raises:
        DataRefused: the layout or a table of images can't be read.
        UserError: there is no such folder, or corrections can't be used.
    """
    with finding(data):
        own = torchvision_data.read(data, layout, columns, strict=False, cache=cache, progress=progress)
    samples = corrected(own, labels)[0] if labels else own
    seen = look_at_all(samples, progress)
    headers = [s.header for s in seen if s.header]
    counts = {
        split: tuple(np.bincount(own[own >= 0], minlength=len(samples.classes)).tolist())
        for split, own in ((split, samples.labels[index]) for split, index in samples.splits.items())
    }
    refused, lost = _division(own, labels, [i for i, one in enumerate(seen) if one.broken])
    near, unlooked = near_duplicates(samples, samples.splits, open_cache(cache), leaks, progress)
    return CheckReport(
        data=str(data),
        layout=samples.layout,
        own_split=samples.own_split,
        images=len(samples.files),
        classes=samples.classes,
        counts=counts,
        sizes=sizes_of(headers),
        formats=dict(Counter(h.format for h in headers).most_common()),
        modes=dict(Counter(h.mode for h in headers).most_common()),
        errors=(*(p.text for p in samples.problems if p.fatal), *refused),
        warnings=(
            *lost,
            *(p.text for p in samples.problems if not p.fatal),
            *_imbalance(samples, counts["train"]),
            *filter(None, [unlooked]),
        ),
        broken=tuple(Flaw(file=f, reason=s.broken) for f, s in zip(samples.files, seen, strict=True) if s.broken),
        suspicious=tuple(
            Flaw(file=f, reason=s.suspicious) for f, s in zip(samples.files, seen, strict=True) if s.suspicious
        ),
        duplicates=_duplicates(samples, seen),
        near=near,
        unread=samples.unread,
    )


def _division(samples: Samples, labels: Path | None, broken: Sequence[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return why training would refuse these data without the broken files, and what they would lose by that."""
    recipe = load(RECIPE)
    assert isinstance(recipe, ClassifyRecipe)
    if any(problem.fatal for problem in samples.problems):
        return (), ()
    try:
        whole = samples if samples.own_split else samples.with_val(recipe.data.val, recipe.seed)
        right, corrections = corrected(whole, labels) if labels else (whole, None)
        return (), divide_samples(recipe, whole, right, broken, corrections.dropped if corrections else ()).warnings
    except UserError as error:
        return (str(error),), ()


def _imbalance(samples: Samples, counts: Sequence[int]) -> Iterable[str]:
    if counts and max(counts) >= IMBALANCE * max(min(counts), 1):
        most, least = (samples.classes[int(f(counts))] for f in (np.argmax, np.argmin))
        yield (
            f'classes differ widely: {max(counts)} training images of "{most}", {min(counts)} of "{least}"; '
            'consider train.class_weights = "balanced"'
        )


def _duplicates(samples: Samples, seen: Sequence[Seen]) -> tuple[Duplicates, ...]:
    def name(index: int) -> str:
        return samples.classes[samples.labels[index]] if samples.labels[index] >= 0 else "?"

    return duplicates_of(samples.files, samples.splits, name, seen)


def render(report: CheckReport, console: Console) -> None:
    """Show a report on the terminal."""
    split = "own split" if report.own_split else "no validation part of its own"
    console.print(Text.assemble((report.data, "bold"), f": layout {report.layout}, {split}"))
    console.print(f"{counted(report.images, 'image')}, {counted(len(report.classes), 'class')}", highlight=False)
    show_sizes(console, report.sizes, report.formats, report.modes, report.unread)
    console.print(_table(report))
    show_findings(console, report, "the same image under two classes")
    verdict = ("ready to train on", "green") if report.ok else ("not ready: see errors and broken files", "red")
    console.print(Text(*verdict))


def _table(report: CheckReport) -> Table:
    table = Table(box=None)
    table.add_column("id", justify="right")
    table.add_column("class")
    for split in report.counts:
        table.add_column(split, justify="right")
    table.add_column("")  # bars
    most = max((max(counts, default=0) for counts in report.counts.values()), default=0) or 1
    for index, name in enumerate(report.classes):
        row = [counts[index] for counts in report.counts.values()]
        bar = "█" * round(24 * row[0] / most) or "▏"
        table.add_row(str(index), Text(one_line(name)), *(f"{n:,}" for n in row), bar)
    return table
