"""The exit code of `octavo check`: 1 where training would refuse the data, 2 where there are none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from octavo.cli import main


def outcome(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["octavo", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def image(path: Path, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (16, 16)).save(path)


def unlabelled(root: Path) -> Path:
    image(root / "a.png")
    return root


def empty(root: Path) -> Path:
    root.mkdir()
    return root


def unreadable_table(root: Path) -> Path:
    image(root / "a.png")
    table = root / "labels.csv"
    table.write_text("foo,bar\n1,2\n")
    return table


def masks_without_images(root: Path) -> Path:
    image(root / "images" / "a.png")
    image(root / "masks" / "b.png", "L")
    return root


def masks_table(root: Path) -> Path:
    image(root / "a.png")
    table = root / "pairs.csv"
    table.write_text("image,mask\na.png,\n")
    return table


@pytest.mark.parametrize("make", [unlabelled, empty, unreadable_table, masks_without_images, masks_table])
def test_data_that_training_refuses_exit_with_1_in_the_same_words(
    make: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(make)
    data = str(make(tmp_path / "data"))
    assert outcome(monkeypatch, "check", data) == 1
    assert "ready to train on" not in capsys.readouterr().out.replace("not ready", "")


@pytest.mark.parametrize("words", [["nowhere"], ["nowhere", "--classes", "course"]])
def test_missing_data_exit_with_2(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert outcome(monkeypatch, "check", *words) == 2
