"""One loaded predictor for every kind of image and from every thread: the numbers of files, bit for bit."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import octavo
from octavo.data.memory_images import decode_in_memory
from octavo.data.pixels import decode
from octavo.engine.folder import RunFolder
from octavo.engine.gradcam import gradcam
from octavo.engine.restore import restore
from octavo.errors import UserError
from octavo.inference.images import Images
from octavo.tasks.classification.predictor import ClassPredictor
from octavo.tasks.segmentation.predictor import MaskPredictor

DRAW = np.random.default_rng(0)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    coarse = Image.fromarray(DRAW.integers(0, 256, (6, 7, channels), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR))


def turned_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def deep() -> Image.Image:
    return Image.fromarray(DRAW.integers(0, 65536, (40, 30)).astype(np.uint16))


FILES: dict[str, Callable[[Path], None]] = {
    "rgb.png": lambda path: Image.fromarray(noise(40, 31)).save(path),
    "grey.png": lambda path: Image.fromarray(noise(40, 31)).convert("L").save(path),
    "bits.png": lambda path: Image.fromarray(noise(40, 31)).convert("1").save(path),
    "palette.png": lambda path: Image.fromarray(noise(40, 31)).quantize(9).save(path, transparency=3),
    "alpha.png": lambda path: Image.fromarray(noise(40, 31, 4)).save(path),
    "grey-alpha.png": lambda path: Image.fromarray(noise(40, 31, 4)).convert("LA").save(path),
    "deep.png": lambda path: deep().save(path),
    "deep.tif": lambda path: deep().save(path),
    "turned.jpg": lambda path: Image.fromarray(noise(40, 31)).save(path, exif=turned_exif()),
    "turned.png": lambda path: Image.fromarray(noise(40, 31)).save(path, exif=turned_exif()),
    "turned.tif": lambda path: Image.fromarray(noise(40, 31)).save(path, exif=turned_exif()),
    "turned.webp": lambda path: Image.fromarray(noise(40, 31)).save(path, exif=turned_exif(), lossless=True),
    "cmyk.jpg": lambda path: Image.fromarray(noise(40, 31)).convert("CMYK").save(path),
    "small.gif": lambda path: Image.fromarray(noise(3, 5)).save(path),
    "strip.png": lambda path: Image.fromarray(noise(400, 9)).save(path),
}
"""What a decoder must treat alike, however it comes: depth, palette, alpha, orientation."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name → file of each of `FILES`."""
    folder = tmp_path_factory.mktemp("files")
    for name, save in FILES.items():
        save(folder / name)
    return {name: folder / name for name in FILES}


@pytest.fixture(scope="module")
def classifier(trained: RunFolder) -> ClassPredictor:
    made = octavo.load(trained.path, "cpu").predictor()
    assert isinstance(made, ClassPredictor)
    return made


@pytest.fixture(scope="module")
def segmenter(segmented: RunFolder) -> MaskPredictor:
    made = octavo.load(segmented.path, "cpu").predictor()
    assert isinstance(made, MaskPredictor)
    return made


def in_memory(path: Path) -> Image.Image:
    """An image that Pillow hasn't loaded, of a file that is no open one."""
    return Image.open(io.BytesIO(path.read_bytes()))


def opened_and_loaded(path: Path) -> Image.Image:
    image = Image.open(path)
    image.load()
    return image


FORMS: dict[str, Callable[[Path], Images]] = {
    "str": str,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),  # pyright: ignore (is taken, but not promised)
    "Pillow, not loaded": Image.open,
    "Pillow, of bytes": in_memory,
    "Pillow, loaded": opened_and_loaded,
    "Pillow, a copy": lambda path: in_memory(path).copy(),
    "array": lambda path: decode(path),
}


def one(predictor: ClassPredictor | MaskPredictor, image: Images) -> np.ndarray:
    found = predictor.predict(image)
    assert not found.errors and len(found.files) == 1
    return found.masks[0] if not isinstance(predictor, ClassPredictor) else found.probabilities  # pyright: ignore


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_an_image_changes_no_bit(
    classifier: ClassPredictor, segmenter: MaskPredictor, files: dict[str, Path], form: str
) -> None:
    for name, path in files.items():
        for predictor in (classifier, segmenter):
            image = FORMS[form](path)
            np.testing.assert_array_equal(one(predictor, image), one(predictor, path), err_msg=f"{name} as {form}")
            if isinstance(image, Image.Image):
                image.close()


