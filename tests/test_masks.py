"""Mask files to channels and back, against Pillow and NumPy, and what is refused with which words."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from octavo.data import store
from octavo.data.classes import IGNORE, ClassEntry, ClassTable, load_table, shipped
from octavo.data.colour_codes import colour_code, colour_of, colour_text
from octavo.data.masks import MaskDecoder, paint, read_mask
from octavo.data.pairs import MaskFiles
from octavo.data.pixels import BrokenImage, decode
from octavo.errors import UserError

SHARED = Path(__file__).parents[2] / "shared" / "data"
BINARY = ClassTable("binary", (ClassEntry("no", 0, (0, 0, 0)), ClassEntry("yes", 255, (255, 255, 255))))
SHORT = ClassTable(
    "short", (ClassEntry("a", 0, (10, 0, 0)), ClassEntry("b", 1, (0, 10, 0)), ClassEntry("v", 9, (0, 0, 0), True))
)


def random_ids(classes: int, shape: tuple[int, int] = (33, 47), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, shape).astype(np.uint8)


def saved(path: Path, array: np.ndarray, **options: Any) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def reason(decoder: MaskDecoder, path: Path) -> str:
    with pytest.raises(BrokenImage) as caught:
        decoder.decode(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (33, 47)])
def test_painted_masks_decode_to_what_was_painted(name: str, shape: tuple[int, int], tmp_path: Path) -> None:
    table = load_table(name)
    ids = random_ids(len(table.names), shape)
    if any(e.ignored for e in table.entries):
        ids[ids == 1] = IGNORE
    picture = paint(ids, table)
    assert (picture.shape, picture.dtype) == ((*shape, 3), np.uint8)
    decoder = MaskDecoder(table, "colours")
    for file in (saved(tmp_path / "a.png", picture), saved(tmp_path / "a.tif", picture)):
        found = decoder.decode(file)
        assert (found.shape, found.dtype) == ((*shape, 1), np.uint8)
        np.testing.assert_array_equal(found[..., 0], ids)


@pytest.mark.parametrize("name", shipped())
def test_every_class_decodes_by_its_id_and_by_its_colour(name: str, tmp_path: Path) -> None:
    table = load_table(name)
    by_id = MaskDecoder(table, "ids").decode(
        saved(tmp_path / "ids.png", np.array([[e.value for e in table.entries]], np.uint8))
    )
    expected = [IGNORE if e.ignored else table.names.index(e.name) for e in table.entries]
    assert by_id[0, :, 0].tolist() == expected
    own = [k for k, e in enumerate(table.entries) if not (e.ignored and e.colour in {t.colour for t in table.trained})]
    colours = np.array([[table.entries[k].colour for k in own]], np.uint8)
    by_colour = MaskDecoder(table, "colours").decode(saved(tmp_path / "colours.png", colours))
    assert by_colour[0, :, 0].tolist() == [expected[k] for k in own]


def test_paint_refuses_what_is_no_channel() -> None:
    with pytest.raises(ValueError, match='7 is no channel of table "course", which has 7'):
        paint(np.array([[7]], np.uint8), load_table("course"))
    assert paint(np.array([[255]], np.uint8), load_table("voc")).tolist() == [[[224, 224, 192]]]


def test_a_palettes_indices_are_ids_whatever_its_colours(tmp_path: Path) -> None:
    ids = random_ids(11)
    image = Image.fromarray(ids)
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
    for name in ("a.png", "a.gif", "a.bmp", "a.tif"):
        image.save(tmp_path / name)
        np.testing.assert_array_equal(MaskDecoder(load_table("camvid"), "ids").decode(tmp_path / name)[..., 0], ids)


def test_transparent_palette_entries_keep_their_ids(tmp_path: Path) -> None:
    ids = random_ids(4)
    image = Image.fromarray(ids)
    image.putpalette(load_table("camvid").colours.tobytes())
    image.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(MaskDecoder(load_table("camvid"), "ids").decode(tmp_path / "a.png")[..., 0], ids)
    np.testing.assert_array_equal(MaskDecoder(load_table("camvid"), "colours").decode(tmp_path / "a.png")[..., 0], ids)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_one_bit_is_0_and_255_or_0_and_1_as_the_table_has_it(name: str, tmp_path: Path) -> None:
    ids = random_ids(2)
    Image.fromarray(ids.astype(bool)).save(tmp_path / name)
    for table in (BINARY, SHORT):
        np.testing.assert_array_equal(MaskDecoder(table, "ids").decode(tmp_path / name)[..., 0], ids)


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_in_tiff_comes_back_as_ids(bits: int, tmp_path: Path) -> None:
    """Written by hand, since Pillow writes no such file: little-endian, one strip, black is zero."""
    ids = random_ids(4, (3, 8))
    packed = np.packbits(np.unpackbits(ids.reshape(-1, 1), axis=1)[:, -bits:]).tobytes()
    tags = [(256, 8), (257, 3), (258, bits), (259, 1), (262, 1), (273, 134), (277, 1), (278, 3), (279, len(packed))]
    entries = b"".join(
        tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, value in tags
    )
    head = b"II*\0" + (8).to_bytes(4, "little") + len(tags).to_bytes(2, "little") + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(head.ljust(134, b"\0") + packed)
    with Image.open(tmp_path / "a.tif") as image:
        assert np.array_equal(np.asarray(image), ids * (255 // (2**bits - 1)))  # what Pillow makes of it
    np.testing.assert_array_equal(MaskDecoder(load_table("camvid"), "ids").decode(tmp_path / "a.tif")[..., 0], ids)


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_wide_integers_hold_ids_up_to_255(kind: Any, tmp_path: Path) -> None:
    ids = random_ids(11)
    path = saved(tmp_path / "a.tif", ids.astype(kind))
    np.testing.assert_array_equal(MaskDecoder(load_table("camvid"), "ids").decode(path)[..., 0], ids)
    text = reason(MaskDecoder(load_table("camvid"), "ids"), saved(path, ids.astype(kind) * 257))
    assert text == f"values from 0 to 2,570 of {8 * np.dtype(kind).itemsize} bits; class ids must be 0–255"


def test_alpha_must_be_opaque(tmp_path: Path) -> None:
    ids = random_ids(7)
    decoder = MaskDecoder(load_table("course"), "colours")
    picture = np.dstack([paint(ids, load_table("course")), np.full(ids.shape, 255, np.uint8)])
    np.testing.assert_array_equal(decoder.decode(saved(tmp_path / "a.png", picture))[..., 0], ids)
    picture[:2, :5, 3] = 254
    assert reason(decoder, saved(tmp_path / "a.png", picture)) == (
        "10 of its pixels are transparent; a mask must be opaque"
    )
    grey = np.dstack([ids, picture[..., 3]])
    assert "10 of its pixels are transparent" in reason(
        MaskDecoder(load_table("camvid"), "ids"), saved(tmp_path / "a.png", grey)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_masks_turn_as_images_do(orientation: int, suffix: str, tmp_path: Path) -> None:
    """A mask and an image with the same pixels and the same EXIF stay one above the other."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    ids = random_ids(7)
    path = saved(tmp_path / f"a{suffix}", paint(ids, load_table("course")), exif=exif)
    channels = MaskDecoder(load_table("course"), "colours").decode(path)[..., 0]
    np.testing.assert_array_equal(paint(channels, load_table("course")), decode(path))


