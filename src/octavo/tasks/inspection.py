"""Image files looked at one by one: what they are, how large, which of them look wrong, which are the same."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from octavo.data import store
from octavo.data.decoding import Files
from octavo.data.formats import SUFFIXES
from octavo.data.pixels import MAX_PIXELS, BrokenImage, Header, decode, probe, strict
from octavo.leaks.originals import COMPARED
from octavo.leaks.search import ENOUGH, MOST, comparisons, search
from octavo.progress import Progress
from octavo.threads import in_threads

TINY, EXTREME, HUGE = 8, 10, 50_000_000
"""Suspicious: a side below TINY pixels, an aspect ratio above EXTREME, more than HUGE pixels."""

_GROUP = 32


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


class Near(Section):
    """Two images that are nearly the same: one is a copy of the other that was changed, or both show one place."""

    files: tuple[str, str]
    splits: tuple[str, str]
    kind: str
    """A key of `octavo.leaks.leak.KINDS`."""
    similarity: float


@dataclass(frozen=True)
class Seen:
    """What one file turned out to be."""

    header: Header | None = None
    content: bytes = b""
    pixels: bytes = b""
    broken: str = ""
    suspicious: str = ""


def look_at_all(images: Files, progress: Progress) -> list[Seen]:
    """Look at every image, in threads, and return what each turned out to be."""
    total = len(images.files)

    def group(start: int) -> list[Seen]:
        with strict():
            return [_look_at(images.path(i)) for i in range(start, min(start + _GROUP, total))]

    seen: list[Seen] = []
    for some in in_threads(group, range(0, total, _GROUP)):
        seen += some
        progress("check", len(seen), total)
    return seen


def _look_at(path: Path) -> Seen:
    try:
        header = probe(path, MAX_PIXELS)
        image = decode(path, MAX_PIXELS, side=COMPARED)
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
    except (BrokenImage, OSError) as error:
        return Seen(broken=str(error))
    pixels = hashlib.sha256(str(image.shape).encode())
    pixels.update(np.ascontiguousarray(image).data)
    return Seen(header, content, pixels.digest(), suspicious="; ".join(_suspicions(path, header, image)))


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


def near_duplicates(
    images: Files, splits: Mapping[str, np.ndarray], cache: Path, asked: bool | None, progress: Progress
) -> tuple[tuple[Near, ...], str]:
    """Return images that are nearly the same, the most similar first, and why nobody looked where nobody did.

    Of data in one part those within it are returned, since a random split would put them into two.

    Args:
        images: all files.
        splits: split → places among them.
        cache: folder for the decoded images and what was found before.
        asked: whether to look; None: unless that takes long.
        progress: told how far it is.
    """
    parts = {name: index for name, index in splits.items() if len(index)}
    pairs = comparisons({name: len(index) for name, index in parts.items()}, within=len(parts) == 1)
    if asked is False:
        return (), "nobody looked for near-duplicates (--no-leaks)"
    if asked is None and pairs > MOST:
        return (), f"{pairs:,} pairs of images are too many to look for near-duplicates in passing; --leaks does"
    pixels = store.build(images, store.ImageDecoder(ENOUGH), cache, skip_broken=True, progress=progress)
    found = search(pixels, images, parts, cache, within=len(parts) == 1, progress=progress)
    of = {int(i): split for split, index in splits.items() for i in index}
    return tuple(
        Near(
            files=(images.files[leak.first], images.files[leak.second]),
            splits=(of[leak.first], of[leak.second]),
            kind=leak.kind,
            similarity=leak.similarity,
        )
        for leak in found
        if leak.kind != "exact"
    ), ""


def sizes_of(headers: Sequence[Header]) -> Sizes | None:
    """Return how large images are, None where there are none."""
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


def duplicates_of(
    files: Sequence[str], splits: Mapping[str, np.ndarray], name: Callable[[int], str], seen: Sequence[Seen]
) -> tuple[Duplicates, ...]:
    """Group equal images, `name` giving the class of each; groups that are equal by bytes are so by pixels too."""
    split_of = {int(i): split for split, index in splits.items() for i in index}
    groups: dict[bytes, list[int]] = {}
    for index, one in enumerate(seen):
        if one.pixels and index in split_of:  # an image that corrections leave out is in none
            groups.setdefault(one.pixels, []).append(index)
    found = [
        Duplicates(
            files=tuple(files[i] for i in group),
            splits=tuple(split_of[i] for i in group),
            classes=tuple(name(i) for i in group),
            same_bytes=len({seen[i].content for i in group}) == 1,
        )
        for group in groups.values()
        if len(group) > 1
    ]
    return tuple(sorted(found, key=lambda d: (not d.leak, not d.contradictory)))
