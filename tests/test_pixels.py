"""Decoding: every mode comes out as the RGB a person would see, and what can't be decoded says why."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin

from octavo.data import pixels
from octavo.data.formats import FORMATS, IMAGE_SUFFIXES, SUFFIXES
from octavo.data.pixels import PLUGINS, BrokenImage, bounded, decode, probe, strict

LOSSLESS = ("PNG", "WEBP", "BMP", "TIFF")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(image: Image.Image, form: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, form, **options)  # pyright: ignore[reportArgumentType]
    file.seek(0)
    return file


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1), 128 + 0 * x], -1).astype(np.uint8)


@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats_keep_every_pixel(form: str) -> None:
    array = noise(13, 21, 3)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    result = decode(saved(Image.fromarray(array), form, **options))
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_what_pillow_decodes(progressive: bool) -> None:
    file = saved(Image.fromarray(smooth(40, 60)), "JPEG", quality=90, progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(file.getvalue())))
    np.testing.assert_array_equal(decode(file), expected)
    assert np.abs(decode(file).astype(int) - smooth(40, 60)).max() < 12


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF"])
def test_grey_becomes_three_equal_channels(form: str) -> None:
    grey = noise(9, 7)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(grey), form)), np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF"])
def test_one_bit_is_black_and_white(form: str) -> None:
    bits = noise(9, 7) > 127
    expected = np.repeat(bits[..., None] * np.uint8(255), 3, 2)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(bits), form)), expected)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF"])
def test_palette_is_looked_up(form: str) -> None:
    palette, index = noise(16, 3, seed=1), noise(9, 7) % 16
    image = Image.fromarray(index)
    image.putpalette(palette.tobytes())
    np.testing.assert_array_equal(decode(saved(image, form)), palette[index])


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_transparent_palette_entry_is_white(form: str) -> None:
    palette, index = noise(16, 3, seed=1), noise(9, 7) % 16
    image = Image.fromarray(index)
    image.putpalette(palette.tobytes())
    expected = palette[index]
    expected[index == 3] = 255
    np.testing.assert_array_equal(decode(saved(image, form, transparency=3)), expected)


def test_palette_with_partial_transparency_is_composited() -> None:
    palette, index, alpha = noise(16, 3, seed=1), noise(9, 7) % 16, noise(16, seed=2)
    image = Image.fromarray(index)
    image.putpalette(palette.tobytes())
    result = decode(saved(image, "PNG", transparency=alpha.tobytes()))
    a = alpha[index][..., None] / 255
    assert np.abs(result - (palette[index] * a + 255 * (1 - a))).max() <= 1


@pytest.mark.parametrize(
    "mode, form", [("RGBA", "PNG"), ("RGBA", "TIFF"), ("RGBA", "WEBP"), ("LA", "PNG"), ("LA", "TIFF")]
)
def test_alpha_is_composited_on_white(mode: str, form: str) -> None:
    array = noise(11, 5, len(mode))
    if form == "TIFF":  # there, a band that is called alpha may be anything
        array[..., -1] = np.where(array[..., -1] > 99, 255, 0)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    result = decode(saved(Image.fromarray(array, mode), form, **options))
    a = array[..., -1:] / 255
    assert np.abs(result - (array[..., :-1] * a + 255 * (1 - a))).max() <= 1
    assert (decode(saved(Image.new(mode, (4, 4)), form, **options)) == 255).all()


@pytest.mark.parametrize("mode, clear", [("L", 7), ("RGB", (7, 7, 7))])
def test_png_colour_key_is_white(mode: str, clear: object) -> None:
    array = np.full((4, 6, 3), 7, np.uint8)
    array[:2] = 99
    image = Image.fromarray(array).convert(mode)
    expected = np.where(array == 7, 255, array)
    np.testing.assert_array_equal(decode(saved(image, "PNG", transparency=clear)), expected)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_uses_the_full_range(form: str) -> None:
    grey = np.array([[0, 128, 129, 255, 257, 32767, 32896, 65407, 65535]], np.uint16)
    expected = np.rint(grey / 257).astype(np.uint8)
    assert expected[0, -1] == 255
    result = decode(saved(Image.fromarray(grey), form))
    np.testing.assert_array_equal(result, np.repeat(expected[..., None], 3, 2))


def test_sixteen_bit_grey_in_other_byte_order_and_polarity() -> None:
    grey = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    image = Image.frombytes("I;16B", (16, 16), grey.astype(">u2").tobytes())
    assert (decode(saved(image, "TIFF"))[..., 0] == np.arange(256).reshape(16, 16)).all()
    inverted = decode(saved(Image.fromarray(grey), "TIFF", tiffinfo={262: 0}))
    assert (inverted[..., 1] == 255 - np.arange(256).reshape(16, 16)).all()


def test_sixteen_bit_png_with_colour_key() -> None:
    grey = np.array([[1000, 65535, 2000]], np.uint16)
    assert decode(saved(Image.fromarray(grey), "PNG", transparency=1000))[0, :, 0].tolist() == [255, 255, 8]


def test_sixteen_bit_rgb_png() -> None:
    rows = noise(4, 5, 3).astype(">u2") * 257
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    result = decode(io.BytesIO(_png(5, 4, depth=16, colour=2, body=body)))
    np.testing.assert_array_equal(result, rows // 257)


def test_thirty_two_bit_grey() -> None:
    grey = np.array([[0, 257, 65535]], np.int32)
    assert decode(saved(Image.fromarray(grey), "TIFF"))[0, :, 2].tolist() == [0, 1, 255]
    with pytest.raises(BrokenImage, match="outside 0–65535"):
        decode(saved(Image.fromarray(grey + 1), "TIFF"))
    with pytest.raises(BrokenImage, match="outside 0–65535"):
        decode(saved(Image.fromarray(grey - 1), "TIFF"))


def test_float_tiff_is_taken_in_0_to_1_only() -> None:
    assert decode(saved(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF"))[0, :, 0].tolist() == [
        0,
        128,
        255,
    ]
    for value in (-0.1, 1.1, 300, np.nan, np.inf):
        with pytest.raises(BrokenImage, match="outside 0–1"):
            decode(saved(Image.fromarray(np.array([[0, value]], np.float32)), "TIFF"))


def cmyk() -> np.ndarray:
    corners = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255], [0, 0, 0, 128]])
    return np.repeat(np.repeat(corners[None].astype(np.uint8), 16, 0), 16, 1)


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_cmyk_is_converted_and_adobe_jpegs_are_not_inverted(form: str) -> None:
    ink = cmyk()
    file = saved(Image.fromarray(ink, "CMYK"), form, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {}))
    if form == "JPEG":
        assert b"Adobe" in file.getvalue()  # such files hold 255 - ink
    expected = (255.0 - ink[..., :3]) * (255.0 - ink[..., 3:]) / 255
    assert np.abs(decode(file) - expected).max() <= (1 if form == "TIFF" else 6)


def test_ycck_jpeg_as_photoshop_writes_it() -> None:
    """YCCK holds the YCbCr of 255 - (stored CMY), and Adobe stores 255 - ink: Y is the ink, and ink 200 shows as 55."""
    shade = np.full((16, 16, 4), [200, 128, 128, 255], np.uint8)  # as stored: Y, Cb, Cr, and inverted K
    data = bytearray(saved(Image.fromarray(255 - shade, "CMYK"), "JPEG", quality=100, subsampling=0).getvalue())
    place = data.index(b"Adobe")
    data[place + 11] = 2  # transform: YCCK
    assert np.abs(decode(io.BytesIO(bytes(data))).astype(int) - 55).max() <= 3


def test_lab_and_ycbcr_tiff() -> None:
    grey = Image.new("LAB", (3, 2), (255, 128, 128))
    assert (decode(saved(grey, "TIFF")) >= 250).all()
    array = smooth(16, 16)
    result = decode(saved(Image.fromarray(array).convert("YCbCr"), "TIFF", compression="tiff_lzw"))
    assert np.abs(result.astype(int) - array).max() <= 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    image = Image.fromarray(smooth(24, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(image, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    with Image.open(io.BytesIO(file.getvalue())) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    upright = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
               5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1),
               7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: np.rot90(a)}  # fmt: skip
    result = decode(file)
    np.testing.assert_array_equal(result, expected)
    assert np.abs(result.astype(int) - upright[orientation](smooth(24, 40))).max() < 12
    header = probe(io.BytesIO(file.getvalue()))
    assert (header.height, header.width) == result.shape[:2]
    small = decode(io.BytesIO(file.getvalue()), side=12)
    assert small.shape == ((20, 12, 3) if orientation >= 5 else (12, 20, 3))


def test_damaged_exif_leaves_the_picture(tmp_path: Path) -> None:
    exif = b"Exif\0\0" + b"II*\0\x08\0\0\0\x05\0" + struct.pack("<HHII", 0x010F, 2, 500, 90_000) + b"\x1a\x01"
    file = saved(Image.fromarray(smooth(16, 16)), "JPEG", exif=exif)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with Image.open(io.BytesIO(file.getvalue())) as image:
            dict(image.getexif())
    assert said, "the file should make Pillow warn, or this test shows nothing"
    assert decode(file).shape == (16, 16, 3)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_several(form: str) -> None:
    colours = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    frames = [Image.new("RGB", (8, 6), colour) for colour in colours]
    file = saved(
        frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
    )
    result = decode(file)
    assert result.shape == (6, 8, 3)
    assert (result == (255, 0, 0)).all()


def test_phone_pictures_with_two_images_in_one_jpeg() -> None:
    frames = [Image.fromarray(smooth(32, 48)), Image.new("RGB", (8, 6))]
    file = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert decode(file).shape == (32, 48, 3)
    assert decode(io.BytesIO(file.getvalue()), side=8).shape == (8, 12, 3)
    assert probe(io.BytesIO(file.getvalue())).format == "JPEG"


def test_unknown_formats_are_refused() -> None:
    for form in ("ICO", "TGA", "PCX", "EPS"):
        with pytest.raises(BrokenImage, match=r"^not a JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or PPM image$"):
            decode(saved(Image.new("RGB", (16, 16)), form))


@pytest.mark.parametrize(
    "head, ending, name",
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", ".jpg", "HEIC"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "", "JPEG 2000"),
        (bytes(128) + b"DICM", "", "DICOM"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ".svg", "SVG"),
    ],
)
def test_formats_that_are_not_read_are_named(head: bytes, ending: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"image{ending}"
    path.write_bytes(head + bytes(64))
    for read in (decode, probe):
        with pytest.raises(BrokenImage, match=f"^{name} is not read; convert to JPEG or PNG$"):
            read(path)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_avif_is_decoded_to_what_a_person_sees(mode: str) -> None:
    plain = Image.fromarray(np.full((40, 60, 3), (200, 40, 90), np.uint8)).convert(mode)
    if "A" in mode:
        plain.putalpha(Image.fromarray(np.tile(np.uint8([0, 255]).repeat(30), (40, 1))))
    found = decode(saved(plain, "AVIF", quality=95)).astype(int)
    rgba = np.asarray(plain.convert("RGBA")).astype(float)
    shown = rgba[..., :3] * rgba[..., 3:] / 255 + 255 - rgba[..., 3:]  # on white
    assert found.shape == (40, 60, 3)
    assert abs(found - shown)[:, [*range(26), *range(34, 60)]].max() <= 4  # the edge of the alpha is blurred


def test_a_turned_avif_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(noise(20, 30, 3)), "AVIF", exif=exif.tobytes())
    assert decode(data).shape == (30, 20, 3)
    data.seek(0)
    header = probe(data)
    assert (header.format, header.width, header.height) == ("AVIF", 20, 30)


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"P5 2 1 255\n\x07\xff", [7, 255]),
        (b"P5 2 1 65535\n\x80\x80\xff\xff", [128, 255]),
        (b"P2 2 1 255\n7 255\n", [7, 255]),
        (b"P4 8 1\n\xaa", [0, 255] * 4),
        (b"P6 1 1 255\n\x05\x05\x05", [5]),
    ],
)
def test_portable_anymaps(data: bytes, expected: list[int]) -> None:
    assert decode(io.BytesIO(data))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files_are_broken(form: str, share: float, tmp_path: Path) -> None:
    data = saved(Image.fromarray(noise(64, 64, 3)), form).getvalue()
    path = tmp_path / "cut"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BrokenImage) as caught:
        decode(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_truncated_files_stay_broken_when_the_program_tolerates_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = saved(Image.fromarray(noise(64, 64, 3)), "PNG").getvalue()
    with pytest.raises(BrokenImage):
        decode(io.BytesIO(data[: len(data) // 2]))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_what_is_no_image_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in {"empty.png": "empty file", "text.png": "not a JPEG", "absent.png": "no such file",
                         "folder.png": "not a file", "pipe.png": "not a file"}.items():  # fmt: skip
        for read in (decode, probe):
            with pytest.raises(BrokenImage, match=reason):
                read(tmp_path / name)


ERRORS = [SyntaxError("bad"), OSError("bad"), ValueError("bad"), struct.error("bad"), EOFError("bad"), IndexError(),
          MemoryError(), TypeError("bad"), KeyError("bad"), AttributeError("bad"), OverflowError("bad"),
          ZeroDivisionError("bad"), RecursionError("bad"), Image.DecompressionBombError("bad"), UserWarning("a\nb"),
          AssertionError()]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_any_exception_of_pillow_is_a_reason(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(BrokenImage) as caught:
        decode(saved(Image.new("RGB", (4, 4)), "PNG"))
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_ctrl_c_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageFile.ImageFile, "load", stop)
    with pytest.raises(KeyboardInterrupt):
        decode(saved(Image.new("RGB", (4, 4)), "PNG"))


@pytest.mark.parametrize("form", FORMATS)
def test_max_pixels_is_exact(form: str) -> None:
    data = saved(Image.new("RGB", (50, 20)), form).getvalue()
    assert decode(io.BytesIO(data), max_pixels=1000).shape == (20, 50, 3)
    with pytest.raises(BrokenImage, match=r"50×20 pixels, more than the limit of 999"):
        decode(io.BytesIO(data), max_pixels=999)


def test_max_pixels_raises_pillows_own_limit_and_restores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = saved(Image.new("RGB", (50, 20)), "PNG").getvalue()
    assert decode(io.BytesIO(data)).shape == (20, 50, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = _png(60_000, 60_000, depth=8, colour=2, body=b"")
    with pytest.raises(BrokenImage):
        decode(io.BytesIO(bomb))
    big = _png(10_001, 10_000, depth=1, colour=0, body=b"")
    with pytest.raises(BrokenImage, match="more than the limit of 100,000,000"):
        decode(io.BytesIO(big))


BOUNDS = [(4000, 3000, 256, (341, 256)), (3000, 4000, 256, (256, 341)), (100, 100, 256, (100, 100)),
          (257, 256, 256, (257, 256)), (1000, 10, 256, (1000, 10)), (9, 7, 1, (1, 1)), (640, 480, None, (640, 480)),
          (1000, 999, 10, (10, 10)), (80, 10, 10, (80, 10)), (800, 100, 10, (80, 10)), (81, 10, 10, (80, 10)),
          (10_000, 20, 10, (80, 1)), (20_000, 256, 256, (2048, 26)), (32, 65_000, 32, (1, 256)),
          (30_000, 3000, 64, (512, 51)), (3000, 64, 64, (512, 11)), (65_000, 32, None, (65_000, 32))]  # fmt: skip


@pytest.mark.parametrize("width, height, side, expected", BOUNDS)
def test_bounded(width: int, height: int, side: int | None, expected: tuple[int, int]) -> None:
    assert bounded(width, height, side) == expected


SCALES = [(512, 512, None, 0.5, (256, 256)), (513, 511, None, 0.5, (256, 256)), (3, 1, None, 0.1, (1, 1)),
          (2448, 2448, None, 0.25, (612, 612)), (640, 480, None, 1.0, (640, 480)), (640, 480, 120, 0.5, (160, 120)),
          (640, 480, 300, 0.5, (320, 240)), (7, 5, None, 0.999, (7, 5))]  # fmt: skip


@pytest.mark.parametrize("width, height, side, scale, expected", SCALES)
def test_bounded_by_a_factor(
    width: int, height: int, side: int | None, scale: float, expected: tuple[int, int]
) -> None:
    assert bounded(width, height, side, scale) == expected
    assert decode(saved(Image.new("L", (width, height)), "PNG"), side=side, scale=scale).shape[1::-1] == expected


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.001, float("nan")])
def test_a_factor_never_enlarges(scale: float) -> None:
    with pytest.raises(ValueError, match="expected 0 < scale ≤ 1"):
        bounded(8, 8, None, scale)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(400, 300), (301, 403)])
@pytest.mark.parametrize("scale", [0.5, 0.3, 0.125])
def test_scale_reduces_and_keeps_the_picture(form: str, size: tuple[int, int], scale: float) -> None:
    image = Image.fromarray(smooth(size[1], size[0]))
    result = decode(saved(image, form), scale=scale)
    target = (round(size[0] * scale), round(size[1] * scale))
    assert result.shape == (*target[::-1], 3)
    assert np.abs(result.astype(int) - np.asarray(image.resize(target, Image.Resampling.BICUBIC))).mean() < 2


def test_scale_is_antialiased_and_follows_the_orientation() -> None:
    checker = ((np.indices((512, 256)).sum(0) % 2) * 255).astype(np.uint8)
    assert np.abs(decode(saved(Image.fromarray(checker), "PNG"), scale=0.25).astype(int) - 127).max() <= 2
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode(saved(Image.fromarray(smooth(40, 80)), "JPEG", exif=exif, quality=95), scale=0.5)
    expected = np.asarray(Image.fromarray(smooth(40, 80)).rotate(-90, expand=True).resize((20, 40)))
    assert turned.shape == (40, 20, 3)
    assert np.abs(turned.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(400, 300), (300, 400), (513, 257), (64, 2000)])
def test_side_bounds_both_sides_and_keeps_the_picture(form: str, size: tuple[int, int]) -> None:
    image = Image.fromarray(smooth(size[1], size[0]))
    result = decode(saved(image, form), side=48)
    width, height = bounded(*size, 48)
    assert result.shape == (height, width, 3)
    expected = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    assert np.abs(result.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("form, width, height", [("JPEG", 20_000, 256), ("JPEG", 256, 20_000), ("GIF", 65_000, 32),
                                                 ("PNG", 32, 65_000), ("PNG", 50_000, 1)])  # fmt: skip
def test_strips_become_small_and_stay_strips(form: str, width: int, height: int) -> None:
    ramp = np.linspace(0, 255, max(width, height)).astype(np.uint8)
    image = Image.fromarray(np.tile(ramp, (height, 1)) if width > height else np.tile(ramp[:, None], (1, width)))
    result = decode(saved(image, form), side=32)
    assert max(result.shape[:2]) == 256
    assert min(result.shape[:2]) == max(1, round(256 * min(width, height) / max(width, height)))
    along = result[..., 0].mean(axis=int(height > width))
    np.testing.assert_allclose(along, np.linspace(0, 255, 256), atol=3)


def test_reduction_is_antialiased() -> None:
    checker = ((np.indices((512, 512)).sum(0) % 2) * 255).astype(np.uint8)
    assert np.abs(decode(saved(Image.fromarray(checker), "PNG"), side=32).astype(int) - 127).max() <= 2


def test_side_never_enlarges() -> None:
    array = noise(20, 30, 3)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(array), "PNG"), side=21), array)


def test_photographs_are_decoded_at_reduced_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = []
    draft = JpegImagePlugin.JpegImageFile.draft

    def watched(self: JpegImagePlugin.JpegImageFile, mode: None, size: tuple[int, int]) -> object:
        answer = draft(self, mode, size)
        scales.append(self.decoderconfig[0])
        return answer

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", watched)
    file = saved(Image.fromarray(smooth(600, 800)), "JPEG", quality=95)
    result = decode(file, side=64)
    assert scales == [4]
    expected = np.asarray(Image.fromarray(smooth(600, 800)).resize((85, 64), Image.Resampling.BICUBIC))
    assert np.abs(result.astype(int) - expected).max() < 8


def test_threads_see_warnings_as_errors_and_leave_the_filters_alone() -> None:
    """Two hundred decodings in eight threads, some nested: afterwards everything is as it was."""
    before = (list(warnings.filters), Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    good = saved(Image.fromarray(noise(40, 40, 3)), "PNG").getvalue()
    inside: list[int] = []

    def work(turn: int) -> bool:
        with strict(200_000_000 if turn % 3 else 1):
            inside.append(threading.get_ident())
            decode(io.BytesIO(good))
            try:
                decode(io.BytesIO(good[:-900]))
            except BrokenImage:
                return True
            return False

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))
    assert len(set(inside)) > 1
    assert (list(warnings.filters), Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == before


def test_pillows_warnings_are_errors_inside_only() -> None:
    def warn(module: str) -> None:
        warnings.warn_explicit("something odd", UserWarning, "file.py", 1, module=module, registry={})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with strict():
            with pytest.raises(UserWarning, match="something odd"):
                warn("PIL.TiffImagePlugin")
            warn("somebody.else")
        warn("PIL.TiffImagePlugin")


def test_suffixes_agree() -> None:
    assert {s for suffixes in SUFFIXES.values() for s in suffixes} == set(IMAGE_SUFFIXES)
    assert tuple(SUFFIXES) == FORMATS
    assert len(PLUGINS) == len(FORMATS) + 1  # phones write MPO, which is a JPEG


def test_decoding_needs_no_torch() -> None:
    assert pixels.__file__
    code = "import sys, octavo.data.pixels, octavo.data.store, octavo.data.readers; assert 'torch' not in sys.modules"
    source = str(Path(pixels.__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": source})


def _png(width: int, height: int, *, depth: int, colour: int, body: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