def test_a_large_jpeg_that_pillow_has_only_opened_is_decoded_as_its_file(
    classifier: ClassPredictor, tmp_path: Path
) -> None:
    Image.fromarray(noise(700, 900)).save(tmp_path / "a.jpg", exif=turned_exif())
    expected = classifier.predict(tmp_path / "a.jpg").probabilities  # reduced by the decoder of JPEG first
    with Image.open(tmp_path / "a.jpg") as image:
        np.testing.assert_array_equal(classifier.predict(image).probabilities, expected)
        assert image.size == (900, 700)  # the caller's image stays as it was
        image.load()
        whole, halved = decode_in_memory(image, side=32), decode(tmp_path / "a.jpg", side=32)
        assert whole.shape == halved.shape and np.abs(whole.astype(int) - halved).mean() < 3  # levels of 255


def test_pillow_images_that_were_changed_count_as_they_are(classifier: ClassPredictor, tmp_path: Path) -> None:
    first, second = Image.fromarray(noise(30, 30)), Image.fromarray(noise(30, 30))
    first.save(tmp_path / "two.tif", save_all=True, append_images=[second])
    with Image.open(tmp_path / "two.tif") as image:
        image.seek(1)
        np.testing.assert_array_equal(one(classifier, image), one(classifier, np.asarray(second)))
        image.seek(0)
        crop = image.crop((3, 3, 20, 25))
    np.testing.assert_array_equal(one(classifier, crop), one(classifier, np.asarray(crop)))


def test_predictor_says_what_the_run_says(
    trained: RunFolder, segmented: RunFolder, classifier: ClassPredictor, segmenter: MaskPredictor, digits_folder: Path
) -> None:
    run, folder = octavo.load(trained.path, "cpu"), digits_folder / "val_10"
    found, expected = classifier.predict(folder), run.predict(folder)
    assert found.files == expected.files and found.labels == expected.labels
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    np.testing.assert_array_equal(classifier.embed(folder, "vgg.head.0"), run.embed(folder, "vgg.head.0"))
    one_member = run.predictor("squeeze").predict(folder)
    np.testing.assert_array_equal(one_member.probabilities, run.predict(folder, member="squeeze").probabilities)  # pyright: ignore
    sets = run.predictor(coverage=0.9).predict(folder)
    np.testing.assert_array_equal(sets.sets, run.predict(folder, coverage=0.9).sets)  # pyright: ignore
    masks = octavo.load(segmented.path, "cpu").masks(folder)
    again = segmenter.predict(folder)
    assert [Path(path).name for path in masks] == list(again.files) and again.classes == segmenter.classes
    for mask, other in zip(masks.values(), again.masks, strict=True):
        np.testing.assert_array_equal(mask, other)


