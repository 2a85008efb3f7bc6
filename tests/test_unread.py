"""Files among images that aren't read: counted by ending, named where they are images, never passed over."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from octavo.cli import app
from octavo.data.pairs import read_pairs
from octavo.data.readers import list_images, read
from octavo.data.unread import unread_below
from octavo.errors import UserError
from octavo.tasks.classification.check import check, render
from octavo.tasks.classification.predictor import ClassPredictor
from octavo.tasks.segmentation.check import check_masks, render_masks

if TYPE_CHECKING:
    from octavo.engine.folder import RunFolder

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def picture(path: Path, seed: int, form: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, form)
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Two classes of two PNG files, and beside them what isn't read."""
    root = tmp_path / "data"
    for i, name in enumerate("aabb"):
        picture(root / name / f"{i}.png", i)
    picture(root / "a" / "plain", 9, "JPEG")
    picture(root / "b" / "wrong.dat", 8)
    for i in range(3):
        (root / "a" / f"{i}.heic").write_bytes(HEIC)
    (root / "labels").mkdir()
    shutil.move(root / "labels", root / "a" / "labels")
    (root / "a" / "labels" / "notes.txt").write_text("x")
    (root / "b" / ".hidden.heic").write_bytes(HEIC)
    return root


LINE = (
    "not read: 3 .heic (HEIC is not read; convert to JPEG or PNG), 1 without ending (JPEG by first bytes; rename to "
    "end in .jpg), 1 .dat (PNG by first bytes; rename to end in .png), 1 .txt"
)


def test_what_is_not_read_is_counted_by_ending(classes: Path) -> None:
    samples = read(classes)
    assert len(samples.files) == 4
    assert samples.unread == LINE
    text = Console(file=io.StringIO(), width=200)
    report = check(classes, leaks=False)
    render(report, text)
    assert isinstance(text.file, io.StringIO)
    assert "not read: 3 .heic" in text.file.getvalue()
    assert report.unread == LINE


def test_masks_are_counted_alike(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "images" / f"{i}.jpg", i)
        Image.new("L", (12, 12), i % 2).save((tmp_path / "images").with_name("m.png"))
        (tmp_path / "masks").mkdir(exist_ok=True)
        shutil.move(tmp_path / "m.png", tmp_path / "masks" / f"{i}.png")
    (tmp_path / "images" / "3.heif").write_bytes(HEIC)
    (tmp_path / "masks" / "3.tga").write_bytes(b"x")
    words = "is not read; convert to JPEG or PNG"
    line = f"not read: 1 .heif (HEIC {words}), 1 .tga (Targa {words})"
    assert read_pairs(tmp_path).unread == line
    text = Console(file=io.StringIO(), width=200)
    render_masks(check_masks(tmp_path, leaks=False), text)
    assert isinstance(text.file, io.StringIO)
    assert line in text.file.getvalue()


def test_nothing_is_said_where_all_is_read(tmp_path: Path) -> None:
    for i, name in enumerate(["a/1.png", "a/2.JFIF", "b/3.avif", "b/4.ppm"]):
        picture(tmp_path / name, i, {"F": "JPEG", "f": "AVIF", "m": "PPM"}.get(name[-1], "PNG"))
    samples = read(tmp_path)
    assert (len(samples.files), samples.unread) == (4, "")
    (tmp_path / "labels.csv").write_text("image,label\na/1.png,x\na/2.JFIF,x\nb/3.avif,y\nb/4.ppm,y\n")
    assert read(tmp_path, "csv").unread == ""


def test_what_lies_in_an_empty_class_or_folder_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png", 1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.heic").write_bytes(HEIC)
    with pytest.raises(UserError, match=r"b: no image in this class folder \(not read: 1 .heic \(HEIC .*; put images"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"no images found \(not read: 1 .heic \(HEIC .*; expected one of"):
        read(tmp_path / "b")


def test_few_tables_are_named(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "c.tsv", "n.txt"):
        (tmp_path / name).touch()
    assert unread_below([tmp_path]) == "not read: 2 .csv (a.csv, b.csv), 1 .tsv (c.tsv), 1 .txt"
    for i in range(2):
        (tmp_path / f"{i}.csv").touch()
    assert unread_below([tmp_path]) == "not read: 4 .csv, 1 .tsv (c.tsv), 1 .txt"


def test_many_endings_stay_one_line(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"x.e{i}").touch()
    assert unread_below([tmp_path]).endswith("1 .e15, 12 more endings")
    assert not unread_below([tmp_path], images=False).count("\n")


def test_predict_answers_or_lists_every_image(classes: Path, trained: RunFolder) -> None:
    found = ClassPredictor(trained, "cpu", member="squeeze").predict([classes])
    assert set(found.files) == {"a/0.png", "a/1.png", "a/plain", "b/2.png", "b/3.png", "b/wrong.dat"}
    assert found.errors == {f"a/{i}.heic": "HEIC is not read; convert to JPEG or PNG" for i in range(3)}
    assert found.unread == "not read: 1 .txt"


def test_predict_exits_with_1_where_an_image_is_not_read(classes: Path, trained: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    command = ["predict", str(trained.path), str(classes), "--out", str(out), "--device", "cpu", "--member", "squeeze"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "note: not read: 1 .txt" in result.output
    assert len((tmp_path / "out.errors.csv").read_text().splitlines()) == 4
    for file in (classes / "a").glob("*.heic"):
        file.unlink()
    assert CliRunner().invoke(app, command).exit_code == 0  # a text file is only counted


def test_a_folder_of_unread_images_alone_is_listed(tmp_path: Path) -> None:
    (tmp_path / "1.heic").write_bytes(HEIC)
    (tmp_path / "labels.csv").write_text("image,label\n")
    assert list_images([tmp_path]) == (tmp_path / "1.heic",)
