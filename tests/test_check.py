"""What `check` says of folders with known faults, and of sound ones."""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from octavo.data.pixels import BrokenImage, decode, probe
from octavo.errors import UserError
from octavo.tasks.classification.check import CheckReport, check, render

SHARED = Path(__file__).parents[2] / "shared" / "data" / "tinyimagenet50"


def picture(path: Path, seed: int, width: int = 20, height: int = 16, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(array).save(path, **options)  # pyright: ignore[reportArgumentType]
    return path


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    seed = 0
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            for index in range(count):
                seed += 1
                picture(root / split / name / f"{index}.png", seed, 20 + index)
    return root


def shown(report: CheckReport) -> str:
    file = io.StringIO()
    render(report, Console(file=file, width=200))
    return file.getvalue()


def test_a_sound_folder(sound: Path) -> None:
    said: list[tuple[int, int]] = []
    report = check(sound, progress=lambda what, done, total, note="": said.append((done, total)))
    assert report.ok
    assert (report.layout, report.own_split, report.images) == ("split-folders", True, 12)
    assert report.classes == ("cat", "dog")
    assert report.counts == {"train": (4, 4), "val": (2, 2)}
    assert report.sizes is not None
    assert (report.sizes.smallest, report.sizes.largest) == ((20, 16), (23, 16))
    assert report.sizes.median == (21, 16)
    assert set(report.sizes.common) == {(20, 16, 4), (21, 16, 4), (22, 16, 2), (23, 16, 2)}
    assert (report.formats, report.modes) == ({"PNG": 12}, {"RGB": 12})
    assert not (report.errors or report.warnings or report.broken or report.suspicious or report.duplicates)
    assert said[-1] == (12, 12)
    assert CheckReport.model_validate_json(report.model_dump_json()) == report


def test_broken_files_are_listed_by_name(sound: Path) -> None:
    path = sound / "val" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:100])
    (sound / "train" / "cat" / "empty.jpg").touch()
    report = check(sound)
    assert not report.ok
    with pytest.raises(BrokenImage) as caught:
        decode(path)
    assert {f.file: f.reason for f in report.broken} == {
        "val/dog/1.png": str(caught.value),
        "train/cat/empty.jpg": "empty file",
    }
    assert "train/cat/empty.jpg: empty file" in shown(report)
    assert "not ready" in shown(report)


def test_suspicious_files(sound: Path) -> None:
    folder = sound / "train" / "cat"
    picture(folder / "tiny.png", 90, 7, 9)
    picture(folder / "long.png", 91, 201, 20)
    picture(folder / "not_long.png", 92, 200, 20)
    Image.new("RGB", (20, 20), (1, 2, 3)).save(folder / "plain.png")
    shutil.copy(picture(sound.parent / "x.jpg", 93), folder / "named.png")
    Image.new("1", (7001, 7200)).save(folder / "huge.png")
    report = check(sound)
    assert {f.file.rsplit("/")[-1]: f.reason for f in report.suspicious} == {
        "tiny.png": "tiny: 7×9",
        "long.png": "extreme aspect ratio: 201×20",
        "plain.png": "one colour only: 1,2,3",
        "named.png": "named .png, but is JPEG",
        "huge.png": "huge: 7001×7200; one colour only: 0,0,0",
    }
    assert report.ok
    assert (report.modes["1"], report.formats["JPEG"]) == (1, 1)


def test_duplicates_by_bytes_and_by_pixels(sound: Path) -> None:
    shutil.copy(sound / "train/cat/0.png", sound / "train/cat/copy.png")
    shutil.copy(sound / "train/cat/1.png", sound / "train/dog/copy.png")
    with Image.open(sound / "train/cat/2.png") as image:
        image.save(sound / "val/cat/copy.bmp")
    report = check(sound)
    found = [(set(d.files), d.leak, d.contradictory, d.same_bytes) for d in report.duplicates]
    assert found == [
        ({"train/cat/2.png", "val/cat/copy.bmp"}, True, False, False),
        ({"train/cat/1.png", "train/dog/copy.png"}, False, True, True),
        ({"train/cat/0.png", "train/cat/copy.png"}, False, False, True),
    ]
    assert dict(zip(report.duplicates[0].files, report.duplicates[0].splits, strict=True)) == {
        "train/cat/2.png": "train", "val/cat/copy.bmp": "val"
    }  # fmt: skip
    text = shown(report)
    assert "two splits: the score is flattered: 1" in text
    assert "train/cat/2.png (train, cat) = val/cat/copy.bmp (val, cat): same pixels" in text
    assert "same image under two classes: 1" in text


