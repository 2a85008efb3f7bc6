"""Masks of images that are larger than memory would like: overlapping windows, blended, in strips of rows.

Every window begins at a multiple of 32, the coarsest stride, and its sides leave the same rest by 32 as the image's: so
a network that pads to a multiple of 32, on whichever side, sees its pixels on the same grid as in the whole image.
Memory is bounded by about 2 × window × width × classes (the last windows may overlap almost whole), time is linear in
pixels.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from octavo.errors import UserError

ALIGN = 32
"""Windows begin at multiples of this, the coarsest stride of the networks."""
WINDOW, OVERLAP = 768, 128
"""Sides in pixels where nothing else is asked for: 10,000² pixels and seven classes then take less than 2 GiB with
VGG16 in float32, at a sixth more time than with 1,024."""
WHOLE = 4_000_000
"""Pixels, at the network's scale, up to which an image goes through the network whole."""
_ROWS = 256  # rows that are enlarged, or whose classes are chosen, at a time

Rows = Callable[[int, int], np.ndarray]
"""(top, bottom) → those rows of an image, uint8 [bottom - top, W, 3]: a slice of an array, or a read from a file."""
Told = Callable[[int, int], None]
"""(windows done, windows in all)."""


def silent(done: int, total: int) -> None:
    """A `Told` that says nothing."""