def test_images_of_every_kind_keep_their_order_and_have_names(
    classifier: ClassPredictor, segmenter: MaskPredictor, digits_folder: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for digit in (2, 1):
        shutil.copy(digits_folder / "val_10" / f"{digit}_16.png", folder)
    (folder / "notes.txt").write_text("no image")
    (folder / "9.png").touch()
    pixels, encoded = decode(files["rgb.png"]), files["grey.png"].read_bytes()
    given = [pixels, folder, encoded, files["alpha.png"], folder / "1_16.png", Image.fromarray(pixels), pixels]
    names = ("images[0]", "1_16.png", "2_16.png", "images[2]", "alpha.png", "images[5]", "images[6]")
    alone = [pixels, folder / "1_16.png", folder / "2_16.png", encoded, files["alpha.png"], pixels, pixels]
    for predictor in (classifier, segmenter):
        found = predictor.predict(iter(given))  # pyright: ignore (an iterator is taken, but not promised)
        assert found.files == names and found.errors == {"9.png": "empty file"}
        assert found.unread == "not read: 1 .txt"
        rows = found.masks if not isinstance(predictor, ClassPredictor) else found.probabilities  # pyright: ignore
        for row, image in zip(rows, alone, strict=True):
            np.testing.assert_allclose(row, one(predictor, image).reshape(row.shape), atol=1e-5)


BAD: dict[str, tuple[Any, str]] = {
    "float": (np.zeros((4, 5, 3)), r"images\[1\]: an array of float64 \[4,5,3\]; expected uint8 \[H,W,3\] .*255"),
    "16 bit": (np.zeros((4, 5), np.uint16), r"images\[1\]: an array of uint16 \[4,5\]; expected uint8"),
    "bool": (np.zeros((4, 5), bool), r"images\[1\]: an array of bool"),
    "channels first": (np.zeros((3, 9, 9), np.uint8), r"images\[1\]: .*array\.transpose\(1, 2, 0\)"),
    "a batch": (np.zeros((2, 9, 9, 3), np.uint8), r"images\[1\]: .*list\(array\)"),
    "alpha": (np.zeros((9, 9, 4), np.uint8), r"images\[1\]: .*Image\.fromarray\(array\)"),
    "one channel": (np.zeros((9, 9, 1), np.uint8), r"images\[1\]: .*array\[:, :, 0\]"),
    "a row": (np.zeros(9, np.uint8), r"images\[1\]: an array of uint8 \[9\]"),
    "no pixels": (np.zeros((0, 9, 3), np.uint8), r"images\[1\]: no pixels"),
    "a tensor": (torch.zeros(3, 4, 4), r"images\[1\]: a Tensor; expected a path"),
    "None": (None, r"images\[1\]: a NoneType; expected a path"),
    "no image": (b"nothing", r"images\[1\]: not a .* image"),
    "empty": (b"", r"images\[1\]: "),
    "another format": (b"%PDF-1.4 and so on", r"images\[1\]: "),
    "Pillow, float": (
        Image.fromarray(np.full((4, 4), 7, np.float32)),
        r"images\[1\]: floating-point values outside 0–1",
    ),
    "Pillow, empty": (Image.new("RGB", (0, 4)), r"images\[1\]: no pixels"),
    "nowhere": ("nowhere.png", "nowhere.png: no such file or folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_refused_by_its_place(
    classifier: ClassPredictor, segmenter: MaskPredictor, files: dict[str, Path], name: str
) -> None:
    bad, words = BAD[name]
    for predictor in (classifier, segmenter):
        with pytest.raises(UserError, match=words) as caught:
            predictor.predict([files["rgb.png"], bad])
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=words):
        classifier.embed([files["rgb.png"], bad], "vgg.head.0")
    with pytest.raises(UserError, match=words):
        classifier.gradcam([files["rgb.png"], bad], "squeeze")


def test_closed_and_cut_pillow_images_are_refused(classifier: ClassPredictor, files: dict[str, Path]) -> None:
    with Image.open(files["rgb.png"]) as closed:
        pass
    cut = Image.open(io.BytesIO(files["turned.jpg"].read_bytes()[:-200]))
    for image in (closed, cut):
        with pytest.raises(UserError, match=r"images\[0\]: "):
            classifier.predict(image)


def test_nothing_is_refused(classifier: ClassPredictor, segmenter: MaskPredictor, tmp_path: Path) -> None:
    for nothing in ([], tmp_path):
        for predictor in (classifier, segmenter):
            with pytest.raises(UserError, match="no images found"):
                predictor.predict(nothing)


def test_one_more_image_opens_no_file(
    trained: RunFolder, segmented: RunFolder, tmp_path: Path, files: dict[str, Path]
) -> None:
    opened: list[str] = []
    watching = False

    def note(event: str, args: tuple[Any, ...]) -> None:
        if watching and event == "open":
            opened.append(str(args[0]))

    sys.addaudithook(note)  # stays, and does nothing once the test is over
    pixels, encoded = decode(files["rgb.png"]), files["turned.jpg"].read_bytes()
    for source in (trained, segmented):
        shutil.copytree(source.path, tmp_path / source.path.parent.name)
        predictor = octavo.load(tmp_path / source.path.parent.name, "cpu").predictor()
        predictor.predict(pixels)
        if isinstance(predictor, ClassPredictor):
            predictor.embed(pixels, "vgg.head.0")
            predictor.gradcam(pixels, "squeeze")
        shutil.rmtree(tmp_path / source.path.parent.name)  # all that is needed is in memory
        watching = True
        for given in (pixels, encoded, Image.fromarray(pixels)):
            predictor.predict(given)
        if isinstance(predictor, ClassPredictor):
            predictor.embed(pixels, "vgg.head.0")
            predictor.gradcam(pixels, "squeeze")
        watching = False
    assert opened == []


def test_threads_get_what_one_gets(
    classifier: ClassPredictor, segmenter: MaskPredictor, files: dict[str, Path], digits_folder: Path
) -> None:
    shared = in_memory(files["turned.png"])  # one object that all threads load at once
    given: list[Images] = [decode(files["rgb.png"]), files["alpha.png"], files["turned.jpg"].read_bytes()]
    given += [shared, in_memory(files["palette.png"]), [files["grey.png"], decode(files["deep.png"])]]

    def work(place: int) -> list[np.ndarray]:
        image, mixed = given[place % len(given)], classifier.predict([digits_folder / "val_10" / "1_16.png", shared])
        found, masks = classifier.predict(image), segmenter.predict(image).masks
        heat = classifier.gradcam(image, "squeeze", found.ids.tolist())
        assert heat.maps is not None
        return [found.probabilities, mixed.probabilities, *masks, classifier.embed(image, "mobile.head"), heat.maps]

    serial = [work(place) for place in range(len(given))]
    shared = given[3] = in_memory(files["turned.png"])  # no thread has loaded it yet
    with ThreadPoolExecutor(8) as pool:
        for place, found in enumerate(pool.map(work, range(24))):
            for array, expected in zip(found, serial[place % len(given)], strict=True):
                np.testing.assert_array_equal(array, expected)


def test_gradcam_is_that_of_the_member_for_its_own_class(
    trained: RunFolder, classifier: ClassPredictor, digits_folder: Path
) -> None:
    paths = [digits_folder / "val_10" / f"{digit}_17.png" for digit in (3, 8)]
    own = octavo.load(trained.path, "cpu").predict(paths, member="squeeze").ids.tolist()
    expected = gradcam(restore(trained, "squeeze", torch.device("cpu")), [decode(path) for path in paths], own)
    found = classifier.gradcam([decode(paths[0]), in_memory(paths[1])], "squeeze")
    assert found.layer == expected.layer and found.maps is not None
    np.testing.assert_array_equal(found.maps, expected.maps)
    np.testing.assert_array_equal(found.seen, expected.seen)
    other = classifier.gradcam(paths, "squeeze", [9 - digit for digit in own])
    assert other.maps is not None and not np.array_equal(other.maps, found.maps)


MISTAKES: dict[str, Callable[[ClassPredictor, Path], object]] = {
    "targets: 1 class ids for 2 images": lambda p, path: p.gradcam([path, decode(path)], "vgg", [1]),
    "targets: 10; expected class ids from 0 to 9": lambda p, path: p.gradcam(path, "vgg", [10]),
    'member: unknown "vg"; did you mean "vgg"': lambda p, path: p.gradcam(path, "vg"),
    '"vg.head" names no member': lambda p, path: p.embed(path, "vg.head"),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_members_layers_and_targets_that_are_not_there(
    classifier: ClassPredictor, files: dict[str, Path], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        MISTAKES[words](classifier, files["rgb.png"])


def test_options_of_another_task_are_refused(trained: RunFolder, segmented: RunFolder) -> None:
    masks, labels = octavo.load(segmented.path, "cpu"), octavo.load(trained.path, "cpu")
    for options in ({"member": "x"}, {"coverage": 0.9}, {"sets": "aps"}, {"cascade": True}):
        with pytest.raises(UserError, match=f"^--{next(iter(options))}: means nothing for a segmenter's run"):
            masks.predictor(**options)
    for options in ({"flips": True}, {"scales": (0.5, 1)}):
        with pytest.raises(UserError, match=f"^--{next(iter(options))[:5]}: means nothing for a classifier's run"):
            labels.predictor(**options)


def test_views_of_segmenters_are_averaged(segmented: RunFolder, segmenter: MaskPredictor, tmp_path: Path) -> None:
    from octavo.tasks.segmentation.prediction import predict_masks

    pixels = noise(70, 90)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    averaged = octavo.load(segmented.path, "cpu").predictor(flips=True, scales=[0.5, 1.0]).predict(pixels)
    predict_masks(
        segmented, [tmp_path / "a.png"], tmp_path / "out", device="cpu", ids=True, flips=True, scales=(0.5, 1.0)
    )
    values = np.array([entry.value for entry in segmented.table.trained], np.uint8)
    np.testing.assert_array_equal(values[averaged.masks[0]], np.asarray(Image.open(tmp_path / "out" / "a.png")))  # pyright: ignore
