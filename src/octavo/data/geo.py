"""GeoTIFF in and out, with its georeference (extra `geo`: rasterio)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from octavo.data.pixels import BrokenImage
from octavo.data.rgb import require_bands
from octavo.data.tiff import tags_of, unfit_alpha
from octavo.data.walk import one_line
from octavo.files import write_atomic
from octavo.overwrite import Kind

_SOFTWARE, _SIGNED = 305, "Octavo"
_TILE = 256
_ROWS = 8 * _TILE  # rows that are written at a time


@dataclass(frozen=True, eq=False)
class GeoImage:
    """An open GeoTIFF.

    Attributes:
        height: in pixels.
        width: in pixels.
        source: rasterio's dataset.
        bands: numbers (from 1) of red, green and blue; one for grey.
        palette: uint8 [256, 3] where the band holds indices into one.
        alpha: number of the band that is marked as alpha.
        name: of the file.
    """

    height: int
    width: int
    source: Any
    bands: tuple[int, ...]
    palette: np.ndarray | None = None
    alpha: int | None = None
    name: str = ""

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Return rows of pixels, uint8 [bottom - top, W, 3], read from the file now.

        Raises:
            BrokenImage: they can't be read.
        """
        window = ((top, bottom), (0, self.width))
        with _refusing():
            planes = self.source.read(list(self.bands), window=window)
            alpha = self.source.read(self.alpha, window=window) if self.alpha else None
        if self.palette is not None:
            return self.palette[planes[0]]
        if alpha is not None:
            if reason := unfit_alpha(alpha, self.name, self.source.count):
                raise BrokenImage(reason)
            planes[:, alpha == 0] = 255  # as training sees them: on white
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
        with path.open("rb") as file:
            return str((tags_of(file) or {}).get(_SOFTWARE, "")) == _SIGNED
    except OSError:
        return False


GEOTIFF = Kind("mask of ours", _is_ours, image=True)
"""The kind of file that `write_mask` writes."""


def installed() -> bool:
    """Tell whether rasterio is there."""
    return find_spec("rasterio") is not None


@contextmanager
def open_geo(path: Path) -> Iterator[GeoImage]:
    """Open a GeoTIFF of 8-bit bands: red, green and blue, or grey, and maybe alpha.

    Raises:
        BrokenImage: it can't be read, or its bands are others.
    """
    import rasterio

    with path.open("rb") as file:
        require_bands(tags_of(file), path)
    with _refusing():
        source = rasterio.open(path, driver="GTiff")
    with source:
        if any(kind != "uint8" for kind in source.dtypes):
            raise BrokenImage(f"{source.dtypes[0]} values; expected 8 bits a band")
        bands = (1,) if source.count < 3 else (1, 2, 3)
        palette = _palette(source) if source.colorinterp[0].name == "palette" else None
        alpha = source.count if source.count in (2, 4) else None
        yield GeoImage(source.height, source.width, source, bands, palette, alpha, path.name)


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
