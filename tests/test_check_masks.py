"""What `check` says of folders of images and masks, and how it shows it."""

from __future__ import annotations

import io
import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from octavo.data.classes import load_table
from octavo.data.doctor import resolve
from octavo.data.masks import paint
from octavo.data.pairs import read_pairs
from octavo.errors import UserError
from octavo.tasks.segmentation.check import MaskReport, check_masks, render_masks


def shown(report: MaskReport, width: int = 120) -> str:
    file = io.StringIO()
    render_masks(report, Console(file=file, width=width))
    return file.getvalue()


def blocks(seed: int, classes: int = 7) -> np.ndarray:
    cells = np.random.default_rng(seed).permutation(np.arange(48) % classes).reshape(6, 8).astype(np.uint8)
    return cells.repeat(8, axis=0).repeat(8, axis=1)


def pair(root: Path, split: str, number: int, ids: np.ndarray, table: str = "course") -> None:
    (root / split).mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(number).integers(0, 256, (*ids.shape, 3), np.uint8)
    Image.fromarray(picture).save(root / split / f"{number:04d}_sat.jpg")
    Image.fromarray(paint(ids, load_table(table))).save(root / split / f"{number:04d}_mask.png")


@pytest.fixture
def land(tmp_path: Path) -> Path:
    root = tmp_path / "land"
    for number in range(6):
        pair(root, "train" if number < 4 else "validation", number, blocks(number))
    return root


def test_a_sound_folder(land: Path) -> None:
    said: list[str] = []
    report = check_masks(land, classes="course", progress=lambda what, done, total, note="": said.append(what))
    assert report.ok
    assert (report.layout, report.own_split, dict(report.images)) == ("course", True, {"train": 4, "val": 2})
    assert report.sizes is not None
    assert report.sizes.largest == (64, 48)
    assert (report.formats, report.modes) == ({"JPEG": 6}, {"RGB": 6})
    total = np.bincount(np.concatenate([blocks(n).ravel() for n in range(4)]), minlength=7)
    assert report.diagnosis.counts["train"].tolist() == total.tolist()
    assert not (report.errors or report.warnings or report.broken or report.suspicious or report.duplicates)
    assert {"masks", "check"} <= set(said)
    text = shown(report)
    assert "6 images with masks: 4 train, 2 val" in text
    assert 'masks: colours in RGB, table "course"' in text
    for name, count in zip(load_table("course").names, total, strict=True):
        (row,) = [line for line in text.splitlines() if f"■ {name} " in line]
        assert f"{count / total.sum():.2%}" in row
        assert "█" in row
    assert "ready to train on" in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(land: Path, width: int) -> None:
    pair(land, "test", 9, blocks(9))
    report = check_masks(land, classes="deepglobe")
    text = shown(report, width)
    rows = [line for line in text.splitlines() if "■" in line]
    assert len(rows) == 6  # one line a class: nothing is wrapped
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "no class" in text
    (head,) = [line for line in text.splitlines() if line.startswith("id")]
    assert all(split in head for split in ("train", "val", "test"))
    assert all(sum("█" in part or "▏" in part for part in row.split()) == 3 for row in rows)


def test_bars_are_as_long_as_their_share(tmp_path: Path) -> None:
    ids = np.zeros((40, 40), np.uint8)
    ids[:10] = 4
    pair(tmp_path, "train", 0, ids)
    pair(tmp_path, "validation", 1, ids)
    text = shown(check_masks(tmp_path, classes="course"))
    lengths = {
        name: next(row.count("█") for row in text.splitlines() if f"■ {name} " in row) for name in ("urban", "water")
    }
    assert lengths["urban"] == 3 * lengths["water"] > 0


def test_what_is_ambiguous_is_refused_with_what_to_write(land: Path) -> None:
    report = check_masks(land)
    assert not report.ok
    assert report.diagnosis.candidates == ("course", "deepglobe")
    text = " ".join(shown(report).split())
    assert "give --classes course or --classes deepglobe" in text and "--set data.classes=NAME" in text
    assert "not ready" in text


def test_problems_of_images_masks_and_pairs_are_all_listed(land: Path) -> None:
    (land / "train" / "0001_sat.jpg").write_text("text")
    (land / "train" / "0002_mask.png").write_text("text")
    (land / "validation" / "0004_mask.png").unlink()
    shutil.copy(land / "train" / "0000_sat.jpg", land / "validation" / "0005_sat.jpg")
    small = Image.fromarray(paint(blocks(3)[:20], load_table("course")))
    small.save(land / "train" / "0003_mask.png")
    report = check_masks(land, classes="course")
    assert {f.file for f in report.broken} == {"train/0001_sat.jpg", "train/0002_mask.png"}
    assert "train/0003_mask.png: 64×20, but its image train/0003_sat.jpg is 64×48" in report.errors
    assert any("0004" in text for text in (*report.errors, *report.warnings))
    (same,) = report.duplicates
    assert same.leak
    assert same.contradictory  # their masks differ
    text = " ".join(shown(report).split())
    for part in ("broken files: 2", "the same image in two splits", "64×20", "not ready"):
        assert part in text


def test_the_proposal_is_written_named_and_taken(tmp_path: Path) -> None:
    shades = np.array([(10, 20, 30), (200, 10, 10), (10, 200, 10)], np.uint8)
    root = tmp_path / "own"
    for number in range(4):
        split = "train" if number < 3 else "validation"
        pair(root, split, number, blocks(number, 3))
        Image.fromarray(shades[blocks(number, 3)]).save(root / split / f"{number:04d}_mask.png")
    report = check_masks(root)
    assert not report.ok
    assert check_masks(root, write_classes=root / "classes.toml").ok
    text = (root / "classes.toml").read_text()
    (root / "classes.toml").write_text(text.replace("class 0", "heath"))
    again = check_masks(root)
    assert again.ok
    assert "■ heath" in shown(again)
    assert resolve(read_pairs(root)).table.names == ("heath", "class 1", "class 2")
    with pytest.raises(UserError, match=r"classes\.toml: is there already"):
        check_masks(root, write_classes=root / "classes.toml")


def test_nothing_to_propose(land: Path) -> None:
    place = land / "classes.toml"
    found = check_masks(land, write_classes=place)
    assert found.unwritten == f"{place}: no table to propose: --classes course or --classes deepglobe"
    with pytest.raises(UserError, match="no table to propose"):
        found.show(Console(file=StringIO()))
    found = check_masks(land, classes="course", write_classes=place)
    assert found.unwritten == f'{place}: no table to propose: table "course" reads these masks'
    assert not (land / "classes.toml").exists()


def test_mistakes_are_raised(land: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='did you mean "camvid"'):
        check_masks(land, classes="camvit")
    with pytest.raises(UserError, match="no such folder"):
        check_masks(tmp_path / "absent")


def test_odd_names_are_shown_as_they_are(land: Path) -> None:
    table = load_table("course")
    body = "".join(
        f'[[classes]]\nid = {e.value}\nname = "[red]{e.name}, a name that is too long"\ncolor = {list(e.colour)}\n'
        for e in table.entries
    )
    (land / "classes.toml").write_text(body)
    text = shown(check_masks(land), 80)
    assert "[red]urban" in text
    assert len([line for line in text.splitlines() if "■" in line]) == 7
