"""Mask files decoded to class channels by a table of classes, and channels painted back in its colours."""

from __future__ import annotations

import hashlib
import math
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFile

from octavo.data.budget import DECODING
from octavo.data.classes import IGNORE, ClassTable
from octavo.data.colour_codes import colour_code, colour_text
from octavo.data.pixels import (
    DECODER,
    MAX_PIXELS,
    UPRIGHT,
    BrokenImage,
    opened,
    orientation,
    refusing,
    strict,
    working_on,
)
from octavo.data.tiff import Tags, nodata_of, unfit_bands
from octavo.errors import UserError

UNKNOWN = 254
"""In the tables of this module: a value or colour that is in no class."""
Kind = Literal["grey", "palette", "one-bit", "colour"]
Encoding = Literal["ids", "colours"]

_FORMAT = "2"
_HALVES = 0x808080  # of a colour's code, the bit of each channel that says whether it is ≥ 128
_GREY = 0x010101
_SHOWN = 5
_SCALED = {"L;2": 85, "L;4": 17}  # Pillow spreads 2- and 4-bit grey over 0–255; ids have to come back as they were


@dataclass(frozen=True, eq=False)
class RawMask:
    """A mask file's content, upright, before a table of classes gives it a meaning.

    Attributes:
        kind: how the file holds it; "colour" has three channels, even where they are all equal.
        format: of the file, as Pillow calls it.
        plane: uint8 [H, W] of grey values or palette indices (0 and 255 of 1-bit files), or uint32 [H, W] of colours.
        palette: uint32 [256], the colour of each palette index; None for another kind.
        nodata: what `plane` holds where a GeoTIFF has no data; None where nothing stands for that.

    A colour's code is red + 256 · green + 65,536 · blue.
    """

    kind: Kind
    format: str
    plane: np.ndarray
    palette: np.ndarray | None = None
    nodata: int | None = None

    @cached_property
    def values(self) -> np.ndarray | None:
        """Grey values or palette indices, uint8 [H, W]; None when it is in colour."""
        if self.kind != "colour":
            return self.plane
        low = self.plane & 0xFF
        return low.astype(np.uint8) if np.array_equal(low * np.uint32(_GREY), self.plane) else None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.plane.shape[1], self.plane.shape[0]

    def shades(self) -> np.ndarray:
        """Return the colour of each of the 256 values, uint32 [256]; for "colour", greys."""
        return np.arange(256, dtype=np.uint32) * np.uint32(_GREY) if self.palette is None else self.palette


