"""Two thousand damaged copies of images in all formats and modes: each is decoded or refused, no more."""

from __future__ import annotations

import faulthandler
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from octavo.data.formats import FORMATS
from octavo.data.pixels import BrokenImage, decode, probe
from octavo.data.readers import list_images, read
from octavo.data.store import ImageDecoder, build
from octavo.tasks.classification.check import check
from octavo.tasks.classification.predictor import ClassPredictor

if TYPE_CHECKING:
    from octavo.engine.folder import RunFolder

COUNT = 2000
MODES = {
    "JPEG": ("RGB", "L", "CMYK", "progressive", "exif", "MPO"),
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "transparency", "exif", "animated"),
    "WEBP": ("RGB", "RGBA", "lossless", "exif", "animated"),
    "BMP": ("RGB", "L", "P", "1", "RGBA"),
    "TIFF": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "I", "F", "CMYK", "LAB", "YCbCr", "tiff_lzw",
             "tiff_adobe_deflate", "jpeg", "group4", "packbits", "animated", "exif"),
    "GIF": ("RGB", "L", "P", "1", "animated", "transparency"),
    "AVIF": ("RGB", "RGBA", "L", "exif", "animated"),
    "PPM": ("RGB", "L", "1", "I"),
}  # fmt: skip


def smooth(seed: int) -> np.ndarray:
    """Something between noise and a photograph, so that every coder has work to do."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((40, 30), Image.Resampling.BICUBIC)
    return (np.asarray(coarse).astype(int) + rng.integers(-9, 10, (30, 40, 3))).clip(0, 255).astype(np.uint8)


def original(form: str, mode: str) -> bytes:
    image = Image.fromarray(smooth(len(mode)))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker" * 9, 72.0
    frames = [Image.fromarray(smooth(i)) for i in (7, 8)]
    options: dict[str, dict[str, object]] = {
        "progressive": {"progressive": True}, "exif": {"exif": exif}, "lossless": {"lossless": True},
        "animated": {"save_all": True, "append_images": frames}, "MPO": {"save_all": True, "append_images": frames},
        "YCbCr": {"compression": "tiff_lzw"},
    }  # fmt: skip
    if mode == "transparency":
        image, chosen = image.convert("P"), {"transparency": 3}
    elif form == "TIFF" and mode in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "group4", "packbits"):
        image, chosen = image.convert("1" if mode == "group4" else "RGB"), {"compression": mode}
    elif mode == "I;16":
        image, chosen = Image.fromarray(smooth(1)[..., 0].astype(np.uint16) * 257), {}
    elif mode in ("I", "F"):
        grey = smooth(1)[..., 0]
        image, chosen = Image.fromarray(grey * np.int32(257) if mode == "I" else grey / np.float32(255)), {}
    elif mode == "LAB":
        image, chosen = Image.frombytes("LAB", image.size, image.tobytes()), {}
    else:
        image, chosen = (image if mode in options and mode != "YCbCr" else image.convert(mode)), options.get(mode, {})
    file = io.BytesIO()
    image.save(file, "MPO" if mode == "MPO" else form, **chosen)
    return file.getvalue()


ORIGINALS = [(form, mode) for form, modes in MODES.items() for mode in modes]


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one to three ways: flipped bits and bytes, cuts, zeros, pieces moved or taken from elsewhere."""
    array = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        size = len(array)
        if size < 4:
            break
        start = int(rng.integers(0, size if rng.random() < 0.5 else min(size, 200)))  # headers are worth more
        length = int(rng.integers(1, max(2, min(size - start, 64) + 1)))
        match int(rng.integers(0, 8)):
            case 0:
                array[start] ^= 1 << int(rng.integers(0, 8))
            case 1:
                for place in rng.integers(0, size, int(rng.integers(1, 20))):
                    array[int(place)] = int(rng.integers(0, 256))
            case 2:
                del array[max(1, start) :]
            case 3:
                array[start : start + length] = bytes(length)
            case 4:
                array[start : start + length] = b"\xff" * length
            case 5:
                from_ = int(rng.integers(0, len(other)))
                array[start : start + length] = other[from_ : from_ + length]
            case 6:
                del array[start : start + length]
            case 7:
                array[start:start] = array[start : start + length]
    return bytes(array)


