"""GeoTIFF in and out, with its georeference (extra `geo`: rasterio)."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import TiffImagePlugin

from octavo.data.pixels import BrokenImage
from octavo.data.walk import one_line
from octavo.files import write_atomic
from octavo.overwrite import Kind

SUFFIXES = (".tif", ".tiff")
_TAGS = (33550, 33922, 34264)  # pixel scale, tie points, transformation: where the image lies on the ground
_SOFTWARE, _SIGNED = 305, "Octavo"
_WORLD = (".tfw", ".tifw", ".wld")
_TILE = 256
_ROWS = 8 * _TILE  # rows that are written at a time


@dataclass(frozen=True, eq=False)
class GeoImage:
    """An open GeoTIFF.

    Attributes:
        height: in pixels.
        width: in pixels.
        note: what was made of its bands where that isn't plain; else empty.
        source: rasterio's dataset.
        bands: numbers (from 1) of red, green and blue; one for grey.
        palette: uint8 [256, 3] where the band holds indices into one.
    """

    height: int
    width: int
    note: str
    source: Any
    bands: tuple[int, ...]
    palette: np.ndarray | None = None

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Return rows of pixels, uint8 [bottom - top, W, 3], read from the file now.

        Raises:
            BrokenImage: they can't be read.
        """
        with _refusing():
            planes = self.source.read(list(self.bands), window=((top, bottom), (0, self.width)))
        if self.palette is not None:
            return self.palette[planes[0]]
        return np.ascontiguousarray(np.broadcast_to(planes.transpose(1, 2, 0), (bottom - top, self.width, 3)))

    def valid(self, top: int, bottom: int) -> np.ndarray:
        """Return which pixels hold data, bool [bottom - top, W]; by nodata value, mask or alpha.

        Raises:
            BrokenImage: they can't be read.
        """
        with _refusing():
            return self.source.dataset_mask(window=((top, bottom), (0, self.width))) != 0


def _is_ours(path: Path) -> bool:
    try:
        return str(_directory(path).get(_SOFTWARE, "")) == _SIGNED
    except Exception:  # whatever a damaged file does, it isn't ours
        return False


GEOTIFF = Kind("mask of ours", _is_ours, image=True)
"""The kind of file that `write_mask` writes."""


def installed() -> bool:
    """Tell whether rasterio is there."""
    return find_spec("rasterio") is not None


def georeferenced(path: Path) -> bool:
    """Tell whether a file is a TIFF that says where it lies on the ground, by its tags or a world file beside it.

    Nothing but the file's directory is read, and rasterio isn't needed.
    """
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    if any(path.with_suffix(suffix).is_file() for suffix in _WORLD):
        return True
    try:
        return any(tag in _directory(path) for tag in _TAGS)
    except Exception:  # a damaged file; decoding it will say what is wrong
        return False


def _directory(path: Path) -> Mapping[int, Any]:
    """Return the tags of a TIFF's first image; raises whatever a damaged one makes Pillow raise."""
    with path.open("rb") as file:
        header = file.read(8)
        if header[2] == 43:  # BigTIFF
            header += file.read(8)
        directory = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(directory.next)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            directory.load(file)
        return directory


@contextmanager
def open_geo(path: Path) -> Iterator[GeoImage]:
    """Open a GeoTIFF of 8-bit bands.

    Red, green and blue are the bands that say they are, else the first three; one or two bands are grey.

    Raises:
        BrokenImage: it can't be read, or its values aren't 8 bits.
    """
    import rasterio

    with _refusing():
        source = rasterio.open(path, driver="GTiff")
    with source:
        if any(kind != "uint8" for kind in source.dtypes):
            raise BrokenImage(
                f"{source.dtypes[0]} values; expected 8 bits a band: convert it first, such as by "
                f"`gdal_translate -ot Byte -scale LOW HIGH 0 255 {shlex.quote(path.name)} 8bit.tif`"
            )
        bands, note = _bands(source)
        palette = _palette(source) if source.colorinterp[0].name == "palette" else None
        yield GeoImage(source.height, source.width, note, source, bands, palette)


def write_mask(
    path: Path, ids: np.ndarray, like: GeoImage, colours: Mapping[int, tuple[int, int, int]], void: int
) -> None:
    """Write class values as GeoTIFF, whole or not at all: tiled, compressed, with a colour map, where `like` lies.

    Args:
        path: to write.
        ids: uint8 [H,W], the values to write; may be mapped from a file.
        like: the image that they are of.
        colours: value → red, green, blue; without any there is no colour map.
        void: value of pixels without a class, written as nodata.

    Raises:
        ValueError: ids of another size, which rasterio would stretch.
    """
    import rasterio

    if ids.shape != (like.height, like.width):
        raise ValueError(f"expected ids [{like.height}, {like.width}], got {ids.shape}")

    def fill(draft: Path) -> None:
        with _quiet(), rasterio.open(draft, "w", **_profile(like, void)) as target:
            target.update_tags(TIFFTAG_SOFTWARE=_SIGNED)
            if colours:
                target.write_colormap(1, {value: (*colour, 255) for value, colour in colours.items()})
            for top in range(0, like.height, _ROWS):
                part = np.ascontiguousarray(ids[top : top + _ROWS])
                target.write(part, 1, window=((top, top + len(part)), (0, like.width)))

    def content(file: Any) -> None:
        draft = Path(file.name)
        fill(draft)
        with draft.open("rb") as written:  # GDAL made a file of its own under this name
            os.fsync(written.fileno())

    write_atomic(path, content)


def _profile(like: GeoImage, void: int) -> dict[str, Any]:
    """Return how a mask of an image is written: where it lies, and in which form."""
    source = like.source
    profile = {
        "driver": "GTiff",
        "height": like.height,
        "width": like.width,
        "count": 1,
        "dtype": "uint8",
        "nodata": void,
        "tiled": True,
        "blockxsize": _TILE,
        "blockysize": _TILE,
        "compress": "deflate",
        "bigtiff": "if_safer",
    }
    points, projection = source.gcps
    if points:
        profile |= {"gcps": points, "crs": projection}
    else:
        profile |= {"crs": source.crs, "transform": source.transform}
    return profile


def _bands(source: Any) -> tuple[tuple[int, ...], str]:
    kinds = [kind.name for kind in source.colorinterp]
    named = tuple(kinds.index(c) + 1 for c in ("red", "green", "blue") if c in kinds)
    if source.count <= 2:
        return (1,), "" if source.count == 1 or "alpha" in kinds else "2 bands; the first was taken as grey"
    if len(named) == 3:
        rest = source.count - 3 - ("alpha" in kinds)
        return named, f"{source.count} bands; red, green and blue were taken" if rest else ""
    return (1, 2, 3), f"{source.count} bands; the first three were taken as red, green and blue"


def _palette(source: Any) -> np.ndarray:
    palette = np.zeros((256, 3), np.uint8)
    for value, colour in source.colormap(1).items():
        palette[value] = colour[:3]
    return palette


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out rasterio's word that a file lies nowhere on the ground: one with ground control points does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="rasterio")
        warnings.filterwarnings("ignore", message=".*geotransform.*")
        yield


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what rasterio raises into BrokenImage."""
    from rasterio.errors import RasterioError

    try:
        with _quiet():
            yield
    except (RasterioError, OSError) as error:
        raise BrokenImage(one_line(" ".join(str(error).split()))[:200] or type(error).__name__) from error
