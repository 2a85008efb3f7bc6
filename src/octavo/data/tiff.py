"""TIFF tags: what a file's bands are, which value of it stands for no data, and whether it lies on the ground."""

from __future__ import annotations

import math
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import TiffImagePlugin

SUFFIXES = (".tif", ".tiff")
BITS, PHOTOMETRIC, SAMPLES, EXTRA, FORMAT, NODATA = 258, 262, 277, 338, 339, 42113
_GEO = (33550, 33922, 34264)  # pixel scale, tie points, transformation
_WORLD = (".tfw", ".tifw", ".wld")
_COLOURS = {2: 3, 5: 4, 6: 3, 8: 3, 9: 3}  # photometric interpretation → bands of colour; one of grey and palettes
_ALPHA = (1, 2)  # kinds of extra samples: associated and unassociated alpha
_KINDS = {1: "uint", 2: "int", 3: "float", 5: "complex", 6: "complex"}

Tags = Mapping[int, Any]


def tags_of(file: BinaryIO) -> Tags | None:
    """Return the tags of the first image in a TIFF file; None for one of another format, or a damaged directory."""
    try:
        file.seek(0)
        header = file.read(8)
        if header[:2] not in (b"II", b"MM"):
            return None
        if header[2:4] in (b"+\0", b"\0+"):  # BigTIFF
            header += file.read(8)
        directory = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(directory.next)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            directory.load(file)
        return directory
    except Exception:  # Pillow raises a dozen kinds of errors on damaged files
        return None


def georeferenced(path: Path, tags: Tags | None = None) -> bool:
    """Tell whether a file is a TIFF that says where it lies on the ground, by its tags or a world file beside it.

    Nothing but the file's directory is read, and rasterio isn't needed; `tags` are the file's, if they are known.
    """
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    if any(path.with_suffix(suffix).is_file() for suffix in _WORLD):
        return True
    if tags is None:
        with path.open("rb") as file:
            tags = tags_of(file)
    return any(tag in tags for tag in _GEO) if tags is not None else False


def unfit_bands(tags: Tags, name: str, on_ground: bool) -> str:
    """Return why the bands of a TIFF don't make a picture in colour or grey, and what to do; "" where they do.

    Grey of more than 8 bits is fit unless it lies `on_ground`: satellites' values have no scale that is common to all.
    """
    count, photometric = int(tags.get(SAMPLES, 1)), int(tags.get(PHOTOMETRIC, 1))
    bits, formats = (np.atleast_1d(tags.get(tag, 1)).tolist() for tag in (BITS, FORMAT))
    file, fit = shlex.quote(name), all(n <= 8 for n in bits) and all(kind in (1, 4) for kind in formats)
    if not fit and (count > 1 or on_ground):
        return (
            f"{_KINDS.get(formats[0], 'uint')}{max(bits)} values; expected 8 bits a band: convert it first, such as by "
            f"`gdal_translate -ot Byte -scale LOW HIGH 0 255 {file} 8bit.tif`"
        )
    extra = np.atleast_1d(tags.get(EXTRA, ())).tolist()
    more = count - _COLOURS.get(photometric, 1)
    if more <= 0 or (more == 1 and len(extra) == 1 and extra[0] in _ALPHA):
        return ""
    return f"{count} bands, which aren't red, green and blue or grey, with or without alpha; {choose(file, count)}"


def unfit_alpha(alpha: np.ndarray, name: str, count: int) -> str:
    """Return why a band that is marked as alpha can't be that, and what to do; "" where it is 0 or 255 throughout.

    Args:
        alpha: its values, uint8.
        name: of the file.
        count: of the file's bands.
    """
    odd = int(np.count_nonzero((alpha != 0) & (alpha != 255)))
    if not odd:
        return ""
    return (
        f"band {count} is marked as alpha, as GDAL marks any, but {odd:,} pixels have values other than 0 and 255; "
        f"{choose(shlex.quote(name), count)}"
    )


def choose(file: str, count: int) -> str:
    """Return the advice to choose the bands of a file, whose name is quoted."""
    bands = "-b 1" if count < 3 else "-b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB"
    return f"choose bands, such as by `gdal_translate {bands} {file} chosen.tif`"


def nodata_of(tags: Tags | None) -> int | None:
    """Return the value 0–255 that stands for no data in a TIFF, None where there is no such value."""
    text = tags.get(NODATA) if tags is not None else None
    try:
        value = float(str(text).strip("\0 "))
    except ValueError:
        return None
    return int(value) if math.isfinite(value) and value == int(value) and 0 <= value <= 255 else None
