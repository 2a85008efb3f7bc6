"""What a data folder is and what is wrong with it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from octavo.data import torchvision_data
from octavo.data.pixels import MAX_PIXELS, SUFFIXES, BrokenImage, Header, decode, probe, strict
from octavo.data.samples import Samples
from octavo.data.walk import one_line
from octavo.progress import Progress, silent
from octavo.threads import in_threads

TINY, EXTREME, HUGE = 8, 10, 50_000_000
"""Suspicious: a side below TINY pixels, an aspect ratio above EXTREME, more than HUGE pixels."""
IMBALANCE = 10
"""A problem: the largest training class has this many times the images of the smallest."""

_SIDE = 512  # bounds decoding time for photographs; two images that agree at this size are the same picture
_GROUP = 32
_SHOWN = 10


class Section(BaseModel):
    """A part of the report: immutable."""

    model_config = ConfigDict(frozen=True)


class Flaw(Section):
    """One file and what is wrong with it."""

    file: str
    reason: str


class Sizes(Section):
    """How large the images are: (width, height) in pixels, each dimension's own minimum, median and maximum."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    common: tuple[tuple[int, int, int], ...]
    """The most frequent sizes, as (width, height, count)."""


class Duplicates(Section):
    """Images that are the same: by their bytes, or by their pixels (at no more than 512 on the shorter side)."""

    files: tuple[str, ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    same_bytes: bool

    @property
    def leak(self) -> bool:
        """Whether the image is in more than one split, so that a score on it is flattered."""
        return len(set(self.splits)) > 1

    @property
    def contradictory(self) -> bool:
        """Whether the same image has two labels."""
        return len(set(self.classes)) > 1


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

    @property
    def ok(self) -> bool:
        """Whether training can start without `--skip-broken`."""
        return not (self.errors or self.broken)


@dataclass(frozen=True)
class _Seen:
    """What one file turned out to be."""

    header: Header | None = None
    content: bytes = b""
    pixels: bytes = b""
    broken: str = ""
    suspicious: str = ""


def check(
    data: str | Path, layout: str | None = None, *, cache: Path | None = None, progress: Progress = silent
) -> CheckReport:
    """Look at every image of a data folder and report what it is and what is wrong with it.

    Raises:
        UserError: when nothing can be told: no such folder, no known layout.
    """
    samples = torchvision_data.read(data, layout, strict=False, cache=cache, progress=progress)
    seen = _look_at_all(samples, progress)
    headers = [s.header for s in seen if s.header]
    counts = {
        split: tuple(np.bincount(own[own >= 0], minlength=len(samples.classes)).tolist())
        for split, own in ((split, samples.labels[index]) for split, index in samples.splits.items())
    }
    return CheckReport(
        data=str(data),
        layout=samples.layout,
        own_split=samples.own_split,
        images=len(samples.files),
        classes=samples.classes,
        counts=counts,
        sizes=_sizes(headers),
        formats=dict(Counter(h.format for h in headers).most_common()),
        modes=dict(Counter(h.mode for h in headers).most_common()),
        errors=tuple(p.text for p in samples.problems if p.fatal),
        warnings=(*(p.text for p in samples.problems if not p.fatal), *_imbalance(samples, counts["train"])),
        broken=tuple(Flaw(file=f, reason=s.broken) for f, s in zip(samples.files, seen, strict=True) if s.broken),
        suspicious=tuple(
            Flaw(file=f, reason=s.suspicious) for f, s in zip(samples.files, seen, strict=True) if s.suspicious
        ),
        duplicates=_duplicates(samples, seen),
    )


def _look_at_all(samples: Samples, progress: Progress) -> list[_Seen]:
    total = len(samples.files)

    def group(start: int) -> list[_Seen]:
        with strict():
            return [_look_at(samples.path(i)) for i in range(start, min(start + _GROUP, total))]

    seen: list[_Seen] = []
    for some in in_threads(group, range(0, total, _GROUP)):
        seen += some
        progress("check", len(seen), total)
    return seen


def _look_at(path: Path) -> _Seen:
    try:
        header = probe(path, MAX_PIXELS)
        image = decode(path, MAX_PIXELS, side=_SIDE)
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
    except (BrokenImage, OSError) as error:
        return _Seen(broken=str(error))
    pixels = hashlib.sha256(str(image.shape).encode())
    pixels.update(image.data)
    return _Seen(header, content, pixels.digest(), suspicious="; ".join(_suspicions(path, header, image)))


def _suspicions(path: Path, header: Header, image: np.ndarray) -> Iterable[str]:
    short, long = sorted((header.width, header.height))
    if short < TINY:
        yield f"tiny: {header.width}×{header.height}"
    if long > EXTREME * short:
        yield f"extreme aspect ratio: {header.width}×{header.height}"
    if short * long > HUGE:
        yield f"huge: {header.width}×{header.height}"
    if (image == image[0, 0]).all():
        yield "one colour only: " + ",".join(map(str, image[0, 0].tolist()))
    if path.suffix.lower() not in SUFFIXES[header.format]:
        yield f"named {path.suffix}, but is {header.format}"


def _sizes(headers: Sequence[Header]) -> Sizes | None:
    if not headers:
        return None
    sizes = np.array([(h.width, h.height) for h in headers])

    def pair(values: np.ndarray) -> tuple[int, int]:
        return int(values[0]), int(values[1])

    common = Counter((h.width, h.height) for h in headers).most_common(5)
    return Sizes(
        smallest=pair(sizes.min(0)),
        median=pair(np.median(sizes, axis=0)),
        largest=pair(sizes.max(0)),
        common=tuple((w, h, n) for (w, h), n in common),
    )


def _imbalance(samples: Samples, counts: Sequence[int]) -> Iterable[str]:
    if counts and max(counts) >= IMBALANCE * max(min(counts), 1):
        most, least = (samples.classes[int(f(counts))] for f in (np.argmax, np.argmin))
        yield (
            f'classes differ widely: {max(counts)} training images of "{most}", {min(counts)} of "{least}"; '
            'consider train.class_weights = "balanced"'
        )


def _duplicates(samples: Samples, seen: Sequence[_Seen]) -> tuple[Duplicates, ...]:
    """Group equal images; groups that are equal by bytes are so by pixels too."""
    split_of = {int(i): split for split, index in samples.splits.items() for i in index}
    groups: dict[bytes, list[int]] = {}
    for index, one in enumerate(seen):
        if one.pixels:
            groups.setdefault(one.pixels, []).append(index)
    found = [
        Duplicates(
            files=tuple(samples.files[i] for i in group),
            splits=tuple(split_of[i] for i in group),
            classes=tuple(samples.classes[samples.labels[i]] if samples.labels[i] >= 0 else "?" for i in group),
            same_bytes=len({seen[i].content for i in group}) == 1,
        )
        for group in groups.values()
        if len(group) > 1
    ]
    return tuple(sorted(found, key=lambda d: (not d.leak, not d.contradictory)))


def render(report: CheckReport, console: Console) -> None:
    """Show a report on the terminal."""
    split = "own split" if report.own_split else "no validation part of its own"
    console.print(Text.assemble((report.data, "bold"), f": layout {report.layout}, {split}"))
    console.print(f"{report.images:,} images, {len(report.classes):,} classes", highlight=False)
    if report.sizes:
        small, mid, large = (f"{w}×{h}" for w, h in (report.sizes.smallest, report.sizes.median, report.sizes.largest))
        common = ", ".join(f"{w}×{h} ({n:,})" for w, h, n in report.sizes.common)
        console.print(f"sizes: {small} smallest, {mid} median, {large} largest; most common {common}", highlight=False)
        kinds = ", ".join(f"{k} {n:,}" for k, n in [*report.formats.items(), *report.modes.items()])
        console.print(f"formats and modes: {kinds}", highlight=False)
    console.print(_table(report))
    leaks = [d for d in report.duplicates if d.leak]
    double = [d for d in report.duplicates if d.contradictory and not d.leak]
    plain = [d for d in report.duplicates if not d.leak and not d.contradictory]
    _list(console, "errors", "red", report.errors)
    _list(console, "broken files", "red", [f"{f.file}: {f.reason}" for f in report.broken])
    _list(console, "the same image in two splits: the score is flattered", "red", [_same(d) for d in leaks])
    _list(console, "the same image under two classes", "yellow", [_same(d) for d in double])
    _list(console, "duplicates", "yellow", [_same(d) for d in plain])
    _list(console, "suspicious files", "yellow", [f"{f.file}: {f.reason}" for f in report.suspicious])
    _list(console, "warnings", "yellow", report.warnings)
    verdict = ("ready to train on", "green") if report.ok else ("not ready: see errors and broken files", "red")
    console.print(Text(*verdict))


def _table(report: CheckReport) -> Table:
    table = Table(box=None)
    table.add_column("id", justify="right")
    table.add_column("class")
    for split in report.counts:
        table.add_column(split, justify="right")
    table.add_column(next(iter(report.counts)))
    most = max((max(counts, default=0) for counts in report.counts.values()), default=0) or 1
    for index, name in enumerate(report.classes):
        row = [counts[index] for counts in report.counts.values()]
        bar = "█" * round(24 * row[0] / most) or "▏"
        table.add_row(str(index), Text(one_line(name)), *(f"{n:,}" for n in row), bar)
    return table


def _same(duplicates: Duplicates) -> str:
    how = "same bytes" if duplicates.same_bytes else "same pixels"
    places = zip(duplicates.files[:4], duplicates.splits, duplicates.classes, strict=False)
    more = f" and {len(duplicates.files) - 4} more" if len(duplicates.files) > 4 else ""
    return " = ".join(f"{f} ({s}, {c})" for f, s, c in places) + f"{more}: {how}"


def _list(console: Console, title: str, style: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    console.print(Text(f"{title}: {len(lines):,}", style=f"bold {style}"))
    for line in lines[:_SHOWN]:
        console.print(Text(f"  {one_line(line)}"))
    if len(lines) > _SHOWN:
        console.print(Text(f"  … and {len(lines) - _SHOWN:,} more"))
