"""Which files are decoded, and how: to the planes of an image or of a mask, in threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np

from octavo.data.budget import WAITING, Queue
from octavo.data.pixels import DECODER, BrokenImage, bounded, decode, probe, strict
from octavo.threads import in_threads

_GROUP = 16  # images a thread decodes per task: small ones cost less than handing them over
_GROUP_BYTES = 4_000_000  # … but no more than this, since several tasks per thread wait in memory to be written
_SMALL_FILE = 1 << 16  # bytes


class Files(Protocol):
    """Files to decode: `files` are POSIX paths relative to `folder` (to `root`, which the user named, if empty)."""

    @property
    def root(self) -> str:
        """What the user named."""
        ...

    @property
    def folder(self) -> str:
        """What `files` are relative to; `root` if empty."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """The files, in the order of their indices."""
        ...

    def path(self, index: int) -> Path:
        """Return where file `index` lies."""
        ...


class Decoder(Protocol):
    """How a file becomes planes of uint8: three of an image, one of a mask."""

    @property
    def key(self) -> str:
        """What the pixels depend on besides the file; stores are named by it."""
        ...

    @property
    def planes(self) -> int:
        """How many there are."""
        ...

    @property
    def fill(self) -> int:
        """Value outside of the image, where a batch holds larger ones."""
        ...

    def decode(self, path: Path) -> np.ndarray:
        """Return uint8 [H, W, planes].

        Raises:
            BrokenImage: for a file that can't be decoded.
        """
        ...

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) in which a file of this size is decoded."""
        ...


@dataclass(frozen=True)
class ImageDecoder:
    """RGB images, reduced by the factor `scale` (0 < scale ≤ 1) and then to at most `side` as `decode` does."""

    side: int | None = None
    scale: float = 1.0
    planes = 3
    fill = 0

    @property
    def key(self) -> str:
        """Decoder's version, that of torch, which reduces what is decoded, side and scale."""
        return f"{DECODER} {version('torch')}\nside {self.side}\nscale {self.scale!r}"

    def decode(self, path: Path) -> np.ndarray:
        """Return uint8 [H, W, 3]; see `pixels.decode`."""
        return decode(path, side=self.side, scale=self.scale)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) in which an image of this size is decoded."""
        return bounded(width, height, self.side, self.scale)


def mean_bytes(paths: Sequence[Path], decoder: Decoder, most: int) -> float:
    """Return the mean decoded size of `paths`, in bytes, from at most so many headers."""
    count = len(paths)
    sizes = []
    for index in np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)) if count else ():
        try:
            header = probe(paths[int(index)])
        except BrokenImage:
            continue
        width, height = decoder.size(header.width, header.height)
        sizes.append(decoder.planes * width * height)
    return float(np.mean(sizes)) if sizes else 0.0


def decoded(paths: Sequence[Path], decoder: Decoder) -> Iterator[np.ndarray | str]:
    """Yield each file's pixels (uint8 [H, W, planes]) in order, or the reason why it is broken; decodes in threads.

    Threads and not processes: Pillow lets go of the interpreter while it decodes, and processes would have to be
    started afresh beside torch's threads. Memory stays bounded, however large the images are: what is decoded ahead
    waits in a `Queue`, and a thread hands over what it has of a group once that is large. A single file is decoded
    here, without a thread.
    """
    if len(paths) == 1:
        yield _decode_or_reason(paths[0], decoder)
        return
    count = min(_GROUP, max(1, int(_GROUP_BYTES / max(1.0, mean_bytes(paths, decoder, 8)))))
    queue = Queue(WAITING)

    def group(start: int) -> list[np.ndarray | str]:
        images: list[np.ndarray | str] = []
        with strict():
            for path in paths[start : start + count]:
                images.append(_queued(path, decoder, queue, start))
                if sum(map(_bytes, images)) > _GROUP_BYTES:
                    break
        return images

    starts = range(0, len(paths), count)
    groups = in_threads(group, starts, queue.close)
    try:
        for start, images in zip(starts, groups, strict=True):
            last = start + len(images)
            yield from _taken(images, queue)
            for path in paths[last : start + count]:
                yield _decode_or_reason(path, decoder)
            queue.advance(start + count)
    finally:
        groups.close()


def _queued(path: Path, decoder: Decoder, queue: Queue, turn: int) -> np.ndarray | str:
    """Return what a file holds, its bytes counted in the queue."""
    expected = _expected_bytes(path, decoder)
    queue.enter(turn, expected)
    image = _decode_or_reason(path, decoder)
    queue.leave(expected - _bytes(image))
    return image


def _taken(images: list[np.ndarray | str], queue: Queue) -> Iterator[np.ndarray | str]:
    """Yield images and forget each, so that whoever takes them alone holds them."""
    images.reverse()
    while images:
        image = images.pop()
        amount = _bytes(image)
        yield image
        del image
        queue.leave(amount)


def _expected_bytes(path: Path, decoder: Decoder) -> int:
    """Return how many bytes an image will have by its header; 0 for a small file, whose header would cost too much."""
    try:
        if path.stat().st_size < _SMALL_FILE:
            return 0
        header = probe(path)
    except (OSError, BrokenImage):
        return 0
    width, height = decoder.size(header.width, header.height)
    return decoder.planes * width * height


def _bytes(image: np.ndarray | str) -> int:
    return 0 if isinstance(image, str) else image.nbytes


def _decode_or_reason(path: Path, decoder: Decoder) -> np.ndarray | str:
    try:
        return decoder.decode(path)
    except BrokenImage as error:
        return str(error)