def test_modes_that_are_no_mask(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
    assert reason(MaskDecoder(BINARY, "ids"), tmp_path / "a.jpg").startswith("colour mode CMYK; expected")
    Image.new("F", (4, 4)).save(tmp_path / "a.tif")
    assert reason(MaskDecoder(BINARY, "ids"), tmp_path / "a.tif").startswith("colour mode F; expected")
    (tmp_path / "b.png").write_text("text")
    assert "not a JPEG, PNG" in reason(MaskDecoder(BINARY, "ids"), tmp_path / "b.png")
    assert "no such file" in reason(MaskDecoder(BINARY, "ids"), tmp_path / "absent.png")


def test_a_colour_in_no_class_is_named_with_its_count(tmp_path: Path) -> None:
    picture = paint(random_ids(7, (60, 70)), load_table("course"))
    picture[:40, :30], picture[50, 60:66] = (255, 0, 0), (1, 2, 3)
    text = reason(MaskDecoder(load_table("deepglobe"), "colours"), saved(tmp_path / "a.png", picture))
    assert text == (
        'colour 255,0,0 (1,200 pixels), colour 1,2,3 (6 pixels) are in no class of table "deepglobe"; mend the mask, '
        "or give it a class (or ignored = true) in classes.toml"
    )


def test_a_value_in_no_class_is_named_with_its_count(tmp_path: Path) -> None:
    ids = random_ids(11)
    ids[:3, :4], ids[10, 10] = 255, 12
    text = reason(MaskDecoder(load_table("camvid"), "ids"), saved(tmp_path / "a.png", ids))
    assert text.startswith('value 255 (12 pixels), value 12 (1 pixels) are in no class of table "camvid"')
    assert text.endswith("255 often means void: id = 255, ignored = true")


def test_many_strange_colours_are_counted(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    text = reason(MaskDecoder(load_table("camvid"), "colours"), saved(tmp_path / "a.png", noise))
    count = len(np.unique(noise.reshape(-1, 3), axis=0))
    assert f"and {count - 5:,} more colours are in no class" in text
    assert "data.tolerant = true" in text


def test_colours_where_ids_are_expected(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", paint(random_ids(11), load_table("camvid")))
    assert reason(MaskDecoder(load_table("camvid"), "ids"), path) == (
        'a mask in colour, but the others hold class ids of table "camvid"'
    )


def test_tolerance_takes_each_channel_from_128_on_as_255(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = random_ids(7, (100, 100))
    clean = paint(ids, load_table("course")).astype(int)
    noisy = np.where(clean == 255, rng.integers(128, 256, clean.shape), rng.integers(0, 128, clean.shape))
    path = saved(tmp_path / "a.png", noisy.astype(np.uint8))
    np.testing.assert_array_equal(MaskDecoder(load_table("course"), "colours", True).decode(path)[..., 0], ids)
    with pytest.raises(BrokenImage):
        MaskDecoder(load_table("course"), "colours").decode(path)
    grey = saved(tmp_path / "b.png", noisy[..., 0].astype(np.uint8))
    expected = (noisy[..., 0] >= 128).astype(np.uint8)
    np.testing.assert_array_equal(MaskDecoder(BINARY, "ids", True).decode(grey)[..., 0], expected)


def test_tolerance_does_not_forgive_colours_of_no_class(tmp_path: Path) -> None:
    picture = np.full((4, 5, 3), (250, 3, 7), np.uint8)
    text = reason(MaskDecoder(load_table("course"), "colours", True), saved(tmp_path / "a.png", picture))
    assert text.startswith('colour 250,3,7 (20 pixels) is in no class of table "course"')


@pytest.mark.parametrize(("name", "encoding"), [("camvid", "colours"), ("camvid", "ids"), ("course", "ids")])
def test_tolerance_that_would_join_classes_is_refused(name: str, encoding: Any) -> None:
    with pytest.raises(UserError, match=r"data\.tolerant: takes every channel as 0 or 255, but the"):
        MaskDecoder(load_table(name), encoding, tolerant=True)


def test_keys_tell_apart_what_decodes_differently() -> None:
    course, deepglobe = load_table("course"), load_table("deepglobe")
    renamed = ClassTable("other", tuple(ClassEntry(e.name + "!", e.value, e.colour) for e in course.entries))
    keys = [
        MaskDecoder(course, "colours").key,
        MaskDecoder(course, "ids").key,
        MaskDecoder(course, "colours", tolerant=True).key,
        MaskDecoder(deepglobe, "colours").key,
        MaskDecoder(SHORT, "colours").key,
    ]
    assert len(set(keys)) == len(keys)
    assert MaskDecoder(renamed, "colours").key == keys[0]


def test_colour_codes() -> None:
    assert colour_of(colour_code((1, 20, 255))) == (1, 20, 255)
    assert colour_text(colour_code((255, 0, 7))) == "255,0,7"


def test_threads_decode_alike(tmp_path: Path) -> None:
    ids = random_ids(7, (64, 64))
    path = saved(tmp_path / "a.png", paint(ids, load_table("course")))
    wrong: list[object] = []

    def work() -> None:
        for table in ("course", "deepglobe", "course"):
            expected = ids if table == "course" else np.where(ids == 6, IGNORE, ids)
            for _ in range(5):
                if not np.array_equal(MaskDecoder(load_table(table), "colours").decode(path)[..., 0], expected):
                    wrong.append(table)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_store_takes_the_decoder(tmp_path: Path) -> None:
    """Masks of two sizes, decoded once; a batch is padded with IGNORE."""
    truths = [random_ids(7, (20, 30), 1), random_ids(7, (10, 40), 2)]
    for k, ids in enumerate(truths):
        saved(tmp_path / f"{k}.png", paint(ids, load_table("course")))
    files = MaskFiles(str(tmp_path), "", ("0.png", "1.png"))
    pixels = store.build(files, MaskDecoder(load_table("course"), "colours"), tmp_path / "cache")
    batch, sizes = pixels.batch([0, 1])
    assert (batch.shape, sizes.tolist()) == ((2, 1, 20, 40), [[20, 30], [10, 40]])
    for row, ids in zip(batch[:, 0], truths, strict=True):
        expected = np.full((20, 40), IGNORE)
        expected[: ids.shape[0], : ids.shape[1]] = ids
        np.testing.assert_array_equal(row, expected)


def test_decoding_takes_milliseconds(tmp_path: Path) -> None:
    """512×512 in RGB: 10 ms of this thread's own time at most."""
    y, x = np.mgrid[:512, :512]
    path = saved(tmp_path / "a.png", paint(((x // 40 + y // 30) % 7).astype(np.uint8), load_table("course")))
    decoder = MaskDecoder(load_table("course"), "colours")
    decoder.decode(path)
    times = []
    for _ in range(10):
        start = time.thread_time()
        decoder.decode(path)
        times.append(time.thread_time() - start)
    assert min(times) < 0.010


@pytest.mark.skipif(not (SHARED / "deepglobe13").is_dir(), reason="needs ../shared/data")
def test_real_masks_of_the_reference_against_its_own_rule() -> None:
    """The course's decoding, written out: channels from 128 on are 1, and 4r + 2g + b is looked up."""
    lookup = {3: 0, 6: 1, 5: 2, 2: 3, 1: 4, 7: 5, 0: 6}
    for path in sorted((SHARED / "deepglobe13" / "validation").glob("*_mask.png"))[:12]:
        with Image.open(path) as image:
            bits = (np.asarray(image.convert("RGB")) >= 128).astype(int)
        expected = np.vectorize(lookup.__getitem__)(4 * bits[..., 0] + 2 * bits[..., 1] + bits[..., 2])
        for tolerant in (False, True):
            found = MaskDecoder(load_table("course"), "colours", tolerant).decode(path)[..., 0]
            np.testing.assert_array_equal(found, expected)


def test_raw_masks_say_what_they_are(tmp_path: Path) -> None:
    raw = read_mask(saved(tmp_path / "a.png", random_ids(3, (5, 9))))
    assert (raw.kind, raw.format, raw.size) == ("grey", "PNG", (9, 5))
    raw = read_mask(saved(tmp_path / "a.tif", paint(random_ids(3, (5, 9)), load_table("course"))))
    assert (raw.kind, raw.format, raw.values) == ("colour", "TIFF", None)
    grey = read_mask(saved(tmp_path / "b.png", np.dstack([random_ids(3)] * 3)))
    assert grey.kind == "colour"
    np.testing.assert_array_equal(grey.values, random_ids(3))


def test_a_pgm_with_another_maximum_is_refused_as_its_ids_would_be_scaled(tmp_path: Path) -> None:
    (tmp_path / "ids.pgm").write_bytes(b"P5 2 1 255\n\x01\x02")
    assert read_mask(tmp_path / "ids.pgm").plane.tolist() == [[1, 2]]
    for head in (b"P5 2 1 10\n\x01\x02", b"P2 2 1 10\n1 2\n", b"P5 2 1 1000\n\0\x01\0\x02"):
        (tmp_path / "ids.pgm").write_bytes(head)
        with pytest.raises(BrokenImage, match="by which its values would be scaled; save it as PNG"):
            read_mask(tmp_path / "ids.pgm")
