"""Runs of an older version: what commit 5aeb538 wrote opens, evaluates, predicts, reports and resumes for ever.

`runs/before-tasks.tar.xz` has a run of each task, their images, and the weights that their frozen extractors start
from: shufflenet_v2_x0_5, random, each convolution's weights 0 or ± one power of two, so that they compress.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import octavo
from conftest import Octavo
from golden_session import COLOURS

DATA = {"classify": "digits", "segment": "scenes"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked archive."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(Path(__file__).with_name("runs") / "before-tasks.tar.xz") as file:
        file.extractall(folder, filter="data")
    return folder


@pytest.fixture(params=DATA)
def task(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(archive: Path, tmp_path: Path) -> Path:
    """A copy of the archive that may be written into."""
    return Path(shutil.copytree(archive, tmp_path / "old"))


def assert_close(found: Any, expected: Any, where: str = "") -> None:
    """Assert that numbers are the same to 1e-5, since processors round differently, and all else exactly."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_close(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, pair in enumerate(zip(found, expected, strict=True)):
            assert_close(*pair, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-5), where
    elif not isinstance(expected, str):  # sentences may be worded anew
        assert found == expected, where


def test_its_images_evaluate_to_the_numbers_that_it_has(task: str, folder: Path, run_cli: Octavo) -> None:
    expected = json.loads((folder / task / "metrics.json").read_text())
    words = ["--data", folder / DATA[task], "--out", folder / "found.json", "--device", "cpu"]
    code, _, err = run_cli("evaluate", folder / task, *words)
    assert code == 0, err
    found = json.loads((folder / "found.json").read_text())
    headline = {
        k: v for k, v in expected.items() if k in ("systems", "miou", "confusion", "per_class", "classes", "metrics")
    }
    assert headline
    assert_close({k: found[k] for k in headline}, headline)


def test_its_predictions_are_those_that_it_has(task: str, folder: Path) -> None:
    run = octavo.load(folder / task, device="cpu")
    if task == "classify":
        images = sorted((folder / "digits" / "val").rglob("*.png"))
        lines = (folder / "classify" / "predictions" / "val.csv").read_text().splitlines()[1:]
        assert list(run.predict(images).labels) == [line.split(",")[1] for line in lines]
    else:
        expected = json.loads((folder / "segment" / "metrics.json").read_text())["metrics"]["pixel_accuracy"]["value"]
        images = sorted((folder / "scenes" / "validation").glob("*_sat.png"))
        masks = [np.asarray(mask) for mask in run.masks(images).values()]
        truth = [np.asarray(Image.open(str(path).replace("_sat", "_mask"))) for path in images]
        right = [
            np.array([COLOURS.get(k, (1, 1, 1)) for k in range(7)])[m] == t for m, t in zip(masks, truth, strict=True)
        ]
        assert np.all(right, axis=-1).mean() == pytest.approx(expected, abs=1e-5)


def test_its_report_is_written(task: str, folder: Path, run_cli: Octavo) -> None:
    code, _, err = run_cli("report", folder / task, "--device", "cpu")
    assert code == 0, err
    assert (folder / task / "report.html").stat().st_size > 100_000


def headline(metrics: dict[str, Any]) -> float:
    """Return the number that a metrics.json leads with."""
    metrics = metrics["systems"][-1] if "systems" in metrics else metrics
    return metrics["metrics"]["accuracy" if "accuracy" in metrics["metrics"] else "miou"]["value"]


def test_it_resumes(task: str, folder: Path, run_cli: Octavo) -> None:
    """Of a run that was stopped before its last network was trained, the rest is trained."""
    run, member = folder / task, {"classify": "hidden", "segment": "segmenter"}[task]
    expected = json.loads((run / "metrics.json").read_text())
    shutil.rmtree(run / "members" / member)
    (run / "metrics.json").unlink()
    words = ["--data", folder / DATA[task], "--weights-dir", folder / "weights", "--device", "cpu", "--no-report"]
    code, _, err = run_cli("train", "--resume", "--out", run, *words)
    assert code == 0, err
    assert (run / "members" / member / "weights.safetensors").is_file()
    found = json.loads((run / "metrics.json").read_text())
    assert headline(found) == pytest.approx(headline(expected), abs=0.1)  # training on another processor drifts