def copies() -> Iterator[tuple[str, bytes]]:
    sources = [(f"{form}_{mode}".replace(";", ""), original(form, mode)) for form, mode in ORIGINALS]
    rng = np.random.default_rng(2021)
    for number in range(COUNT):
        name, data = sources[number % len(sources)]
        other = sources[int(rng.integers(0, len(sources)))][1]
        yield f"{name}_{number}", mutated(data, other, rng)


@pytest.mark.parametrize("form, mode", ORIGINALS)
def test_originals_are_sound(form: str, mode: str) -> None:
    image = decode(io.BytesIO(original(form, mode)))
    assert image.shape == ((40, 30, 3) if mode == "exif" else (30, 40, 3))
    assert len(np.unique(image)) > (1 if mode in ("1", "group4") else 5)


def test_all_formats_take_part() -> None:
    assert set(MODES) == set(FORMATS)
    assert len(list(copies())) == COUNT


@pytest.mark.timeout(120)
@pytest.mark.parametrize("side", [None, 16])
def test_damaged_copies_are_decoded_or_refused(side: int | None) -> None:
    faulthandler.enable()
    whole = 0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for name, data in copies():
            try:
                image = decode(io.BytesIO(data), side=side, max_pixels=4_000_000)
            except BrokenImage as error:
                assert str(error), name
                assert len(str(error)) <= 200, name
                assert "\n" not in str(error), name
            else:
                whole += 1
                assert image.dtype == np.uint8, name
                assert image.ndim == 3, name
                assert image.shape[2] == 3, name
                assert min(image.shape) > 0, name
                assert side is None or min(image.shape[:2]) <= side, name
    assert not said, [str(w.message) for w in said]
    assert COUNT * 0.1 < whole < COUNT * 0.9, "the damage is too heavy or too light to show anything"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All damaged copies as files, in the folders of two classes."""
    ending = {
        "JPEG": "jpg",
        "PNG": "png",
        "WEBP": "webp",
        "BMP": "bmp",
        "TIFF": "tif",
        "GIF": "gif",
        "AVIF": "avif",
        "PPM": "ppm",
    }
    folder = tmp_path_factory.mktemp("damaged")
    for label in "ab":
        (folder / label).mkdir()
    for number, (name, data) in enumerate(copies()):
        (folder / "ab"[number % 2] / f"{name}.{ending[name.split('_')[0]]}").write_bytes(data)
    return folder


@pytest.mark.timeout(120)
def test_damaged_files_go_through_check_list_and_store(damaged: Path, tmp_path: Path) -> None:
    samples = read(damaged)
    assert len(samples.files) == len(list_images([damaged])) == COUNT
    pixels = build(samples, ImageDecoder(16), tmp_path / "cache", skip_broken=True)
    refused = set()
    for index in range(COUNT):
        try:
            decode(samples.path(index))
        except BrokenImage:
            refused.add(index)
    assert set(pixels.broken) == refused
    good = np.setdiff1d(np.arange(COUNT), sorted(refused))
    for part in np.array_split(good, 20):
        batch, sizes = pixels.batch(part)
        assert len(batch) == len(part)
        assert (sizes > 0).all()
    report = check(damaged)
    assert {f.file for f in report.broken} == {samples.files[i] for i in refused}
    assert not report.ok


@pytest.mark.timeout(120)
def test_damaged_files_go_through_prediction(damaged: Path, trained: RunFolder, tmp_path: Path) -> None:
    found = ClassPredictor(trained, "cpu", member="squeeze").predict([damaged])
    everything = {path.relative_to(damaged).as_posix() for path in damaged.rglob("*.*")}
    assert len(everything) == len(found.files) + len(found.errors) == COUNT
    assert {*found.files, *found.errors} == everything
    for file, reason in found.errors.items():
        with pytest.raises(BrokenImage):
            decode(damaged / file)
        assert reason, file
    assert COUNT * 0.1 < len(found.files) < COUNT * 0.9
    assert len(found.ids) == len(found.files)
    assert np.isfinite(found.probabilities).all()
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    found.write(tmp_path / "out.csv")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == len(found.files) + 1


def test_headers_of_damaged_files() -> None:
    for _, data in copies():
        try:
            header = probe(io.BytesIO(data))
        except BrokenImage:
            continue
        assert header.format in FORMATS
        assert min(header.width, header.height) > 0
