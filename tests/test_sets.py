"""Prediction sets of a run: fitted on images that nothing was fitted on, tried on others, written for new ones."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from conftest import Octavo, reseal
from octavo.engine.folder import RunFolder
from octavo.engine.sets import first_half, half_tried, sets_of
from octavo.errors import UserError
from octavo.files import write_csv
from octavo.looks.subject import ClassifySubject
from octavo.looks.trust import trust
from octavo.tasks.classification.evaluation import evaluate
from octavo.tasks.classification.predictor import ClassPredictor


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the trained run."""
    return RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))


def test_sets_for_new_images_are_fitted_on_all_of_val(run: RunFolder, digits_folder: Path) -> None:
    fitted = sets_of(run, 0.9)
    assert fitted.n == len(run.labels("val"))
    stack = np.stack([run.member(n).outputs()["val"] for n in run.ensemble.names])
    probabilities = softmax(run.ensemble.logits(stack), axis=1)
    scores = np.sort(1 - probabilities[np.arange(fitted.n), run.labels("val")])
    assert fitted.thresholds[0] == pytest.approx(scores[int(np.ceil((fitted.n + 1) * 0.9)) - 1])
    found = ClassPredictor(run, "cpu", coverage=0.9).predict([digits_folder / "val_10"])
    assert found.sets is not None and found.sets[np.arange(len(found.ids)), found.ids].all()
    order = [found.files.index(Path(file).name) for file in run.files("val")]
    assert found.sets[order][np.arange(fitted.n), run.labels("val")].mean() >= 0.9


def test_halves_are_apart_and_the_same_every_time(run: RunFolder) -> None:
    found = half_tried(run, 0.8)
    n = len(run.labels("val"))
    assert found.fitted + found.scored == n and abs(found.fitted - n / 2) <= 5
    assert half_tried(run, 0.8) == found and sum(s.images for s in found.by_size) == found.scored
    assert found.mean_size == pytest.approx(sum(s.size * s.images for s in found.by_size) / found.scored)


def test_groups_are_in_one_half(run: RunFolder) -> None:
    path = run.path / "samples.csv"
    rows = run.samples()
    for number, row in enumerate(row for row in rows if row["part"] == "val"):
        row["group"] = f"patient {number % 7}"
    write_csv(path, [{"group": ""} | row for row in rows])
    reseal(run)
    first, groups = first_half(run), run.groups("val")
    assert groups is not None and len(set(groups)) == 7
    halves = [set(groups[rows]) for rows in (first, ~first)]
    assert not halves[0] & halves[1] and abs(first.sum() - len(first) / 2) <= len(first) / 7
    assert set(run.labels("val")[~first]) == set(run.labels("val"))
    assert (first_half(run) == first).all() and (first_half(run, 5) != first).any()
    tried = half_tried(run, 0.8)
    assert tried.fitted == first.sum() and "they are too narrow" in tried.rule
    for row in rows:
        row["group"] = row["label"]
    write_csv(path, rows)
    reseal(run)
    first = first_half(run)  # each group has all of its class
    assert 0.3 < first.mean() < 0.7 and not set(run.labels("val")[first]) & set(run.labels("val")[~first])
    for row in rows:
        row["group"] = "all"
    write_csv(path, rows)
    reseal(run)
    with pytest.raises(UserError, match="are of one group, which can't be divided in halves"):
        half_tried(run, 0.8)


def test_too_few_images_are_told(run: RunFolder) -> None:
    with pytest.raises(UserError, match=r"0\.99 takes at least 99 images to fit on, there are"):
        sets_of(run, 0.99)


def test_a_run_chosen_on_val_promises_nothing(run: RunFolder) -> None:
    path = run.path / "recipe.toml"
    path.write_text(path.read_text().replace('fit_on = "holdout"', 'fit_on = "val"'))
    reseal(run)
    with pytest.raises(UserError, match="was chosen on its validation images"):
        sets_of(run, 0.8)


def test_evaluation_of_other_images_tries_sets_of_all_val(run: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    for file in (digits_folder / "val_10").glob("*_1[67].png"):
        folder = tmp_path / "other" / file.name.partition("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(Image.open(file)) ^ 1).save(folder / file.name)
    report = evaluate(run, data=tmp_path / "other", device="cpu", cache=tmp_path / "cache", coverage=0.8, sets="aps")
    assert report.sets and (report.sets.fitted, report.sets.scored) == (len(run.labels("val")), report.n)
    assert report.sets.method == "aps" and run.metrics.sets is None


def test_look_shows_gap_calibration_and_sets(run: RunFolder) -> None:
    drawing = trust(ClassifySubject(run, "cpu"))
    assert drawing and next(t.title.split(",")[0] for t in drawing.look.tables) == "The ensemble"
    assert len(drawing.look.tables) == 3 and "optimism gap" in drawing.look.sees


def test_on_the_command_line(run: RunFolder, digits_folder: Path, tmp_path: Path, run_cli: Octavo) -> None:
    image = next((digits_folder / "val_10").glob("*.png"))
    out = tmp_path / "out.csv"
    assert run_cli("predict", run.path, image, "--out", out, "--coverage", 0.8, "--device", "cpu")[0] == 0
    with out.open(newline="") as lines:
        row = next(csv.DictReader(lines))
    assert row["label"] in row["set"].split("|")
    code, shown, _ = run_cli("evaluate", run.path, "--coverage", 0.8, "--score-like-reference")
    assert code == 0
    assert "Prediction sets (lac): 80 % asked" in shown and "flattered" in shown and "optimism gap" in shown
    assert run_cli("predict", run.path, image, "--out", out, "--coverage", 0.8, "--member", "squeeze")[0] == 2
    assert run_cli("evaluate", run.path, "--coverage", 2)[0] == 2
    assert run_cli("evaluate", run.path, "--coverage", 0.8, "--sets", "nope")[0] == 2
