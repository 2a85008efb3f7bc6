"""GeoTIFF in and out, against rasterio itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from octavo.data.classes import IGNORE, ClassEntry, ClassTable
from octavo.data.doctor import diagnose, resolve
from octavo.data.geo import GeoImage, open_geo, write_mask
from octavo.data.masks import MaskDecoder
from octavo.data.pairs import read_pairs
from octavo.data.pixels import BrokenImage, decode
from octavo.data.tiff import georeferenced, nodata_of, tags_of

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
        assert (image.height, image.width) == (40, 60)
        np.testing.assert_array_equal(all_rows(image), values.transpose(1, 2, 0))
        assert image.valid(0, 40).all()


def test_one_band_is_grey(write: Write) -> None:
    values = planes(1)
    with open_geo(write(values)) as image:
        np.testing.assert_array_equal(all_rows(image), np.repeat(values.transpose(1, 2, 0), 3, axis=2))


def test_a_palette_becomes_colours(write: Write) -> None:
    values = DRAW.integers(0, 2, (1, 40, 60)).astype(np.uint8) * 3
    with open_geo(write(values, colours=COLOURS)) as image:
        found = all_rows(image)
    np.testing.assert_array_equal(found[values[0] == 3], np.broadcast_to(COLOURS[3], ((values == 3).sum(), 3)))
    np.testing.assert_array_equal(found[values[0] == 0], np.broadcast_to(COLOURS[0], ((values == 0).sum(), 3)))


@pytest.mark.parametrize(
    "count, kinds, more",
    [
        (2, None, {}),
        (3, None, {"photometric": "minisblack"}),
        (4, ["red", "green", "blue", "undefined"], {}),
        (4, ["blue", "green", "red", "undefined"], {"photometric": "minisblack"}),
        (5, None, {}),
        (5, None, {"photometric": "rgb"}),
    ],
)
def test_other_bands_are_refused_alike_in_training_and_prediction(
    write: Write, count: int, kinds: Any, more: dict[str, Any]
) -> None:
    path = write(planes(count), kinds=kinds, **more)
    word = rf"^{count} bands, which aren't .*gdal_translate -b 1 .*a\.tif chosen\.tif`$"
    with pytest.raises(BrokenImage, match=word) as trained:
        decode(path)
    with pytest.raises(BrokenImage) as predicted, open_geo(path):
        pass
    assert str(trained.value) == str(predicted.value)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("on_ground", [True, False])
def test_a_band_that_is_called_alpha_is_refused_if_it_isnt(write: Write, count: int, on_ground: bool) -> None:
    more = {} if on_ground else {"transform": None, "crs": None}
    kinds = [*["red", "green", "blue"][: count - 1], "alpha"] if count == 4 else ["gray", "alpha"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it lies nowhere on the ground
        path = write(planes(count), kinds=kinds, **more)
    word = rf"^band {count} is marked as alpha, as GDAL marks any, but [\d,]+ pixels have values other than 0 and 255; "
    with pytest.raises(BrokenImage, match=word + r"choose bands.*gdal_translate -b 1"):
        decode(path)
    with pytest.raises(BrokenImage, match=word), open_geo(path) as image:
        all_rows(image)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_training_and_prediction_see_the_same_pixels(write: Write, count: int) -> None:
    values = planes(count)
    kinds = None
    if count in (2, 4):
        values[-1] = np.where(values[-1] > 100, 255, 0)
        kinds = ["gray", "alpha"] if count == 2 else ["red", "green", "blue", "alpha"]
    path = write(values, kinds=kinds)
    with open_geo(path) as image:
        np.testing.assert_array_equal(all_rows(image), decode(path))


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


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int16])
def test_other_than_8_bits_is_refused_with_what_to_do(write: Write, dtype: type, count: int) -> None:
    path = write(planes(count).astype(dtype))
    word = rf"^{np.dtype(dtype)} values; expected 8 bits a band: convert it.*gdal_translate -ot Byte .* a.tif "
    with pytest.raises(BrokenImage, match=word), open_geo(path):
        pass
    with pytest.raises(BrokenImage, match=word):
        decode(path)


def test_a_world_file_makes_it_lie_on_the_ground(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.full((4, 4), 257, np.uint16)).save(path)
    assert (decode(path) == 1).all()  # grey of 16 bits, as a camera or a scanner makes it
    path.with_suffix(".tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    with pytest.raises(BrokenImage, match=r"^uint16 values"):
        decode(path)


TABLE = ClassTable("t", tuple(ClassEntry(f"c{i}", i, (i, 0, 9)) for i in range(3)))


def test_nodata_of_a_mask_is_void(write: Write) -> None:
    ids = DRAW.integers(0, 3, (1, 40, 60)).astype(np.uint8)
    ids[0, :10] = 99
    path = write(ids, nodata=99)
    found = MaskDecoder(TABLE, "ids").decode(path)[..., 0]
    assert (found[:10] == IGNORE).all()
    np.testing.assert_array_equal(found[10:], ids[0, 10:])
    with pytest.raises(BrokenImage, match="value 99"):
        MaskDecoder(TABLE, "ids").decode(write(ids, "b.tif"))
    for value in (-9999, float("nan"), 1e20):  # no value of 8 bits
        wide = write(np.minimum(ids, 2).astype(np.float32), "w.tif", nodata=value)
        with wide.open("rb") as file:
            assert nodata_of(tags_of(file)) is None


def test_nodata_of_a_mask_in_colours_is_void(write: Write) -> None:
    ids = DRAW.integers(0, 3, (40, 60))
    shades = np.array([(10, 20, 30), (200, 10, 10), (0, 0, 0)], np.uint8)[ids].transpose(2, 0, 1)
    table = ClassTable("t", (ClassEntry("a", 0, (10, 20, 30)), ClassEntry("b", 1, (200, 10, 10))))
    found = MaskDecoder(table, "colours").decode(write(shades, nodata=0))[..., 0]
    np.testing.assert_array_equal(found, np.where(ids == 2, IGNORE, ids))


def pairs_with_nodata(root: Path, write: Write, count: int, void: int) -> Path:
    for i in range(count):
        for half in ("images", "masks"):
            (root / half).mkdir(parents=True, exist_ok=True)
        Image.fromarray(planes(3).transpose(1, 2, 0)).save(root / "images" / f"{i}.png")
        ids = DRAW.integers(0, 3, (1, 40, 60)).astype(np.uint8)
        ids[0, :30] = void
        write(ids, nodata=void).rename(root / "masks" / f"{i}.tif")
    return root


def test_nodata_is_no_class_of_its_own(write: Write, tmp_path: Path) -> None:
    found = diagnose(read_pairs(pairs_with_nodata(tmp_path / "data", write, 4, 77)))
    assert found.decoder is not None and found.decoder.table.names == ("class 0", "class 1", "class 2")
    assert found.ignored["train"] == 4 * 30 * 60 and found.counts["train"].sum() == 4 * 10 * 60
    assert any(note.startswith("nodata is void (no class) in 4 masks: masks/0.tif") for note in found.notes)
    assert found.warnings == ()


def test_nodata_that_is_a_class_is_a_warning(write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs = read_pairs(pairs_with_nodata(tmp_path / "data", write, 4, 1))
    (warning,) = [text for text in diagnose(pairs, TABLE).warnings if "nodata" in text]
    assert warning.startswith('masks/0.tif, masks/1.tif, masks/2.tif, masks/3.tif: nodata is the value of class "c1"')
    resolve(pairs, TABLE)
    assert warning in caplog.text


def test_masks_of_nodata_alone_are_refused(write: Write, tmp_path: Path) -> None:
    root = pairs_with_nodata(tmp_path / "data", write, 2, 9)
    for path in root.glob("masks/*"):
        write(np.full((1, 40, 60), 9, np.uint8), nodata=9).rename(path)
    for table in (None, TABLE):
        assert (
            diagnose(read_pairs(root), table).refusal
            == "every mask holds its nodata value alone; there is nothing to learn"
        )


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
