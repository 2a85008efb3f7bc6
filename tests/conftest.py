"""What several test modules share: real images written to a folder, and a cache of the test's own."""

from __future__ import annotations

import json
import os

# Before torch is loaded: where other work runs too, threads that wait for each other cost ten times more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from octavo import cli

if TYPE_CHECKING:
    from octavo.engine.folder import RunFolder
    from octavo.engine.member_folder import MemberFolder

Octavo = Callable[..., tuple[int, str, str]]
"""A command line that is run: its words → exit code, standard output, standard error."""

SMALL = """\
name = "small"
data = {size = 32, resize = "stretch", stored = 32, normalize = "none", holdout = 0.25}
train = {epochs = 4, batch_size = 20, optimizer = "adam", lr = 1e-3, reestimate_norm = true}
[[members]]
name = "vgg"
backbone = "vgg11"
weights = "none"
pool = "avg"
mode = "frozen"
epochs = 40
head.hidden = [{width = 256}]
[[members]]
name = "squeeze"
backbone = "squeezenet1_1"
weights = "none"
[[members]]
name = "mobile"
backbone = "mobilenet_v3_small"
weights = "none"
"""
"""A recipe of three small members, one of them frozen with cached features."""

SCENES = """\
name = "scenes"
task = "segment"
data = {size = 48, classes = "course", normalize = "none", holdout = 0.25}
augment = {hflip = 0.5}
train = {epochs = 6, batch_size = 3, optimizer = "adam", lr = 2e-3, keep = "best"}
stages = {at = [2, 4, "best"], images = ["0001", "0003"]}
[segmenter]
backbone = "vgg11"
weights = "none"
hidden = [{width = 16}]
upsample = "bilinear"
zero_scores = true
"""
"""A recipe of a small FCN-8s."""
SIDE = 48
SHOWN = {0: (40, 200, 190), 1: (200, 190, 40), 4: (30, 40, 180), 6: (15, 15, 15)}
"""The classes of the scenes, by their channel in the course's table, and how they look in images."""


def reseal(run: RunFolder) -> None:
    """Give the files of a run the hashes that they have now, after a test has changed them by hand."""
    from octavo.verbs.verify import verify

    verify(run, write=True)


def old_run(run: RunFolder) -> None:
    """Leave of a run's manifest what versions wrote that kept no hashes."""
    path = run.path / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in manifest.items() if key not in ("format", "sha256")}))


def member_folder(folder: Path) -> MemberFolder:
    """Return the folder of a member that is a run of its own, with a manifest and nothing else."""
    from octavo.engine.member_folder import MemberFolder
    from octavo.engine.run_files import RunFiles

    run = RunFiles(folder)
    run.write_manifest({"classes": ["0", "1"]})
    return MemberFolder(folder, run)


def segmenter_folder(run: Path) -> MemberFolder:
    """Return the folder of the segmenter in a run by the course's table that has a manifest and nothing else."""
    from octavo.data.classes import load_table
    from octavo.engine.folder import RunFolder

    folder, table = RunFolder(run), load_table("course")
    folder.on_disk.write_manifest({"classes": list(table.names), "table": table.to_dict()})
    return folder.member("segmenter")


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's handwritten 8×8 digits in the reference's flat form: ten classes of 16 + 4 images."""
    root, digits = tmp_path_factory.mktemp("digits"), load_digits()
    for label in range(10):
        for i, row in enumerate(np.flatnonzero(digits.target == label)[:20]):
            path = root / ("train_10" if i < 16 else "val_10") / f"{label}_{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray((digits.images[row] * 15.9).astype(np.uint8)).save(path)
    return root


def scene(index: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 [side,side,3] and its ids uint8 [side,side]: a ground, a field, and a lake or a hole in it."""
    draw = np.random.default_rng(index)
    ids = np.full((side, side), draw.choice([0, 1]), np.uint8)
    for value in (1 - ids[0, 0], 6 if index % 4 == 3 else 4):
        top, left = draw.integers(0, side // 2, 2)
        ids[top : top + side // 2, left : left + draw.integers(side // 4, side // 2)] = value
    image = np.array([SHOWN.get(i, (0, 0, 0)) for i in range(7)])[ids] + draw.normal(0, 8, (side, side, 3))
    return image.clip(0, 255).astype(np.uint8), ids


def write_scenes(root: Path, train: int = 12, val: int = 4) -> Path:
    """Write scenes in the course's layout: train/ and validation/ with NNNN_sat.jpg and NNNN_mask.png."""
    from octavo.data.classes import load_table
    from octavo.data.masks import paint

    for split, start, count in (("train", 0, train), ("validation", 100, val)):
        (root / split).mkdir(parents=True)
        for i in range(count):
            image, ids = scene(start + i)
            Image.fromarray(image).save(root / split / f"{i:04}_sat.jpg", quality=95)
            Image.fromarray(paint(ids, load_table("course"))).save(root / split / f"{i:04}_mask.png")
    return root


@pytest.fixture(scope="session")
def scenes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training and four validation scenes with masks in the course's colours; tests that write copy it."""
    return write_scenes(tmp_path_factory.mktemp("scenes") / "data")


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: Path) -> Octavo:
    """Run a command line in this process; return exit code, standard output and standard error."""

    def run(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["octavo", *map(str, argv)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder that Octavo takes by itself."""
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> RunFolder:
    """A finished run of SMALL on the digits; tests that write into it work on a copy."""
    from octavo.options import Options
    from octavo.verbs.training import train

    folder = tmp_path_factory.mktemp("small")
    (folder / "small.toml").write_text(SMALL)
    options = Options(out=folder / "run", cache=folder / "cache", device="cpu")
    return train(folder / "small.toml", digits_folder, (), options)


@pytest.fixture(scope="session")
def segmented(tmp_path_factory: pytest.TempPathFactory, scenes_folder: Path) -> RunFolder:
    """A finished run of SCENES on the scenes; tests that write into it work on a copy."""
    from octavo.options import Options
    from octavo.verbs.training import train

    folder = tmp_path_factory.mktemp("segmented")
    (folder / "scenes.toml").write_text(SCENES)
    options = Options(out=folder / "run", cache=folder / "cache", device="cpu")
    return train(folder / "scenes.toml", scenes_folder, (), options)
