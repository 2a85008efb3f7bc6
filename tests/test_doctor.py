"""What the mask doctor says of masks in every encoding, and of those that are none."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from octavo.data.classes import IGNORE, ClassEntry, ClassTable, dumps, load_table
from octavo.data.doctor import Diagnosis, diagnose, resolve
from octavo.data.masks import MaskDecoder, paint
from octavo.errors import UserError

SHARED = Path(__file__).parents[2] / "shared" / "data"
WIDTH, HEIGHT = 96, 80
Writer = Callable[[np.ndarray, Path], None]


@dataclass(frozen=True, eq=False)
class Folder:
    """Images and masks as `data.pairs.Pairs` has them."""

    root: str
    files: tuple[str, ...]
    masks: tuple[str, ...]
    splits: dict[str, np.ndarray]
    folder: str = ""

    def path(self, index: int) -> Path:
        return Path(self.root) / self.files[index]

    def mask_path(self, index: int) -> Path:
        return Path(self.root) / self.masks[index]


def regions(classes: int, seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Cells around random points, each of one class: uint8 [H, W]; every class is there."""
    rng = np.random.default_rng(seed)
    points = rng.uniform((0, 0), (height, width), (3 * classes, 2))
    y, x = np.mgrid[:height, :width]
    near = np.argmin((y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2, axis=2)
    return (near % classes).astype(np.uint8)


def save(root: Path, truths: list[np.ndarray], write: Writer, suffix: str = ".png", val: int = 2) -> Any:
    """Write images and masks; returns a stand-in for Pairs, which the doctor takes as one."""
    files, masks = [], []
    for i, truth in enumerate(truths):
        split = "val" if i >= len(truths) - val else "train"
        files.append(f"{split}/{i:04d}_sat.jpg")
        masks.append(f"{split}/{i:04d}_mask{suffix}")
        (root / split).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", truth.shape[::-1], (90, 120, i)).save(root / files[-1])
        write(truth, root / masks[-1])
    index = np.arange(len(truths))
    splits = {"train": index[: len(truths) - val], "val": index[len(truths) - val :]}
    return Folder(str(root), tuple(files), tuple(masks), splits)


def truths(classes: int, count: int = 6, scale: int = 1) -> list[np.ndarray]:
    return [regions(classes, seed, scale * WIDTH, scale * HEIGHT) for seed in range(count)]


def values(*of: int, **options: Any) -> Writer:
    """Grey files in which class k is value of[k]; k itself without `of`."""
    return lambda ids, path: Image.fromarray(np.array(of or range(256), np.uint8)[ids]).save(path, **options)


def palette(colours: Any, *of: int) -> Writer:
    def write(ids: np.ndarray, path: Path) -> None:
        image = Image.fromarray(np.array(of or range(256), np.uint8)[ids])
        image.putpalette(np.asarray(colours, np.uint8).tobytes())
        image.save(path)

    return write


def colours(table: str, mode: str = "RGB", **options: Any) -> Writer:
    return lambda ids, path: (
        Image.fromarray(paint(ids, load_table(table))).convert(mode).save(path, **options)  # pyright: ignore[reportArgumentType]
    )


def one_bit(ids: np.ndarray, path: Path) -> None:
    Image.fromarray(ids * np.uint8(255)).convert("1", dither=Image.Dither.NONE).save(path)


def grey_rgb(ids: np.ndarray, path: Path) -> None:
    Image.fromarray(np.stack([ids] * 3, axis=2)).save(path)


def grey_alpha(ids: np.ndarray, path: Path) -> None:
    Image.merge("LA", [Image.fromarray(ids), Image.new("L", ids.shape[::-1], 255)]).save(path)


def sixteen(ids: np.ndarray, path: Path) -> None:
    Image.fromarray(ids.astype(np.uint16)).save(path)


def four_bit(ids: np.ndarray, path: Path) -> None:
    """A grey PNG of four bits a pixel, written by hand: Pillow writes none, and scales what it reads by 17."""
    height, width = ids.shape
    rows = b"".join(b"\0" + bytes(row[0::2] << 4 | row[1::2]) for row in ids)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def adaptive(table: str) -> Writer:
    """Palette files whose palettes Pillow chooses for each: the indices mean nothing."""
    return lambda ids, path: (
        Image.fromarray(paint(ids, load_table(table))).convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    )


def smoothed(table: str) -> Writer:
    """Masks drawn four times as large and reduced, so that edges are blends."""

    def write(ids: np.ndarray, path: Path) -> None:
        large = Image.fromarray(paint(ids, load_table(table))).resize(
            (4 * WIDTH, 4 * HEIGHT), Image.Resampling.BILINEAR
        )
        large.resize((WIDTH, HEIGHT), Image.Resampling.BOX).save(path)

    return write


def smoothed_binary(ids: np.ndarray, path: Path) -> None:
    Image.fromarray(ids * np.uint8(255)).filter(ImageFilter.GaussianBlur(1)).save(path)


VOC = [load_table("voc").colours[k] for k in range(21)] + [(0, 0, 0)] * 234 + [(224, 224, 192)]
OWN = [(10, 20, 30), (200, 10, 10), (10, 200, 10), (9, 9, 220)] + [(1, 1, 1)] * 252
CITY = [e.value for e in load_table("cityscapes").trained]


def void_last(ids: np.ndarray, classes: int) -> np.ndarray:
    return np.where(ids == classes - 1, IGNORE, ids).astype(np.uint8)


@dataclass(frozen=True)
class Case:
    """Masks as files, and what they should be taken for: table's name, encoding, channels from ids."""

    write: Writer
    classes: int
    form: str
    table: str
    encoding: str = "ids"
    named: str | None = None
    tolerant: bool = False
    suffix: str = ".png"
    void: bool = False


CASES = {
    "grey ids": Case(values(), 4, "class ids in grey: 0–3", "ids"),
    "grey ids in TIFF": Case(values(), 4, "class ids in grey: 0–3", "ids", suffix=".tif"),
    "grey ids and void": Case(values(0, 1, 2, 255), 4, "class ids in grey: 0–2, 255", "ids", void=True),
    "grey ids with gaps": Case(values(0, 2, 3, 9), 4, "class ids in grey: 0, 2–3, 9", "ids"),
    "grey ids scaled": Case(values(0, 50, 100, 150), 4, "class ids in grey: 0, 50, 100, 150", "ids"),
    "grey ids scaled to 255": Case(values(0, 85, 170, 255), 4, "class ids in grey: 0, 85, 170, 255", "ids"),
    "grey ids scaled and rounded": Case(values(0, 128, 255), 3, "class ids in grey: 0, 128, 255", "ids"),
    "grey ids of 4 bits": Case(four_bit, 4, "class ids in grey: 0–3", "ids"),
    "grey ids of 16 bits": Case(sixteen, 4, "class ids in grey: 0–3", "ids"),
    "grey ids with alpha": Case(grey_alpha, 4, "class ids in grey: 0–3", "ids"),
    "grey ids in RGB": Case(grey_rgb, 4, "class ids in RGB: 0–3", "ids"),
    "grey ids from 1": Case(values(1, 2, 3), 3, "class ids in grey: 1–3", "ids"),
    "CamVid's ids, named": Case(
        values(), 12, 'class ids in grey, table "camvid"', "camvid", named="camvid", void=True
    ),
    "Cityscapes' ids, named": Case(
        values(*CITY), 19, 'class ids in grey, table "cityscapes"', "cityscapes", named="cityscapes"
    ),
    "binary 0/255": Case(values(0, 255), 2, "class ids in grey, binary 0/255", "binary"),
    "binary 0/1": Case(values(), 2, "class ids in grey, binary 0/1", "binary"),
    "binary of 1 bit": Case(one_bit, 2, "class ids in 1-bit, binary 0/255", "binary"),
    "binary in RGB": Case(
        lambda ids, path: grey_rgb(ids * np.uint8(255), path), 2, "class ids in RGB, binary 0/255", "binary"
    ),
    "VOC's palette": Case(palette(VOC), 21, 'class ids in palette, table "voc"', "voc"),
    "VOC's palette and void": Case(
        palette(VOC, *range(5), 255), 6, 'class ids in palette, table "voc"', "voc", void=True
    ),
    "own palette": Case(palette(OWN), 4, "class ids in palette: 0–3", "ids"),
    "own palette in GIF": Case(palette(OWN), 4, "class ids in palette: 0–3", "ids", suffix=".gif"),
    "own palette in BMP": Case(palette(OWN), 4, "class ids in palette: 0–3", "ids", suffix=".bmp"),
    "adaptive palettes": Case(adaptive("camvid"), 11, 'colours in palette, table "camvid"', "camvid", "colours"),
    "RGB of CamVid": Case(colours("camvid"), 11, 'colours in RGB, table "camvid"', "camvid", "colours"),
    "RGB of Cityscapes": Case(colours("cityscapes"), 19, 'colours in RGB, table "cityscapes"', "cityscapes", "colours"),
    "RGBA of CamVid": Case(colours("camvid", "RGBA"), 11, 'colours in RGB, table "camvid"', "camvid", "colours"),
    "RGB in WebP": Case(
        colours("camvid", lossless=True), 11, 'colours in RGB, table "camvid"', "camvid", "colours", suffix=".webp"
    ),
    "RGB of the course, named": Case(
        colours("course"), 7, 'colours in RGB, table "course"', "course", "colours", named="course"
    ),
    "RGB of DeepGlobe, named": Case(
        colours("course"), 7, 'colours in RGB, table "deepglobe"', "deepglobe", "colours", named="deepglobe", void=True
    ),
    "1-bit with a table of 0 and 1": Case(
        one_bit, 2, 'class ids in 1-bit, table "two"', "two", named="[[classes]]\nid = 0\nname = 'a'\ncolor = [1, 2, 3]"
        "\n[[classes]]\nid = 1\nname = 'b'\ncolor = [4, 5, 6]"
    ),
}  # fmt: skip


def named(case: Case, folder: Path) -> str | None:
    if case.named and "[[" in case.named:
        (folder / "two.toml").write_text(case.named)
        return str(folder / "two.toml")
    return case.named


@pytest.mark.parametrize("name", CASES)
def test_every_encoding_is_told_and_decodes_to_the_truth(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    ids = truths(case.classes)
    pairs = save(tmp_path, ids, case.write, case.suffix)
    table = named(case, tmp_path)
    found = diagnose(pairs, table)
    assert (found.refusal, found.errors, found.broken, found.form) == ("", (), (), case.form)
    assert found.decoder is not None
    assert (found.decoder.table.name, found.decoder.encoding) == (case.table, case.encoding)
    expected = [void_last(t, case.classes) if case.void else t for t in ids]
    for index, truth in enumerate(expected):
        np.testing.assert_array_equal(found.decoder.decode(pairs.mask_path(index))[..., 0], truth)
    for split, index in pairs.splits.items():
        joined = np.concatenate([expected[i].ravel() for i in index])
        size = len(found.decoder.table.names)
        np.testing.assert_array_equal(found.counts[split], np.bincount(joined[joined != 255], minlength=size))
        assert found.ignored[split] == np.count_nonzero(joined == 255)
    assert resolve(pairs, table) == found.decoder


@pytest.mark.parametrize(
    ("of", "told"),
    [
        ((0, 50, 100, 150), "values are 50 apart: 4 ids, scaled to be seen; each is taken as a class"),
        ((0, 128, 255), "values are 128 apart: 3 ids, scaled to be seen; each is taken as a class"),
        ((0, 2, 3, 9), "ids have gaps: no mask holds 1, 4–8; the 4 ids that are found are the classes"),
        ((0, 1, 9, 255), "ids have gaps: no mask holds 2–8; the 3 ids that are found are the classes"),
    ],
)
def test_odd_ids_are_warned_of(tmp_path: Path, of: tuple[int, ...], told: str) -> None:
    found = diagnose(save(tmp_path, truths(len(of)), values(*of)))
    assert found.warnings == (told,)
    assert any("255 is taken as void" in n for n in found.notes) == (of[-2:] == (9, 255))


def test_grey_ids_beside_palettes_are_one_encoding(tmp_path: Path) -> None:
    def write(ids: np.ndarray, path: Path) -> None:
        (values() if path.name.startswith("0001") else palette(VOC))(ids, path)

    found = diagnose(save(tmp_path, truths(21), write))
    assert found.refusal == ""
    assert found.form == 'class ids in palette and grey, table "voc"'


def test_thin_classes_are_no_blends(tmp_path: Path) -> None:
    """Lines one pixel wide, in colours that don't lie between others."""
    shades = np.array([(30, 30, 30), (250, 120, 0), (0, 90, 250), (90, 250, 90), (200, 0, 200)], np.uint8)

    def write(ids: np.ndarray, path: Path) -> None:
        lines = np.zeros_like(ids)
        for k in range(1, 5):
            lines[10 * k, :], lines[10 * k + 3, :] = k, k
        Image.fromarray(shades[lines]).save(path)

    found = diagnose(save(tmp_path, truths(2), write))
    assert "masks have 5 colours" in refused(found)
    assert found.proposal.count("[[classes]]") == 5


@pytest.mark.parametrize("count", [150, 255])
def test_a_great_many_flat_colours_are_no_smear(tmp_path: Path, count: int) -> None:
    shades = np.random.default_rng(0).permutation(1 << 24)[:count]

    def write(ids: np.ndarray, path: Path) -> None:
        cells = np.arange(count).reshape(-1, 15).repeat(5, axis=0).repeat(5, axis=1)
        Image.fromarray((shades[cells][..., None] >> np.array([0, 8, 16]) & 255).astype(np.uint8)).save(path)

    cells = [np.zeros((count // 3, 75), np.uint8)] * 3
    found = diagnose(save(tmp_path, cells, write, val=1))
    assert f"masks have {count} colours" in refused(found)
    assert found.proposal.count("[[classes]]") == (150 if count == 150 else 0)


def refused(found: Diagnosis) -> str:
    assert found.decoder is None
    assert found.errors[0] == found.refusal
    assert "\n" not in found.refusal
    return found.refusal


def test_colours_of_two_tables_are_refused_with_what_to_write(tmp_path: Path) -> None:
    pairs = save(tmp_path, truths(7), colours("course"))
    found = diagnose(pairs)
    text = refused(found)
    assert text == (
        'masks fit the tables "course" and "deepglobe" ("unknown" is trained in course but ignored in deepglobe); '
        'write data.classes = "course" or data.classes = "deepglobe"'
    )
    assert found.candidates == ("course", "deepglobe")
    with pytest.raises(UserError, match=r"write data\.classes = "):
        resolve(pairs)


def test_ids_of_camvid_are_refused_for_its_void(tmp_path: Path) -> None:
    found = diagnose(save(tmp_path, truths(12), values()))
    assert 'those of table "camvid" do ("camvid" ignores 11); write data.classes = "camvid", or else' in refused(found)
    assert "--write-classes" in found.refusal
    assert found.candidates == ("camvid",)
    assert found.proposal.count("[[classes]]") == 12


def test_ids_that_a_table_names_without_ignoring_any_are_taken(tmp_path: Path) -> None:
    found = diagnose(save(tmp_path, truths(11), values()))
    assert found.decoder is not None
    assert any('of table "camvid" too' in n for n in found.notes)


def test_labelling_tools_paint_other_classes_in_vocs_palette(tmp_path: Path) -> None:
    found = diagnose(save(tmp_path, truths(4), palette(VOC)))
    assert 'table "voc", but few of its classes are here' in refused(found)
    assert found.proposal.count("[[classes]]") == 4


def test_unknown_colours_are_refused_until_they_are_written(tmp_path: Path) -> None:
    shades = np.array([(10, 20, 30), (200, 10, 10), (10, 200, 10)], np.uint8)
    ids = truths(3)
    pairs = save(tmp_path, ids, lambda t, path: Image.fromarray(shades[t]).save(path))
    found = diagnose(pairs)
    assert "masks have 3 colours, which are no shipped table's: " in refused(found)
    assert f"octavo check {tmp_path.as_posix()} --write-classes {tmp_path.as_posix()}/classes.toml" in found.refusal
    share = np.bincount(np.concatenate([t.ravel() for t in ids])) / (6 * WIDTH * HEIGHT)
    for colour, part in zip(shades.tolist(), share, strict=True):
        assert f"{','.join(map(str, colour))} ({part:.1%})" in found.refusal
        assert f"# {part:.2%} of the pixels" in found.proposal
    (tmp_path / "classes.toml").write_text(found.proposal)
    again = diagnose(pairs)
    assert (again.refusal, again.errors) == ("", ())
    assert f"classes are those of {tmp_path / 'classes.toml'}" in again.notes
    assert again.decoder is not None
    order = np.argsort(-share, kind="stable")
    for index, truth in enumerate(ids):
        channels = again.decoder.decode(pairs.mask_path(index))[..., 0]
        np.testing.assert_array_equal(order[channels], truth)


def test_a_colour_in_no_table_is_refused_by_name_count_and_file(tmp_path: Path) -> None:
    def write(ids: np.ndarray, path: Path) -> None:
        picture = paint(ids, load_table("course"))
        if path.name in ("0001_mask.png", "0003_mask.png"):
            picture[10:20, 5:25] = (255, 0, 0)
        Image.fromarray(picture).save(path)

    pairs = save(tmp_path, truths(7), write)
    expected = (
        'colour 255,0,0 is in no class of table "deepglobe": 400 pixels in 2 masks (train/0001_mask.png, '
        "train/0003_mask.png)"
    )
    assert diagnose(pairs, "deepglobe").errors == (expected,)
    unnamed = diagnose(pairs)
    assert 'fit the tables "course" and "deepglobe"' in unnamed.refusal
    assert unnamed.errors[1] == expected.replace('table "deepglobe"', 'tables "course" and "deepglobe"')


def test_a_value_in_no_class_is_refused(tmp_path: Path) -> None:
    ids = truths(11)
    ids[2][:3, :4] = 77
    (error,) = diagnose(save(tmp_path, ids, values()), "camvid").errors
    assert error == 'value 77 is in no class of table "camvid": 12 pixels in train/0002_mask.png'


def jpeg(table: str) -> Writer:
    return colours(table, quality=90)


def blues(count: int = 6) -> list[np.ndarray]:
    """Cyan, magenta and blue of the land-cover tables: whatever they blend to, rounded, is in the tables too."""
    return [np.array([0, 2, 4], np.uint8)[t] for t in truths(3, count, 3)]


def test_jpeg_smears_are_mended_by_tolerance(tmp_path: Path) -> None:
    ids = blues()
    pairs = save(tmp_path, ids, jpeg("course"), ".jpg")
    text = refused(diagnose(pairs, "course"))
    assert "smeared as JPEG leaves them; data.tolerant = true takes each channel as 0 or 255" in text
    assert "train/0000_mask.jpg" in text
    found = diagnose(pairs, "course", tolerant=True)
    assert found.decoder is not None
    for index, truth in enumerate(ids):
        channels = found.decoder.decode(pairs.mask_path(index))[..., 0]
        assert np.mean(channels == truth) > 0.97


def test_jpeg_smears_of_no_named_table_are_told(tmp_path: Path) -> None:
    text = refused(diagnose(save(tmp_path, blues(), jpeg("course"), ".jpg")))
    assert "smeared as JPEG leaves them; write data.tolerant = true and data.classes = " in text


def test_what_tolerance_would_leave_is_said(tmp_path: Path) -> None:
    """Yellow and magenta blend to a red, which is in no table."""
    pairs = save(tmp_path, truths(3, scale=3), jpeg("course"), ".jpg")
    for text in (refused(diagnose(pairs)), refused(diagnose(pairs, "course"))):
        assert "data.tolerant = true" in text
        assert "leaves" in text
        assert "255,0,0" in text
        assert "save the masks as PNG from their source" in text
    decoder = MaskDecoder(load_table("course"), "colours", tolerant=True)
    red = 0
    for index in range(6):
        with Image.open(pairs.mask_path(index)) as image:
            red += np.count_nonzero(((np.asarray(image) >= 128) == (True, False, False)).all(axis=2))
    assert f"255,0,0 ({red} pixels)" in refused(diagnose(pairs, "course"))
    assert decoder.table.name in diagnose(pairs, "course", tolerant=True).errors[0]


def test_jpeg_saved_again_as_png_is_told_from_a_smoothed_edge(tmp_path: Path) -> None:
    def again(ids: np.ndarray, path: Path) -> None:
        jpeg("course")(ids, path.with_suffix(".jpg"))
        Image.open(path.with_suffix(".jpg")).save(path)

    assert "as JPEG leaves them" in refused(diagnose(save(tmp_path / "a", blues(), again), "course"))
    text = refused(diagnose(save(tmp_path / "b", blues(), smoothed("course")), "course"))
    assert "blended along edges" in text
    assert "a blend may come out as a third" in text


def test_smears_of_colours_that_tolerance_would_confuse_are_to_be_saved_anew(tmp_path: Path) -> None:
    pairs = save(tmp_path, truths(5, scale=4), jpeg("camvid"), ".jpg")
    assert "save the masks as PNG from their source" in refused(diagnose(pairs, "camvid"))
    assert "save the masks as PNG from their source" in refused(diagnose(pairs))
    with pytest.raises(UserError, match=r'data.tolerant: .* colours of table "camvid" use others'):
        diagnose(pairs, "camvid", tolerant=True)


@pytest.mark.parametrize("write", [values(0, 255, quality=85), smoothed_binary])
def test_smeared_binary_masks(tmp_path: Path, write: Writer) -> None:
    ids = truths(2)
    pairs = save(tmp_path, ids, write, ".jpg" if write is not smoothed_binary else ".png")
    found = diagnose(pairs)
    assert "values between 0 and 255" in refused(found)
    assert "write data.tolerant = true" in found.refusal
    decoder = resolve(pairs, tolerant=True)
    assert decoder.tolerant
    for index, truth in enumerate(ids):
        assert np.mean(decoder.decode(pairs.mask_path(index))[..., 0] == truth) > 0.97


def test_ids_in_jpeg_are_refused(tmp_path: Path) -> None:
    pairs = save(tmp_path, truths(4), values(quality=95), ".jpg")
    assert "JPEG changes class ids" in refused(diagnose(pairs))


def test_tolerance_is_refused_where_it_would_join_ids(tmp_path: Path) -> None:
    text = refused(diagnose(save(tmp_path, truths(4), values()), tolerant=True))
    assert "data.tolerant: masks hold the values 0–3" in text


def test_photographs_are_told(tmp_path: Path) -> None:
    def noise(ids: np.ndarray, path: Path) -> None:
        rng = np.random.default_rng(len(path.name))
        Image.fromarray(rng.integers(0, 256, (*ids.shape, 3), np.uint8)).save(path)

    pairs = save(tmp_path / "all", truths(3), noise)
    assert "train/0000_mask.png: looks like a photograph" in refused(diagnose(pairs))

    def some(ids: np.ndarray, path: Path) -> None:
        (noise if path.name.startswith("0002") else colours("camvid"))(ids, path)

    found = diagnose(save(tmp_path / "one", truths(11), some))
    assert [e for e in found.errors if e.startswith("train/0002_mask.png: looks like a photograph, not like a mask (")]


def test_sizes_that_differ_are_errors_with_file_names(tmp_path: Path) -> None:
    def write(ids: np.ndarray, path: Path) -> None:
        values()(
            ids[:40, :50] if path.name.startswith("0001") else ids.T if path.name.startswith("0004") else ids, path
        )

    assert diagnose(save(tmp_path, truths(4), write)).errors == (
        "train/0001_mask.png: 50×40, but its image train/0001_sat.jpg is 96×80",
        "val/0004_mask.png: 80×96, but its image val/0004_sat.jpg is 96×80; one of them is turned by 90°",
    )


def test_turned_by_exif_alike_is_no_error(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    ids = truths(4)
    pairs = save(tmp_path, ids, values(exif=exif))
    for index in range(len(ids)):
        Image.new("RGB", (WIDTH, HEIGHT)).save(pairs.path(index), exif=exif)
    found = diagnose(pairs)
    assert found.errors == ()
    assert found.decoder is not None
    np.testing.assert_array_equal(found.decoder.decode(pairs.mask_path(0))[..., 0], np.rot90(ids[0], -1))


def test_mixed_encodings_are_errors(tmp_path: Path) -> None:
    def write(ids: np.ndarray, path: Path) -> None:
        (values() if path.name.startswith("0000") else colours("camvid"))(ids, path)

    found = diagnose(save(tmp_path, truths(11), write), "camvid")
    assert any("0000_mask.png" in e for e in found.errors)


def test_classes_that_a_split_lacks(tmp_path: Path) -> None:
    ids = truths(4)
    for i in (4, 5):
        ids[i][ids[i] == 2] = 0
    found = diagnose(save(tmp_path, ids, values()))
    assert 'val has no pixel of 1 of 4 classes: "class 2"; they have no IoU there' in found.warnings
    assert not any(w.startswith("train") for w in found.warnings)


def test_masks_of_one_class_and_of_none(tmp_path: Path) -> None:
    ids = truths(4)
    ids[0][:], ids[1][:], ids[5][:] = 3, 3, 255
    found = diagnose(save(tmp_path, ids, values()))
    assert '2 of 6 masks are of one class alone, 2 of them of "class 3"' in found.notes
    assert "1 mask without a pixel of any class, from which nothing is learnt: val/0005_mask.png" in found.warnings


@pytest.mark.parametrize(("write", "only"), [(values(5), "value 5"), (colours("camvid"), "colour 128,128,128")])
def test_masks_that_all_are_of_one_class_are_refused(tmp_path: Path, write: Writer, only: str) -> None:
    pairs = save(tmp_path, [np.zeros((20, 30), np.uint8)] * 3, write, val=1)
    assert "there is nothing to learn" in refused(diagnose(pairs))


def test_broken_masks_are_listed(tmp_path: Path) -> None:
    pairs = save(tmp_path, truths(4), values())
    pairs.mask_path(1).write_text("text")
    found = diagnose(pairs)
    assert found.broken == (("train/0001_mask.png", "not a JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or PPM image"),)
    assert found.decoder is not None
    for index in range(6):
        pairs.mask_path(index).write_text("text")
    assert "not one mask can be read (train/0000_mask.png: not a JPEG" in refused(diagnose(pairs))


def test_a_table_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    pairs = save(tmp_path, truths(11), colours("camvid"))
    text = refused(diagnose(pairs, "deepglobe"))
    assert text == (
        'table "deepglobe" doesn\'t fit: 0.0% of the pixels are in its classes; the masks are colours in RGB, table '
        '"camvid"'
    )


def test_a_sample_is_taken_evenly(tmp_path: Path) -> None:
    pairs = save(tmp_path, truths(4, count=11), values())
    said: list[tuple[int, int]] = []
    found = diagnose(pairs, limit=3, progress=lambda what, done, total, note="": said.append((done, total)))
    assert found.looked == 3
    assert said[-1] == (3, 3)
    chosen = [regions(4, seed) for seed in (0, 5)]  # the third is of val
    np.testing.assert_array_equal(found.counts["train"], np.bincount(np.concatenate([t.ravel() for t in chosen])))


def test_rare_ids_count_though_no_sample_holds_them(tmp_path: Path) -> None:
    ids = truths(3, count=90)
    ids[1][:9, :9] = 3
    assert resolve(save(tmp_path, ids, values())).table.names == ("class 0", "class 1", "class 2", "class 3")


def test_a_table_can_be_given_as_such(tmp_path: Path) -> None:
    entries = tuple(ClassEntry(f"c{k}", k, (k, k, 9)) for k in range(4))
    pairs = save(tmp_path, truths(4), values())
    assert resolve(pairs, ClassTable("mine", entries)).table.name == "mine"


def test_proposals_are_tables_that_load(tmp_path: Path) -> None:
    found = diagnose(save(tmp_path, truths(4), values(0, 1, 2, 255)))
    (tmp_path / "t.toml").write_text(found.proposal)
    table = load_table(tmp_path / "t.toml")
    assert [e.value for e in table.trained] == [0, 1, 2]
    assert found.decoder is not None
    assert table.entries == found.decoder.table.entries
    assert dumps(table) != found.proposal  # that one says how many pixels each has


@pytest.mark.skipif(not (SHARED / "deepglobe13").is_dir(), reason="needs ../shared/data")
def test_real_deepglobe() -> None:
    root = SHARED / "deepglobe13"
    files = [f.relative_to(root).as_posix() for s in ("train", "validation") for f in sorted((root / s).glob("*.jpg"))]
    masks = tuple(f.replace("_sat.jpg", "_mask.png") for f in files)
    val = np.array([f.startswith("val") for f in files])
    pairs: Any = Folder(str(root), tuple(files), masks, {"train": np.flatnonzero(~val), "val": np.flatnonzero(val)})
    assert '"course" and "deepglobe"' in refused(diagnose(pairs))
    found = diagnose(pairs, "course")
    assert (found.errors, found.refusal) == ((), "")
    share = {s: c / c.sum() for s, c in found.counts.items()}
    # The shares that the data's README gives, to three digits.
    np.testing.assert_allclose(share["train"], [0.267, 0.222, 0.199, 0.088, 0.179, 0.045, 0], atol=6e-4)
    np.testing.assert_allclose(share["val"], [0.128, 0.206, 0.226, 0.069, 0.235, 0.114, 0.023], atol=6e-4)


@pytest.mark.skipif(not (SHARED / "camvid").is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("source", ["camvid/train", "deepglobe13/train"])
def test_real_photographs_are_told(tmp_path: Path, source: str, mode: str) -> None:
    photographs = sorted((SHARED / source).glob("*.jpg"))[::50]

    def write(ids: np.ndarray, path: Path) -> None:
        with Image.open(photographs[int(ids[0, 0])]) as image:
            image.convert(mode).save(path)

    ids = [np.full((9, 9), k, np.uint8) for k in range(len(photographs))]
    found = diagnose(save(tmp_path, ids, write))
    assert "looks like a photograph" in refused(found)


@pytest.mark.skipif(not (SHARED / "camvid").is_dir(), reason="needs ../shared/data")
def test_real_camvid() -> None:
    root = SHARED / "camvid"
    masks = [f.relative_to(root).as_posix() for s in ("train", "val") for f in sorted((root / f"{s}annot").iterdir())]
    files = tuple(m.replace("annot/", "/").replace(".png", ".jpg") for m in masks)
    val = np.array([f.startswith("val") for f in files])
    pairs: Any = Folder(str(root), files, tuple(masks), {"train": np.flatnonzero(~val), "val": np.flatnonzero(val)})
    assert 'write data.classes = "camvid"' in refused(diagnose(pairs))
    found = diagnose(pairs, "camvid")
    assert (found.errors, found.broken) == ((), ())
    # The counts that the data's README gives.
    assert found.counts["train"].tolist() == [
        10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967
    ]  # fmt: skip
    assert found.counts["val"].tolist() == [
        1601620, 4531180, 98499, 5053176, 1521751, 2851125, 155724, 537197, 304716, 113531, 387010
    ]  # fmt: skip
    assert found.ignored == {"train": 2503995, "val": 297271}
