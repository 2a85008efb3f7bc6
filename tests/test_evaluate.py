"""Evaluation: scikit-learn's numbers on the stored logits, on the run's own images and on others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss, top_k_accuracy_score

import octavo
from conftest import reseal
from octavo.engine.folder import RunFolder, write_csv
from octavo.errors import UserError
from octavo.numbers.results import Report
from octavo.tasks.classification.evaluation import evaluate, regrade


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the trained run."""
    return RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))


def stacked(run: RunFolder, part: str) -> np.ndarray:
    return np.stack([run.member(name).outputs()[part] for name in run.ensemble.names]).astype(np.float64)


def assert_numbers(report: Report, logits: np.ndarray, labels: np.ndarray, run: RunFolder) -> None:
    """Compare every system of a report with scikit-learn, before calibration and after."""
    found = json.loads((run.path / "ensemble.json").read_text())
    systems = [*logits, np.tensordot(np.array(list(found["weights"].values())), logits, 1)]
    scales = [c["scale"][0] for c in (*found["members"].values(), found["calibration"])]
    every = np.arange(logits.shape[2])
    for system, raw, scale in zip(report.systems, systems, scales, strict=True):
        assert system.temperature == pytest.approx(1 / scale)
        before = log_loss(labels, np.exp(log_softmax(raw, axis=1)), labels=every)
        assert system.uncalibrated["nll"].value == pytest.approx(before, abs=1e-6)
        scores = raw * scale
        answers = scores.argmax(1)
        probabilities = np.exp(log_softmax(scores, axis=1))
        expected = {
            "accuracy": accuracy_score(labels, answers),
            "macro_f1": f1_score(labels, answers, average="macro", zero_division=0),
            "nll": log_loss(labels, probabilities, labels=every),
            "top5": top_k_accuracy_score(labels, scores, k=5, labels=every),
        }
        for name, value in expected.items():
            assert system.metrics[name].value == pytest.approx(value, abs=1e-6), (system.name, name)


@pytest.mark.parametrize("part", ["val", "holdout"])
def test_numbers_are_those_of_scikit_learn(run: RunFolder, part: str) -> None:
    report = evaluate(run, split=part)
    assert report.n == {"val": 40, "holdout": 40}[part] and report.split == part
    assert report.flattered == (part == "holdout")
    assert_numbers(report, stacked(run, part), run.labels(part), run)


def test_val_is_the_default_and_renews_the_files(run: RunFolder) -> None:
    before = {p: (run.path / p).read_bytes() for p in ("metrics.json", "predictions/val.csv")}
    for path in before:
        (run.path / path).unlink()
    assert evaluate(run).split == "val"
    assert {p: (run.path / p).read_bytes() for p in before} == before
    assert evaluate(run, split="holdout") and run.metrics.split == "val"
    assert octavo.load(run.path).metrics == run.metrics


def test_split_that_is_not_there(run: RunFolder) -> None:
    with pytest.raises(UserError, match='--split: unknown "test"; expected one of: holdout, val'):
        evaluate(run, split="test")


def test_other_folder_with_other_ids_and_missing_classes(run: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    for digit in (9, 0, 4):
        folder = tmp_path / "other" / str(digit)
        folder.mkdir(parents=True)
        for i in range(16, 20):
            shutil.copy(digits_folder / "val_10" / f"{digit}_{i}.png", folder / f"{i}.png")
    report = evaluate(run, data=tmp_path / "other", device="cpu", cache=tmp_path / "cache")
    assert (report.split, report.n, report.classes) == ("other/all", 12, tuple(map(str, range(10))))
    chosen = [i for i, file in enumerate(run.files("val")) if Path(file).name[0] in "904"]
    assert_numbers(report, stacked(run, "val")[:, chosen], run.labels("val")[chosen], run)
    assert [c.support for c in report.per_class] == [4, 0, 0, 0, 4, 0, 0, 0, 0, 4]
    assert any("1, 2, 3" in w or "7" in w for w in report.warnings)  # classes without an image are named
    assert not report.flattered and run.metrics.split == "val"


def test_other_folder_with_an_unknown_class(run: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    for name in ("4", "ten"):
        (tmp_path / "other" / name).mkdir(parents=True)
        shutil.copy(digits_folder / "val_10" / "4_16.png", tmp_path / "other" / name / "a.png")
    with pytest.raises(UserError, match=r'class "ten" is unknown to .*, which was trained on: 0, 1, 2'):
        evaluate(run, data=tmp_path / "other", cache=tmp_path / "cache")


def test_parts_of_another_folder(run: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(digits_folder, tmp_path / "other")
    for path in (tmp_path / "other" / "val_10").glob("*_19.png"):
        path.unlink()
    report = evaluate(run, data=tmp_path / "other", device="cpu", cache=tmp_path / "cache")
    assert (report.split, report.n, report.flattered) == ("other/val", 30, False)
    report = evaluate(run, data=tmp_path / "other", split="train", device="cpu", cache=tmp_path / "cache")
    assert (report.split, report.n, report.flattered) == ("train", 160, True)  # they are the run's own, all of them
    with pytest.raises(UserError, match='--split: unknown "tset"; expected one of: train, val'):
        evaluate(run, data=tmp_path / "other", split="tset", cache=tmp_path / "cache")


def test_own_folder_is_scored_on_its_own_validation_images(run: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    assert evaluate(run, data=digits_folder, cache=tmp_path / "cache") == run.metrics


def test_broken_files_of_another_folder(run: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    for digit in (1, 2):
        folder = tmp_path / "other" / str(digit)
        folder.mkdir(parents=True)
        for i in (16, 17):
            shutil.copy(digits_folder / "val_10" / f"{digit}_{i}.png", folder)
    (tmp_path / "other" / "1" / "broken.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"1 of 5 files can't be decoded: 1/broken\.png"):
        evaluate(run, data=tmp_path / "other", cache=tmp_path / "cache")
    report = evaluate(run, data=tmp_path / "other", skip_broken=True, device="cpu", cache=tmp_path / "cache")
    assert report.n == 4


def test_same_file_name_in_two_class_folders_keeps_its_path(run: RunFolder) -> None:
    rows = [{**row, "file": row["file"].replace("_", "/", 2)} for row in run.samples()]
    write_csv(run.path / "samples.csv", rows)
    reseal(run)
    regrade(run)
    ids = [line.split(",")[0] for line in (run.path / "predictions" / "val.csv").read_text().splitlines()[1:]]
    assert len(set(ids)) == 40 and ids[0].count("/") == 3


def test_larger_copies_are_taken(run: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    """An evaluation folder of larger copies is shrunk to the stored side as the training images were."""
    for digit in range(2):
        (tmp_path / "other" / str(digit)).mkdir(parents=True)
        for i in range(16, 20):
            image = Image.open(digits_folder / "val_10" / f"{digit}_{i}.png")
            image.resize((256, 256), Image.Resampling.BICUBIC).save(tmp_path / "other" / str(digit) / f"{i}.png")
    report = evaluate(run, data=tmp_path / "other", device="cpu", cache=tmp_path / "cache")
    assert report.n == 8


def test_the_runs_own_training_images_are_called_flattering(
    run: RunFolder, digits_folder: Path, tmp_path: Path
) -> None:
    report = evaluate(run, data=digits_folder, split="train", device="cpu", cache=tmp_path / "cache")
    assert report.split == "train" and report.flattered
