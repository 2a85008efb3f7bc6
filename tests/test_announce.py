"""What a user is told before the first step, beside what then happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conftest import SCENES, SMALL
from octavo.data.store import ImageDecoder, build
from octavo.engine.estimate import Estimate
from octavo.engine.material import Material
from octavo.leaks.duration import search_seconds
from octavo.leaks.find import find_leaks
from octavo.options import Options
from octavo.tasks import leakage
from octavo.verbs import announce as announcing
from octavo.verbs import training

SHARED = Path(__file__).parents[2] / "shared" / "data"
TASKS = pytest.mark.parametrize(("recipe", "data"), [(SMALL, "digits_folder"), (SCENES, "scenes_folder")])


class Announced(Exception):
    """Ends a training at the announcement."""


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Material, float]]:
    """The data and the seconds of searching for near-duplicates of each announcement, which ends the training."""
    found = list[tuple[Material, float]]()

    def announce(recipe: Any, material: Material, *rest: Any) -> None:
        found.append((material, rest[-1]))
        raise Announced

    monkeypatch.setattr(training, "announce", announce)
    return found


@TASKS
def test_the_search_for_near_duplicates_is_in_the_estimate(
    recipe: str, data: str, announced: list[tuple[Material, float]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file, cache = tmp_path / "recipe.toml", tmp_path / "cache"
    file.write_text(recipe)

    def seconds(leaks: bool | None) -> float:
        with pytest.raises(Announced):
            options = Options(out=tmp_path / "run", cache=cache, device="cpu", leaks=leaks)
            training.train(file, request.getfixturevalue(data), (), options)
        return announced[-1][1]

    assert seconds(False) == 0
    assert 0 < seconds(None) == seconds(True)
    material, _ = announced[-1]
    leakage.search(
        material.pixels, material.samples, leakage._searched_parts(material), cache, progress=lambda *_: None
    )
    assert seconds(None) == 0  # the cache has the answer


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")
@pytest.mark.parametrize(("source", "side"), [("camvid/train", None), ("deepglobe13/train", 128)])
def test_a_search_takes_as_long_as_estimated(source: str, side: int | None, tmp_path: Path) -> None:
    """Processor time, the least of three tries, so that other work on the machine doesn't count."""
    names = tuple(path.name for path in sorted((SHARED / source).glob("*.jpg"))[:60])
    files: Any = SimpleNamespace(
        root=str(SHARED / source), folder="", files=names, path=lambda i: SHARED / source / names[i]
    )
    pixels = build(files, ImageDecoder(side), tmp_path / "cache")
    parts = {"val": np.arange(15), "train": np.arange(15, 60)}
    taken = least(lambda: find_leaks(pixels, parts))
    assert taken / 3 < search_seconds(pixels, parts) < 3 * taken


def least(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


@pytest.fixture
def aerial(tmp_path: Path) -> Path:
    """Ten real scenes of 512 pixels with their masks."""
    source = SHARED / "deepglobe13"
    if not source.is_dir():
        pytest.skip("needs the shared data")
    for split, count in (("train", 8), ("validation", 2)):
        (tmp_path / "aerial" / split).mkdir(parents=True)
        for image in sorted((source / split).glob("*_sat.jpg"))[:count]:
            for path in (image, image.with_name(image.name.replace("_sat.jpg", "_mask.png"))):
                (tmp_path / "aerial" / split / path.name).symlink_to(path)
    return tmp_path / "aerial"


PYRAMID = """\
name = "pyramid"
task = "segment"
data = {size = 64, scale = 0.5, classes = "course", normalize = "none", holdout = 0.25}
augment = {hflip = 0.5}
train = {epochs = 1, batch_size = 4, mode = "frozen", views = 2}
[segmenter]
backbone = "mobilenet_v3_small"
weights = "none"
hidden = [{width = 8}]
"""
FEATURES = """\
name = "features"
data = {size = 32, resize = "stretch", stored = 32, normalize = "none"}
augment = {hflip = 0.5}
train = {epochs = 1, batch_size = 20, mode = "frozen", views = 8}
[[members]]
name = "squeeze"
backbone = "squeezenet1_1"
weights = "none"
"""


@pytest.mark.parametrize(("recipe", "data"), [(FEATURES, "digits_folder"), (PYRAMID, "aerial")])
def test_the_disk_is_that_of_the_run_and_its_features(
    recipe: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    estimates = list[Estimate]()
    original = announcing.estimate
    monkeypatch.setattr(announcing, "estimate", lambda *a, **k: estimates.append(original(*a, **k)) or estimates[-1])
    file, out, cache = tmp_path / "recipe.toml", tmp_path / "run", tmp_path / "cache"
    file.write_text(recipe)
    options = Options(out=out, cache=cache, device="cpu", report=False, leaks=False)
    training.train(file, request.getfixturevalue(data), (), options)
    run, features = (size_of(place) for place in (out, cache / "features"))
    assert features > 0.2 * run
    assert (run + features) / 2 < estimates[0].disk < 2 * (run + features)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