def read_mask(path: Path, max_pixels: int = MAX_PIXELS) -> RawMask:
    """Read a mask file as it is: no palette becomes colours, nothing is scaled; turned upright as `pixels.decode` does.

    Grey of 16 or 32 bits must hold 0–255. Alpha must be opaque; a palette's transparency isn't looked at.

    Raises:
        BrokenImage: for anything that can't be decoded or can't be a mask.
    """
    with refusing(max_pixels), strict(max_pixels), ExitStack() as stack, opened(path, max_pixels) as image:
        scale = _SCALED.get(_raw_mode(image)[:3], 1)
        _require_unscaled(image)
        tags: Tags | None = getattr(image, "tag_v2", None)
        if tags is not None and (reason := unfit_bands(tags, path.name, on_ground=False)):
            raise BrokenImage(reason)
        stack.enter_context(DECODING.held(math.prod(image.size)))
        image.load()
        turn = UPRIGHT.get(orientation(image))
        kind, name, content = _kind(image), str(image.format), _content(image)
        if turn is not None:
            content = content.transpose(turn)
        void = nodata_of(tags)
        if kind == "colour":
            return RawMask(kind, name, _codes(content), nodata=None if void is None else void * _GREY)
        if kind == "palette":
            return RawMask(kind, name, np.array(content), _palette(content), void)
        void = 255 if kind == "one-bit" and void == 1 else void
        return RawMask(kind, name, _small(np.asarray(content)) // np.uint8(scale), nodata=void)


def paint(ids: np.ndarray, table: ClassTable) -> np.ndarray:
    """Return channels (uint8 [H, W]) in the table's colours, uint8 [H, W, 3]; IGNORE in its void colour.

    Raises:
        ValueError: for a value that is neither a channel of the table nor IGNORE.
    """
    colours = table.colours
    if len(outside := np.setdiff1d(ids[ids != IGNORE], np.arange(len(colours)))):
        raise ValueError(f'{outside[0]} is no channel of table "{table.name}", which has {len(colours)}')
    shades = np.zeros((256, 3), np.uint8)
    shades[: len(colours)] = colours
    shades[IGNORE] = table.void_colour
    return shades[ids]


@dataclass(frozen=True)
class MaskDecoder:
    """Decodes mask files to channels by a table of classes; one of the store's decoders.

    Attributes:
        table: the classes.
        encoding: "ids": grey values or palette indices are the classes' values (1-bit files are 0 and 255, or 0 and 1
            where the table has no 255); "colours": colours, a palette's too, are the classes' colours.
        tolerant: each channel counts as 255 from 128 on, else as 0, for masks that were saved as JPEG.

    Raises:
        UserError: when `tolerant` doesn't go with the table.
    """

    table: ClassTable
    encoding: Encoding
    tolerant: bool = False

    planes = 1
    fill = IGNORE

    def __post_init__(self) -> None:
        """Refuse a tolerance that would take some classes for others."""
        entries = self.table.entries
        parts = [e.value for e in entries] if self.encoding == "ids" else [c for e in entries for c in e.colour]
        if self.tolerant and (odd := next((p for p in parts if p not in (0, 255)), None)) is not None:
            what = "ids" if self.encoding == "ids" else "colours"
            raise UserError(
                f"data.tolerant: takes every channel as 0 or 255, but the {what} of table "
                f'"{self.table.name}" use others, such as {odd}; set it to false'
            )

    @property
    def key(self) -> str:
        """Names what decoding depends on; names of classes and what is scored are no part of it."""
        facts = [(e.value, e.colour, self.table.channel(e)) for e in self.table.entries]
        text = f"{_FORMAT} {DECODER} {self.encoding} {self.tolerant} {sorted(facts)}"
        return "mask-" + hashlib.sha256(text.encode()).hexdigest()[:24]

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size after decoding: unchanged."""
        return width, height

    def decode(self, path: Path) -> np.ndarray:
        """Decode one mask file to uint8 [H, W, 1]: channels of the table, or IGNORE.

        Raises:
            BrokenImage: for what can't be decoded, and for values or colours that are in no class, with their counts.
        """
        with working_on(path):
            return self.channels(read_mask(path))[..., None]

    def channels(self, mask: RawMask) -> np.ndarray:
        """Return the channels of a mask that was read, uint8 [H, W]; IGNORE where it has no data.

        Raises:
            BrokenImage: for values or colours that are in no class, with their counts.
        """
        values = mask.values
        if self.encoding == "colours":
            found = self.of_codes(mask.plane) if mask.kind == "colour" else self.of_codes(mask.shades())[mask.plane]
        elif values is None:
            raise BrokenImage(f'a mask in colour, but the others hold class ids of table "{self.table.name}"')
        else:
            found = self.of_values(mask.kind)[values]
        if mask.nodata is not None:
            found = np.where(mask.plane == mask.nodata, np.uint8(IGNORE), found)
        if (stray := found == UNKNOWN).any():
            raise BrokenImage(self._strays(mask, stray))
        return found

    def of_values(self, kind: Kind = "grey") -> np.ndarray:
        """Return the channel of each value, uint8 [256]: IGNORE for ignored ones, UNKNOWN for those in no class."""
        found = np.full(256, UNKNOWN, np.uint8)
        for entry in self.table.entries:
            found[entry.value] = self.table.channel(entry)
        if self.tolerant:
            found = found[np.where(np.arange(256) < 128, 0, 255)]
        if kind == "one-bit" and found[255] == UNKNOWN:
            found[255] = found[1]
        return found

    def of_codes(self, codes: np.ndarray) -> np.ndarray:
        """Return the channel of each colour (its code, uint32), as `of_values` does."""
        return _by_colour(self)[codes & np.uint32(_HALVES if self.tolerant else 0xFFFFFF)]

    def _strays(self, mask: RawMask, stray: np.ndarray) -> str:
        """Say which values or colours of a mask are in no class, the most frequent ones first."""
        as_ids = self.encoding == "ids" and mask.values is not None
        source = mask.values if as_ids else mask.plane if mask.kind == "colour" else mask.shades()[mask.plane]
        found, counts = np.unique(np.asarray(source)[stray], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        what = "value" if as_ids else "colour"
        texts = [
            f"{what} {found[i] if as_ids else colour_text(int(found[i]))} ({counts[i]:,} pixels)"
            for i in order[:_SHOWN]
        ]
        more = f" and {len(order) - _SHOWN:,} more {what}s" if len(order) > _SHOWN else ""
        verb = "is" if len(order) == 1 else "are"
        void = "; 255 often means void: id = 255, ignored = true" if as_ids and 255 in found else ""
        hint = ", or set data.tolerant = true if the mask was saved as JPEG" if len(order) > _SHOWN else ""
        return (
            f'{", ".join(texts)}{more} {verb} in no class of table "{self.table.name}"; mend the mask, or give it '
            f"a class (or ignored = true) in classes.toml{hint}{void}"
        )


@lru_cache(maxsize=4)
def _by_colour(decoder: MaskDecoder) -> np.ndarray:
    """Return the channel of every colour that there is, uint8 [2^24]: 16 MB, of which a mask touches a few bytes."""
    found = np.full(1 << 24, UNKNOWN, np.uint8)
    # Ignored classes may share a colour; no trained class shares its own.
    for entry in decoder.table.entries:
        code = colour_code(entry.colour)
        found[code & _HALVES if decoder.tolerant else code] = decoder.table.channel(entry)
    found.flags.writeable = False
    return found


def _raw_mode(image: ImageFile.ImageFile) -> str:
    arguments = image.tile[0].args if image.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _require_unscaled(image: ImageFile.ImageFile) -> None:
    """Refuse a PGM or PPM whose values Pillow would stretch from 0 … its own maximum to 0 … 255."""
    arguments = image.tile[0].args if image.tile else None
    if image.format == "PPM" and isinstance(arguments, tuple) and len(arguments) == 2:
        most = arguments[1]
        if most not in (255, 65535):
            raise BrokenImage(f"PPM with a maximum of {most}, by which its values would be scaled; save it as PNG")


def _kind(image: Image.Image) -> Kind:
    kinds: dict[str, Kind] = {"1": "one-bit", "P": "palette", "LA": "grey", "La": "grey", "L": "grey", "I": "grey"}
    colour = ("RGB", "RGBA", "RGBa", "RGBX", "PA")
    if (mode := image.mode) in colour:
        return "colour"
    if mode in kinds or mode.startswith("I;16"):
        return kinds.get(mode, "grey")
    raise BrokenImage(f"colour mode {mode}; expected a mask in grey, with a palette, or in RGB")


def _content(image: Image.Image) -> Image.Image:
    """Return the image without its alpha, which must be opaque."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBa", "PA"):
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA"):
        clear = np.count_nonzero(np.asarray(image.getchannel("A")) != 255)
        if clear:
            raise BrokenImage(f"{clear:,} of its pixels are transparent; a mask must be opaque")
        return image if image.mode == "RGBA" else image.getchannel("L")
    return image


def _codes(image: Image.Image) -> np.ndarray:
    # Four bytes a pixel are one number each: far quicker than shifting three planes together.
    four = image if image.mode in ("RGBA", "RGBX") else image.convert("RGBX")
    return np.frombuffer(four.tobytes(), "<u4").reshape(image.height, image.width) & np.uint32(0xFFFFFF)


def _palette(image: Image.Image) -> np.ndarray:
    known = np.array(image.getpalette("RGB") or [], dtype=np.uint32).reshape(-1, 3)[:256]
    palette = np.zeros(256, np.uint32)
    palette[: len(known)] = known @ np.array([1, 1 << 8, 1 << 16], np.uint32)
    return palette


def _small(values: np.ndarray) -> np.ndarray:
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype != np.uint8 and (values.min() < 0 or values.max() > 255):
        low, high = values.min(), values.max()
        raise BrokenImage(f"values from {low:,} to {high:,} of {8 * values.itemsize} bits; class ids must be 0–255")
    return values.astype(np.uint8)