class Spool:
    """Rows uint8 [H,W,…] of an image or a mask: in memory, or in a temporary file where there are too many for it.

    The file is written and read, not mapped: pages of it that are mapped would count as the process's memory, and a
    full disk would end the process without a word.
    """

    def __init__(self, shape: tuple[int, ...], file: BinaryIO | None) -> None:
        """Make room for rows of any content; `file` is empty and open for reading and writing."""
        self._shape = shape
        self._row = math.prod(shape[1:])  # bytes
        self._file = file
        self._array = np.empty(shape if file is None else (0,), np.uint8)

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Return rows that were written, uint8 [bottom - top, W, …], to be read alone."""
        if self._file is None:
            return self._array[top:bottom]
        self._file.seek(top * self._row)
        return np.frombuffer(self._file.read((bottom - top) * self._row), np.uint8).reshape(-1, *self._shape[1:])

    def write(self, top: int, rows: np.ndarray) -> None:
        """Put rows in their place, the first of them at `top`.

        Raises:
            UserError: the disk is full.
        """
        if self._file is None:
            self._array[top : top + len(rows)] = rows
            return
        try:
            self._file.seek(top * self._row)
            self._file.write(np.ascontiguousarray(rows).data)
            self._file.flush()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"{tempfile.gettempdir()}: {reason}; TMPDIR names another temporary folder") from error

    def array(self) -> np.ndarray:
        """Return all rows, to be read alone; those of a file are mapped."""
        return self._array if self._file is None else np.memmap(self._file, np.uint8, "r", shape=self._shape)


@contextmanager
def spool(shape: tuple[int, ...], in_memory: int) -> Iterator[Spool]:
    """Give room for an image or a mask [H,W,…]: in a temporary file where it has more than `in_memory` pixels."""
    if shape[0] * shape[1] <= in_memory:
        yield Spool(shape, None)
        return
    with tempfile.TemporaryFile() as file:
        yield Spool(shape, file)


def rows_of(image: np.ndarray) -> Rows:
    """Return the rows of an array uint8 [H,W,3]; one that is mapped from a file is read where it is asked for."""
    return lambda top, bottom: np.asarray(image[top:bottom])


def reduced(rows: Rows, size: tuple[int, int], to: tuple[int, int]) -> Rows:
    """Return the rows of an image (height, width) `size` reduced, antialiased, to (height, width) `to`.

    The same filter as in `pixels.decode`, but only as much of the image is read as the wanted rows need.
    """
    (height, width), (small, narrow) = size, to
    if size == to:
        return rows
    ratio = height / small
    margin = math.ceil(2 * ratio) + 2  # a bicubic filter reaches two target pixels far

    def read(top: int, bottom: int) -> np.ndarray:
        first = max(0, math.floor(top * ratio) - margin)
        last = min(height, math.ceil(bottom * ratio) + margin)
        part = Image.fromarray(np.ascontiguousarray(rows(first, last)))
        box = (0, top * ratio - first, width, min(bottom * ratio - first, last - first))
        return np.asarray(part.resize((narrow, bottom - top), Image.Resampling.BICUBIC, box=box))

    return read


def check_window(window: int, overlap: int) -> None:
    """Refuse windows that don't lie on the network's grid.

    Raises:
        UserError: a side that is no multiple of 32, or an overlap that leaves no step.
    """
    if window < ALIGN or window % ALIGN:
        near = max(ALIGN, round(window / ALIGN) * ALIGN)
        raise UserError(f"--window {window}: expected a multiple of {ALIGN}, such as {near}")
    if overlap < 0 or overlap % ALIGN:
        near = max(0, round(overlap / ALIGN) * ALIGN)
        raise UserError(f"--overlap {overlap}: expected a multiple of {ALIGN}, such as {near}")
    if overlap >= window:
        raise UserError(f"--overlap {overlap}: expected less than the window's side, {window}")


def starts(length: int, window: int, overlap: int) -> list[int]:
    """Return where windows begin along a side of `length` pixels: multiples of 32; the last one ends at `length`.

    They are `window + length % 32` long (the whole side where that is less); neighbours overlap by at least `overlap`.
    """
    last = length - (window + length % ALIGN)
    return [*range(0, last, window - overlap), last] if last > 0 else [0]


def count(size: tuple[int, int], window: int, overlap: int) -> int:
    """Return how many windows an image of (height, width) `size` is cut into."""
    return len(starts(size[0], window, overlap)) * len(starts(size[1], window, overlap))


def ramps(length: int, window: int, overlap: int) -> list[Tensor]:
    """Return each window's weights along a side, float32, all of one length: never zero, of sum one at every pixel.

    A weight falls as the square of a sine over `overlap` pixels towards a border with a neighbour, and not at all
    towards the image's own border.
    """
    slope = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / max(overlap, 1)) ** 2
    begins, long = starts(length, window, overlap), min(window + length % ALIGN, length)
    total, weights = np.zeros(length), []
    for begin in begins:
        weight = np.ones(long)
        if begin > 0:
            weight[:overlap] *= slope
        if begin + long < length:
            weight[long - overlap :] *= slope[::-1]
        weights.append(weight)
        total[begin : begin + long] += weight
    parts = [w / total[b : b + long] for b, w in zip(begins, weights, strict=True)]
    return [torch.from_numpy(part.astype(np.float32)) for part in parts]


def blended(
    logits_of: Callable[[Tensor], Tensor],
    rows: Rows,
    size: tuple[int, int],
    window: int = WINDOW,
    overlap: int = OVERLAP,
    *,
    batch: int = 1,
    told: Told = silent,
) -> Iterator[Tensor]:
    """Yield the logits of an image in strips from top to bottom, float32 [C,n,W] each, together [C,H,W].

    An image that is no larger than a window goes through the network whole. Windows are averaged, so away from their
    borders by more than the network's receptive field the logits are those of the whole image.

    Args:
        logits_of: uint8 [b,3,h,w] → float32 [b,C,h,w].
        rows: of the image.
        size: its height and width.
        window: least side of the windows, a multiple of 32.
        overlap: of neighbouring windows, a multiple of 32.
        batch: windows at a time.
        told: called after every batch.
    """
    height, width = size
    tops, lefts = starts(height, window, overlap), starts(width, window, overlap)
    if len(tops) == len(lefts) == 1:
        yield logits_of(_tensor(rows(0, height))[None])[0]
        told(1, 1)
        return
    down, across = ramps(height, window, overlap), ramps(width, window, overlap)
    tall, wide = len(down[0]), len(across[0])
    kept: Tensor | None = None
    for i, top in enumerate(tops):
        pixels, band = _tensor(rows(top, top + tall)), torch.empty(0)
        for j in range(0, len(lefts), batch):
            crops = torch.stack([pixels[:, :, left : left + wide] for left in lefts[j : j + batch]])
            for k, logits in enumerate(logits_of(crops).cpu(), j):
                if k == 0:
                    band = torch.zeros(logits.shape[0], tall, width)
                band[:, :, lefts[k] : lefts[k] + wide] += logits * across[k]
            told(i * len(lefts) + min(j + batch, len(lefts)), len(tops) * len(lefts))
        band *= down[i][:, None]
        if kept is not None:
            band[:, : kept.shape[1]] += kept
        done = (tops[i + 1] if i + 1 < len(tops) else height) - top
        yield band[:, :done]
        kept = band[:, done:].clone()
        del band  # before the next one is made


def enlarged(strips: Iterator[Tensor], size: tuple[int, int], to: tuple[int, int]) -> Iterator[Tensor]:
    """Yield strips of logits of (height, width) `size` enlarged bilinearly to (height, width) `to`, strip by strip.

    The numbers are those of `interpolate(mode="bilinear", align_corners=False)` on the whole.

    Raises:
        ValueError: `to` has fewer rows.
    """
    if size == to:
        yield from strips
        return
    (height, _), (tall, wide) = size, to
    if tall < height:
        raise ValueError(f"expected at least {height} rows, got {tall}")
    wanted = ((torch.arange(tall, dtype=torch.float64) + 0.5) * height / tall - 0.5).clamp(min=0)
    above = wanted.long().clamp(max=height - 1)
    below = (above + 1).clamp(max=height - 1)
    share = (wanted - above).float()
    held, first, done = None, 0, 0
    for strip in strips:
        held = strip if held is None else torch.cat([held, strip], 1)
        end = first + held.shape[1]
        ready = int((below < end).sum())  # `below` rises: these are the first rows
        while done < ready:
            upto = min(ready, done + _ROWS)
            a, b, t = above[done:upto], below[done:upto], share[done:upto]
            yield _between(held[:, int(a[0]) - first : int(b[-1]) + 1 - first], a - a[0], b - a[0], t, wide)
            done = upto
        if done < tall:
            keep = int(above[done])
            held, first = held[:, keep - first :].clone(), keep
        del strip  # before the next one is made


def windowed(
    logits_of: Callable[[Tensor], Tensor],
    rows: Rows,
    size: tuple[int, int],
    window: int = WINDOW,
    overlap: int = OVERLAP,
    *,
    to: tuple[int, int] | None = None,
    batch: int = 1,
    told: Told = silent,
) -> Iterator[np.ndarray]:
    """Yield the most probable channel of every pixel in strips from top to bottom, uint8 [n,W] each, together [H,W].

    Arguments are those of `blended`; the logits are enlarged to (height, width) `to` before the class is chosen.
    """
    strips = blended(logits_of, rows, size, window, overlap, batch=batch, told=told)
    for strip in enlarged(strips, size, to or size):
        for top in range(0, strip.shape[1], _ROWS):  # places of maxima are int64
            yield strip[:, top : top + _ROWS].argmax(0).to(torch.uint8).cpu().numpy()
        del strip  # before the next one is made


def _between(rows: Tensor, above: Tensor, below: Tensor, share: Tensor, width: int) -> Tensor:
    """Return rows between those of [C,n,w], at `share` of the way from `above` to `below`, each enlarged to `width`."""
    device = rows.device
    wide = torch.nn.functional.interpolate(
        rows[None].float(), (rows.shape[1], width), mode="bilinear", align_corners=False
    )[0]
    return torch.lerp(
        wide.index_select(1, above.to(device)), wide.index_select(1, below.to(device)), share.to(device)[:, None]
    )


def _tensor(pixels: np.ndarray) -> Tensor:
    """Return pixels [h,w,3] as a tensor uint8 [3,h,w]."""
    return torch.from_numpy(np.array(pixels, np.uint8).transpose(2, 0, 1))