def test_near_duplicates_are_none(sound: Path) -> None:
    with Image.open(sound / "train/cat/2.png") as image:
        array = np.array(image)
    array[0, 0, 0] ^= 1
    Image.fromarray(array).save(sound / "val/cat/near.png")
    assert not check(sound).duplicates


def test_problems_of_the_folder_are_listed_and_not_raised(sound: Path) -> None:
    picture(sound / "val" / "bird" / "1.png", 99)
    shutil.rmtree(sound / "val" / "dog")
    report = check(sound)
    assert not report.ok
    assert any('val has class "bird"' in e for e in report.errors)
    assert any("no image of 1 of 2 classes" in w for w in report.warnings)
    assert report.counts == {"train": (4, 4), "val": (2, 0)}
    assert 'val has class "bird"' in shown(report)


def test_imbalance(sound: Path) -> None:
    for index in range(36):
        picture(sound / "train" / "cat" / f"more{index}.png", 200 + index)
    (warning,) = check(sound).warnings
    assert '40 training images of "cat", 4 of "dog"' in warning
    (sound / "train" / "cat" / "more0.png").unlink()
    assert not check(sound).warnings


def test_what_cannot_be_told_is_raised(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        check(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images found"):
        check(tmp_path / "empty")


def test_all_broken(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_text("text")
    report = check(tmp_path)
    assert report.sizes is None
    assert len(report.broken) == 2
    assert "not ready" in shown(report)


def test_odd_names_are_shown_as_they_are(tmp_path: Path) -> None:
    for name in ("[red]x", "two\nlines", "ünï"):
        picture(tmp_path / name / "[bold].png", hash(name) % 1000)
    Image.new("RGB", (9, 9)).save(tmp_path / "two\nlines" / "[b].png")
    text = shown(check(tmp_path))
    assert "[red]x" in text
    assert "two\\nlines/[b].png: one colour only" in text


def test_long_lists_are_cut(tmp_path: Path) -> None:
    for index in range(14):
        path = tmp_path / f"class{index % 2}" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_text("text")
    text = shown(check(tmp_path))
    assert "broken files: 14" in text
    assert "… and 4 more" in text


def test_sizes_are_upright(sound: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = picture(sound / "train" / "cat" / "phone.jpg", 7, 60, 40, exif=exif)
    assert (probe(path).width, probe(path).height) == (40, 60)
    report = check(sound)
    assert report.sizes is not None
    assert report.sizes.largest == (40, 60)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_files_are_closed(sound: Path) -> None:
    check(sound)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    check(sound)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/tinyimagenet50")
def test_real_images_in_the_references_form(tmp_path: Path) -> None:
    """4,000 real images of 50 classes: counts are right, and a copy that lies in two classes is found."""
    for split, columns, count in (("train", 25, 60), ("val", 10, 20)):
        (tmp_path / f"{split}_50").mkdir()
        for number, sheet in enumerate(sorted((SHARED / split).iterdir())):
            tiles = np.asarray(Image.open(sheet).convert("RGB")).reshape(-1, 32, columns, 32, 3)
            for index, tile in enumerate(tiles.transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)[:count]):
                Image.fromarray(tile).save(tmp_path / f"{split}_50" / f"{number}_{index}.png", compress_level=1)
    shutil.copy(tmp_path / "train_50" / "3_7.png", tmp_path / "train_50" / "11_60.png")
    report = check(tmp_path)
    assert report.counts == {"train": (60,) * 11 + (61,) + (60,) * 38, "val": (20,) * 50}
    assert {"train_50/3_7.png", "train_50/11_60.png"} in [set(d.files) for d in report.duplicates]
    for duplicates in report.duplicates:
        first, *rest = (decode(tmp_path / f) for f in duplicates.files)
        assert rest and all((first == other).all() for other in rest)
