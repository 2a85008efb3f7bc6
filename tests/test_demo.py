"""The demo: scikit-learn's digits and synthetic land cover as image files, and what is trained on them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from octavo import cli, recipe
from octavo.data.classes import load_table
from octavo.data.doctor import resolve
from octavo.data.pairs import read_pairs
from octavo.data.readers import read
from octavo.engine.folder import RunFolder
from octavo.networks.backbone import parameters
from octavo.networks.build import build_segmenter
from octavo.numbers.mask_results import SegmentReport
from octavo.options import Options
from octavo.recipe import SegmentRecipe, load
from octavo.verbs import demo
from octavo.verbs.demo import (
    AFTER,
    AFTER_LANDCOVER,
    BEFORE_LANDCOVER,
    TILES,
    TRAIN,
    scores_shown,
    write_digits,
    write_landcover,
)
from octavo.verbs.landcover import tile
from octavo.verbs.training import train

SMALLER = (
    'segmenter.backbone="resnet18"',
    "segmenter.hidden=[{width = 64}]",
    "train.epochs=5",
    "train.lr=1e-3",
    "stages.at=[2]",
    "stages.count=1",
)
"""Changes that make the recipe of the land cover small enough for a test."""


def test_digits_are_written_once_and_are_the_digits(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits")
    images, labels = load_digits(return_X_y=True)
    samples = read(folder)
    assert (samples.layout, samples.own_split, len(samples.files)) == ("prefix", True, 1797)
    assert samples.classes == tuple(str(i) for i in range(10))
    assert {part: len(i) for part, i in samples.splits.items()} == {"train": TRAIN, "val": 1797 - TRAIN}
    seen = set()
    for place in range(0, 1797, 50):
        name, index = Path(samples.files[place]).stem.split("_")
        with Image.open(samples.path(place)) as image:
            np.testing.assert_allclose(np.asarray(image), images[int(index)].reshape(8, 8) * 255 / 16, atol=1)
        assert labels[int(index)] == int(name)
        seen.add(index)
    assert len(seen) == 36
    counts = Counter(samples.labels[samples.splits["train"]].tolist())
    assert min(counts.values()) > 70 and max(counts.values()) < 110
    _written_once(lambda: write_digits(folder), folder, 1797)


def test_land_cover_is_written_once_in_the_courses_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TILES", {"train": 5, "validation": 3})
    folder = write_landcover(tmp_path / "synthetic-landcover")
    pairs = read_pairs(folder)
    assert (pairs.layout, pairs.own_split) == ("course", True)
    assert {part: len(i) for part, i in pairs.splits.items()} == {"train": 5, "val": 3}
    decoder = resolve(pairs, "course", False)
    for number, (part, i) in enumerate([("train", 0), ("train", 1), ("train", 2), ("train", 3), ("train", 4),
                                        ("validation", 0), ("validation", 1), ("validation", 2)]):  # fmt: skip
        place = pairs.files.index(f"{part}/{i:04d}_sat.jpg")
        image, ids = tile(number)
        np.testing.assert_array_equal(decoder.decode(pairs.mask_path(place))[..., 0], ids)
        with Image.open(pairs.path(place)) as saved:
            assert np.abs(np.asarray(saved).astype(int) - image).mean() < 8  # JPEG
    _written_once(lambda: write_landcover(folder), folder, 16)


def _written_once(write: Callable[[], Path], folder: Path, files: int) -> None:
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.*")}
    assert len(before) == files and write() == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.*")} == before
    next(iter(before)).unlink()  # a demo that was stopped while it wrote
    write()
    assert len(list(folder.rglob("*.*"))) == files


def test_what_is_said_after_names_both_places() -> None:
    text = AFTER.format(run="runs/x", data="digits")
    assert "octavo predict runs/x digits/val_10" in text and "{" not in text
    text = AFTER_LANDCOVER.format(run="runs/y", data="tiles", stages="runs/y/plots/stages.png", scores="mIoU")
    assert "octavo predict runs/y tiles/validation" in text and "stages.png" in text and "{" not in text


def test_what_is_said_before_is_so() -> None:
    asked = load("demo-landcover")
    assert isinstance(asked, SegmentRecipe) and "synthetic" in asked.description
    net = build_segmenter(asked.segmenter, asked, 7, "meta")
    assert f"{parameters(net) / 1e6:.1f} million" in BEFORE_LANDCOVER and "SYNTHETIC" in BEFORE_LANDCOVER
    assert (
        f"{TILES['train']} generated tiles" in BEFORE_LANDCOVER and f"{TILES['validation']} others" in BEFORE_LANDCOVER
    )
    assert asked.segmenter.weights == "none" and asked.segmenter.stride == 8


@pytest.mark.slow
def test_a_smaller_network_learns_the_land_cover(tmp_path: Path, cache: Path) -> None:
    run = train("demo-landcover", str(write_landcover()), SMALLER, Options(out=tmp_path / "run", device="cpu"))
    report = run.metrics
    assert isinstance(report, SegmentReport) and report.miou is not None and report.n == TILES["validation"]
    scored = [c for c in report.per_class if c.scored]
    commonest = max(c.truth for c in scored) / len(scored)
    assert commonest < 0.07 and report.miou > 0.35  # colours alone give .3, see test_landcover
    shown = scores_shown(report)
    assert f"mIoU {report.miou:.3f}" in shown and f"{commonest:.3f})" in shown and "synthetic" in shown
    assert [line.split()[0] for line in shown.splitlines()[1:]] == [*load_table("course").names[:6]]


def _demo(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["octavo", "demo", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_command_trains_what_it_is_asked_for(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = load(
        "demo-landcover",
        (*SMALLER, "train.epochs=1", "stages.at=[1]", "data.holdout=0.0", 'measure.rule="mmsegmentation"'),
    )
    file = tmp_path / "demo-landcover.toml"
    file.write_text(recipe.dumps(small))
    monkeypatch.setattr(recipe, "shipped", lambda: {"demo-landcover": file})
    monkeypatch.setattr(demo, "TILES", {"train": 6, "validation": 2})
    assert _demo(monkeypatch, "--only", "landcover", "--out", tmp_path / "x") == 0
    out, run = capsys.readouterr().out, tmp_path / "x-synthetic-landcover"
    assert "handwritten" not in out and "synthetic land cover: mIoU " in out and "\n  forest " in out
    assert f"masks by stage: {run}/plots/stages.png" in out and (run / "plots" / "stages.png").stat().st_size > 10_000
    assert RunFolder.open(run).recipe.name == "demo-landcover" and not (tmp_path / "x").exists()
    assert "synthetic-landcover" in str(RunFolder.open(run).manifest["data"]["root"])

    assert _demo(monkeypatch, "--only", "landcover", "--out", tmp_path / "x", "--resume") == 0
    assert "gone on with" in capsys.readouterr().err
    (tmp_path / "y").symlink_to(run)
    assert _demo(monkeypatch, "--out", tmp_path / "y") == 2
    assert "is a run, and not a demo's" in capsys.readouterr().err
    assert _demo(monkeypatch, "--only", "landcovers") == 2
    assert 'did you mean "landcover"?' in capsys.readouterr().err
