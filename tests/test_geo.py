"""GeoTIFF in and out, against rasterio itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from octavo.data.geo import GeoImage, georeferenced, open_geo, write_mask
from octavo.data.pixels import BrokenImage

rasterio = pytest.importorskip("rasterio")
PLACE = rasterio.Affine(0.5, 0, 500000, 0, -0.5, 2700000)
COLOURS = {0: (0, 255, 255), 3: (255, 0, 255)}
DRAW = np.random.default_rng(0)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def made(planes: np.ndarray, name: str = "a.tif", colours: Any = None, kinds: Any = None, **more: Any) -> Path:
        count, height, width = planes.shape
        profile = {"count": count, "height": height, "width": width, "dtype": planes.dtype, "crs": "EPSG:32651"}
        with rasterio.open(tmp_path / name, "w", driver="GTiff", **{"transform": PLACE, **profile, **more}) as file:
            if kinds:
                file.colorinterp = [rasterio.enums.ColorInterp[kind] for kind in kinds]
            if colours:
                file.write_colormap(1, colours)
            file.write(planes)
        return tmp_path / name

    return made


def planes(count: int, height: int = 40, width: int = 60) -> np.ndarray:
    return DRAW.integers(1, 256, (count, height, width), np.uint8)


def all_rows(image: GeoImage) -> np.ndarray:
    return np.concatenate([image.rows(top, min(top + 7, image.height)) for top in range(0, image.height, 7)])


@pytest.mark.parametrize("tiled", [True, False])
def test_rows_are_the_bands_as_pixels(write: Write, tiled: bool) -> None:
    values = planes(3)
    more = {"tiled": True, "blockxsize": 16, "blockysize": 16} if tiled else {}
    with open_geo(write(values, **more)) as image:
        assert (image.height, image.width, image.note) == (40, 60, "")
        np.testing.assert_array_equal(all_rows(image), values.transpose(1, 2, 0))
        assert image.valid(0, 40).all()


def test_one_band_is_grey(write: Write) -> None:
    values = planes(1)
    with open_geo(write(values)) as image:
        np.testing.assert_array_equal(all_rows(image), np.repeat(values.transpose(1, 2, 0), 3, axis=2))
        assert image.note == ""


def test_a_palette_becomes_colours(write: Write) -> None:
    values = DRAW.integers(0, 2, (1, 40, 60)).astype(np.uint8) * 3
    with open_geo(write(values, colours=COLOURS)) as image:
        found = all_rows(image)
    np.testing.assert_array_equal(found[values[0] == 3], np.broadcast_to(COLOURS[3], ((values == 3).sum(), 3)))
    np.testing.assert_array_equal(found[values[0] == 0], np.broadcast_to(COLOURS[0], ((values == 0).sum(), 3)))


def test_of_more_bands_the_first_three_are_taken_and_it_is_said(write: Write) -> None:
    values = planes(5)
    with open_geo(write(values, kinds=["undefined"] * 5, photometric="minisblack")) as image:
        np.testing.assert_array_equal(all_rows(image), values[:3].transpose(1, 2, 0))
        assert image.note == "5 bands; the first three were taken as red, green and blue"


def test_bands_that_say_what_they_are_are_taken_by_that(write: Write) -> None:
    values = planes(4)
    kinds = ["blue", "green", "red", "undefined"]
    with open_geo(write(values, kinds=kinds, photometric="minisblack")) as image:
        np.testing.assert_array_equal(all_rows(image), values[2::-1].transpose(1, 2, 0))
        assert image.note == "4 bands; red, green and blue were taken"


def test_nodata_and_alpha_say_which_pixels_hold_data(write: Write) -> None:
    values = planes(3)
    values[:, :10, :20] = 0
    hole = np.zeros((40, 60), bool)
    hole[:10, :20] = True
    with open_geo(write(values, nodata=0)) as image:
        np.testing.assert_array_equal(image.valid(0, 40), ~hole)
        np.testing.assert_array_equal(image.valid(8, 12), ~hole[8:12])
    alpha = np.where(hole, 0, 255).astype(np.uint8)[None]
    path = write(np.concatenate([planes(3), alpha]), "b.tif", kinds=["red", "green", "blue", "alpha"])
    with open_geo(path) as image:
        np.testing.assert_array_equal(image.valid(0, 40), ~hole)
        assert image.note == ""


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int16])
def test_other_than_8_bits_is_refused_with_what_to_do(write: Write, dtype: type) -> None:
    path = write(planes(3).astype(dtype))
    word = r"values; expected 8 bits a band: convert it.*gdal_translate -ot Byte"
    with pytest.raises(BrokenImage, match=word), open_geo(path):
        pass


def test_damaged_files_are_broken_images(write: Write, tmp_path: Path) -> None:
    (tmp_path / "no.tif").write_bytes(b"II*\0nothing")
    with pytest.raises(BrokenImage), open_geo(tmp_path / "no.tif"):
        pass
    path = write(planes(3, 400, 600), compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BrokenImage), open_geo(path) as image:
        all_rows(image)


def test_a_mask_lies_where_its_image_does(write: Write, tmp_path: Path) -> None:
    ids = np.where(DRAW.random((3000, 60)) < 0.5, 3, 0).astype(np.uint8)
    ids[:5] = 255
    with open_geo(write(planes(3, 3000, 60))) as image:
        write_mask(tmp_path / "mask.tif", ids, image, {**COLOURS, 255: (0, 0, 0)}, 255)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "mask.tif"]
    with rasterio.open(tmp_path / "mask.tif") as mask:
        assert mask.crs.to_epsg() == 32651 and mask.transform == PLACE
        assert mask.nodata == 255 and mask.dtypes == ("uint8",)
        assert mask.profile["tiled"] and mask.compression.name == "deflate"
        np.testing.assert_array_equal(mask.read(1), ids)
        assert {value: mask.colormap(1)[value][:3] for value in COLOURS} == COLOURS
    assert georeferenced(tmp_path / "mask.tif")


def test_ground_control_points_are_kept(write: Write, tmp_path: Path) -> None:
    points = [rasterio.control.GroundControlPoint(r, c, 121 + c / 100, 24 - r / 100) for r, c in
              ((0, 0), (0, 60), (40, 0), (40, 60))]  # fmt: skip
    path = write(planes(3), transform=None, gcps=points)
    assert georeferenced(path)
    with open_geo(path) as image:
        write_mask(tmp_path / "mask.tif", np.zeros((40, 60), np.uint8), image, COLOURS, 255)
    with rasterio.open(tmp_path / "mask.tif") as mask:
        assert [(p.row, p.col, p.x, p.y) for p in mask.gcps[0]] == [(p.row, p.col, p.x, p.y) for p in points]


def test_a_mask_that_fails_leaves_nothing(write: Write, tmp_path: Path) -> None:
    with open_geo(write(planes(3))) as image, pytest.raises(ValueError, match="expected ids"):
        write_mask(tmp_path / "mask.tif", np.zeros((40, 50), np.uint8), image, COLOURS, 255)
    with open_geo(tmp_path / "a.tif") as image, pytest.raises(ValueError, match=r".+"):
        write_mask(tmp_path / "mask.tif", np.zeros((40, 60), np.uint8), image, {-1: (0, 0, 0)}, 300)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_georeference_is_told_by_tags_or_a_world_file(write: Write, tmp_path: Path) -> None:
    assert georeferenced(write(planes(3)))
    assert georeferenced(write(planes(3), "big.tif", bigtiff="yes"))
    assert georeferenced(write(planes(5), "five.TIF"))
    Image.fromarray(planes(3).transpose(1, 2, 0)).save(tmp_path / "plain.tif")
    assert not georeferenced(tmp_path / "plain.tif")
    (tmp_path / "plain.tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    assert georeferenced(tmp_path / "plain.tif")
    (tmp_path / "broken.tif").write_bytes(b"II")
    (tmp_path / "x.png").write_bytes(b"")
    assert not georeferenced(tmp_path / "broken.tif") and not georeferenced(tmp_path / "x.png")
    assert not georeferenced(tmp_path / "absent.tif")
