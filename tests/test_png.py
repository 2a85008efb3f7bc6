"""PNG files from strips, read back by Pillow."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFile

from octavo.data.pixels import decode, probe
from octavo.data.png import without_pixels, write_png

DRAW = np.random.default_rng(0)


def strips_of(picture: np.ndarray, rows: int) -> list[np.ndarray]:
    return [picture[top : top + rows] for top in range(0, len(picture), rows)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (300, 1), (257, 129)])
@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("grey", [True, False])
def test_pillow_reads_what_was_written(shape: tuple[int, int], rows: int, grey: bool) -> None:
    picture = DRAW.integers(0, 256, shape if grey else (*shape, 3), np.uint8)
    file = BytesIO()
    write_png(file, strips_of(picture, rows), *shape, grey=grey)
    file.seek(0)
    image = Image.open(file)
    image.load()
    assert image.format == "PNG" and image.mode == ("L" if grey else "RGB")
    np.testing.assert_array_equal(np.asarray(image), picture)


def test_a_mask_takes_no_more_room_than_pillow_would_give_it() -> None:
    mask = np.kron(DRAW.integers(0, 7, (16, 16)), np.ones((32, 32))).astype(np.uint8)
    ours, theirs = BytesIO(), BytesIO()
    write_png(ours, strips_of(mask, 64), 512, 512, grey=True)
    Image.fromarray(mask).save(theirs, "PNG")
    assert ours.tell() < 1.5 * theirs.tell()


@pytest.mark.parametrize("picture", [np.zeros((4, 5), np.uint8), np.zeros((4, 6, 3), np.uint8), np.zeros((4, 5, 3))])
def test_strips_of_another_shape_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected strips of uint8"):
        write_png(BytesIO(), [picture], 4, 5)


def test_missing_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 5 rows, got 4"):
        write_png(BytesIO(), [np.zeros((4, 5, 3), np.uint8)], 5, 5)


def with_orientation(where: str) -> bytes:
    """A PNG of 40 × 30 pixels on its side, which says so before or behind its pixels, or in a text."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    Image.new("RGB", (40, 30)).save(file, "PNG", **({"exif": exif} if where != "text" else {}))
    content = file.getvalue()
    if where == "text":
        xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'
        chunk = struct.pack(">I", len(xmp)) + b"iTXt" + xmp + struct.pack(">I", zlib.crc32(b"iTXt" + xmp))
        return content[:33] + chunk + content[33:]
    at = content.index(b"eXIf") - 4
    length = 12 + struct.unpack(">I", content[at : at + 4])[0]
    if where == "before":
        return content
    return content[:at] + content[at + length : -12] + content[at : at + length] + content[-12:]


@pytest.mark.parametrize("where", ["before", "behind", "text"])
def test_a_header_tells_how_a_png_stands_without_its_pixels(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = with_orientation(where)
    assert decode(BytesIO(content)).shape == (40, 30, 3)
    size = Image.open(BytesIO(content)).size
    load = ImageFile.ImageFile.load

    def small(image: ImageFile.ImageFile) -> object:
        assert image.size != size, "its pixels were decoded"
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", small)
    header = probe(BytesIO(content))
    assert (header.width, header.height) == (30, 40)


@pytest.mark.parametrize("cut", [0, 8, 20, 33, 40, 60, -1])
def test_tags_of_a_damaged_png_are_what_can_be_read(cut: int) -> None:
    file = BytesIO(with_orientation("before")[:cut])
    tags = without_pixels(file)
    assert tags is None or tags.getvalue().startswith(b"\x89PNG")
