"""Other data, broken files among them, against runs with and without folds: by command line and from Python alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss

from conftest import Octavo
from octavo.engine.folder import RunFolder
from octavo.options import Options
from octavo.recipe import ClassifyRecipe
from octavo.run import Run
from octavo.verbs.training import train

RECIPE = {
    "name": "folds",
    "data": {"size": 32, "stored": 8, "normalize": "none", "folds": 3},
    "train": {"epochs": 1, "batch_size": 32, "lr": 0.01},
    "members": [{"name": "one", "backbone": "squeezenet1_1", "weights": "none"}],
}


@pytest.fixture(scope="module")
def broken_folder(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits with one broken file in training and one in validation."""
    data = Path(shutil.copytree(digits_folder, tmp_path_factory.mktemp("broken") / "data"))
    for name in ("train_10/3_0.png", "val_10/3_16.png"):
        (data / name).write_bytes((data / name).read_bytes()[:60])
    return data


@pytest.fixture(scope="module")
def folded(broken_folder: Path) -> RunFolder:
    """A run with folds that was trained without the broken files."""
    place = broken_folder.parent
    options = Options(out=place / "run", cache=place / "cache", device="cpu", skip_broken=True)
    return train(ClassifyRecipe.model_validate(RECIPE), broken_folder, (), options)


def told(run_cli: Octavo, out: Path, *words: object) -> dict[str, Any]:
    """The report that a command line writes."""
    code, _, err = run_cli("evaluate", *words, "--out", out)
    assert code == 0, err
    return json.loads(out.read_text())


def test_the_runs_own_data_with_their_broken_files(
    run_cli: Octavo, folded: RunFolder, broken_folder: Path, tmp_path: Path
) -> None:
    code, _, err = run_cli("evaluate", folded.path, "--data", broken_folder)
    assert code == 2 and err.count("\n") == 1 and "2 of 200 files can't be decoded" in err and "--skip-broken" in err
    own = told(run_cli, tmp_path / "own.json", folded.path)
    given = told(run_cli, tmp_path / "given.json", folded.path, "--data", broken_folder, "--skip-broken")
    assert given == own and own["n"] == 39
    assert Run(folded.path, "cpu").evaluate(broken_folder, skip_broken=True) == folded.metrics


def test_out_of_fold_outputs_stand_for_no_training_images(
    run_cli: Octavo, folded: RunFolder, broken_folder: Path, tmp_path: Path
) -> None:
    held = told(run_cli, tmp_path / "held.json", folded.path, "--split", "holdout")
    seen = told(
        run_cli, tmp_path / "seen.json", folded.path, "--data", broken_folder, "--split", "train", "--skip-broken"
    )
    assert held["n"] == seen["n"] == 159 and seen["flattered"]
    assert held["systems"][-1]["metrics"]["nll"] != seen["systems"][-1]["metrics"]["nll"]
    files = [broken_folder / row["file"] for row in folded.samples() if row["part"] == "holdout"]
    assert_numbers(seen, folded, files)


def assert_numbers(report: dict[str, Any], run: RunFolder, files: list[Path]) -> None:
    """Compare accuracy and NLL with scikit-learn's of what the run predicts."""
    found = Run(run.path, "cpu").predict(files)
    truth = np.array([found.classes.index(file.name[0]) for file in files])
    metrics = report["systems"][-1]["metrics"]
    assert metrics["accuracy"]["value"] == pytest.approx(accuracy_score(truth, found.ids), abs=1e-6)
    every = np.arange(len(found.classes))
    assert metrics["nll"]["value"] == pytest.approx(log_loss(truth, found.probabilities, labels=every), abs=1e-5)


@pytest.mark.parametrize("kind", ["trained", "folded"])
def test_other_data_by_command_line_and_from_python(
    request: pytest.FixtureRequest, run_cli: Octavo, digits_folder: Path, tmp_path: Path, kind: str
) -> None:
    run: RunFolder = request.getfixturevalue(kind)
    other = tmp_path / "other"
    for path in sorted((digits_folder / "val_10").glob("[0-3]_*.png")):
        (other / path.name[0]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - np.asarray(Image.open(path))).save(other / path.name[0] / path.name)
    (other / "2" / "2_99.png").write_bytes(b"no image")
    words = [run.path, "--data", other, "--skip-broken", "--coverage", "0.8"]
    given = told(run_cli, tmp_path / "given.json", *words)
    assert (given["split"], given["n"], given["flattered"]) == ("other/all", 16, False)
    assert any("1 of 17 images of other/all can't be decoded and is left out" in text for text in given["warnings"])
    assert given["sets"] is not None
    found = Run(run.path, "cpu").evaluate(other, skip_broken=True, coverage=0.8)
    assert json.loads(found.to_json()) == given
    assert_numbers(given, run, [path for path in sorted(other.glob("*/*.png")) if path.name != "2_99.png"])


def test_nothing_that_can_be_decoded_is_refused(run_cli: Octavo, folded: RunFolder, tmp_path: Path) -> None:
    for name in ("0/a.png", "1/b.png"):
        (tmp_path / "other" / name).parent.mkdir(parents=True)
        (tmp_path / "other" / name).write_bytes(b"no image")
    code, _, err = run_cli("evaluate", folded.path, "--data", tmp_path / "other", "--skip-broken")
    assert code == 2 and err.count("\n") == 1 and "not one of 2 images" in err


@pytest.mark.parametrize("name", ["0101_sat.jpg", "0101_mask.png"])
def test_masks_by_command_line_and_from_python(
    run_cli: Octavo, segmented: RunFolder, scenes_folder: Path, tmp_path: Path, cache: Path, name: str
) -> None:
    data = Path(shutil.copytree(scenes_folder / "validation", tmp_path / "other"))
    first = sorted(data.glob("*_sat.jpg"))[0].name[:4]
    path = data / f"{first}{name[4:]}"
    path.write_bytes(path.read_bytes()[:80])
    given = told(run_cli, tmp_path / "given.json", segmented.path, "--data", data, "--skip-broken")
    assert given["n"] == 3
    assert any("1 of 4 images of" in text and "left out" in text for text in given["warnings"])
    found = Run(segmented.path, "cpu").evaluate(data, skip_broken=True)
    assert json.loads(found.to_json()) == given
