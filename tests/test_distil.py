"""A student: its loss, its teacher's answers, its run and its report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from conftest import Octavo
from octavo.cache import caches
from octavo.engine.folder import RunFolder
from octavo.engine.goals import ClassifyGoal, DistilGoal
from octavo.engine.restore import batch_of, restore_all, together
from octavo.errors import UserError
from octavo.recipe import ClassifyRecipe
from octavo.verbs.distil import compared


@pytest.fixture
def copied(trained: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(trained.path, tmp_path / "run")
    return RunFolder.open(tmp_path / "run")


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (2.0, 0.9), (4.0, 0.5), (3.0, 0.0)])
def test_the_loss_is_hintons(temperature: float, weight: float) -> None:
    """Against NumPy and SciPy: w T² KL(teacher ‖ student) at T, and (1 - w) cross-entropy."""
    draw = np.random.default_rng(0)
    teacher, student, labels = draw.normal(size=(7, 5)), draw.normal(size=(7, 5)), draw.integers(0, 5, 7)
    soft = softmax(teacher / temperature, axis=1)
    kl = (soft * (np.log(soft) - log_softmax(student / temperature, axis=1))).sum(1).mean()
    cross = -log_softmax(student, axis=1)[np.arange(7), labels].mean()
    goal = DistilGoal(ClassifyGoal(5), temperature, weight)
    targets = torch.from_numpy(np.concatenate([teacher, labels[:, None]], axis=1)).float()
    found = goal.loss(torch.from_numpy(student).float(), targets)
    assert float(found) == pytest.approx(weight * temperature**2 * kl + (1 - weight) * cross, rel=1e-5)


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_a_student_learns_from_the_ensembles_answers(
    mode: str, copied: RunFolder, tmp_path: Path, run_cli: Octavo, cache: Path
) -> None:
    words = ["--set", f"train.mode={mode}", "--set", "train.epochs=2", "--no-report", "--out", str(tmp_path / "s")]
    if mode == "frozen":
        words += ["--set", "augment.hflip=0", "--set", "train.cache=false"]
    code, out, err = run_cli("distil", str(copied.path), "--student", "mobile", *words)
    assert code == 0, err
    student = RunFolder.open(tmp_path / "s")
    report = json.loads((student.path / "distil.json").read_text())
    assert "best single" in out and report["scored"] == 40 and report["student"] == "mobile"
    recipe = student.recipe_as(ClassifyRecipe)
    assert recipe.distil.run == str(copied.path) and len(recipe.members) == 1
    kept = next(e for e in caches(cache) if e.kind == "features" and np.load(e.path / "features.npy").shape[2] == 10)
    answers = np.load(kept.path / "features.npy")[0]
    images = [np.asarray(picture) for picture in pictures(copied, 5)]
    members = restore_all(copied, copied.ensemble.names, torch.device("cpu"))
    expected = copied.ensemble.logits(together(members, batch_of(images)))
    np.testing.assert_allclose(answers[:5], expected, atol=1e-3)


def pictures(run: RunFolder, count: int) -> list[np.ndarray]:
    from octavo.data.pixels import decode

    recipe, root = run.recipe_as(ClassifyRecipe), Path(run.manifest["data"]["root"])
    return [decode(root / row["file"], side=recipe.stored_side) for row in run.samples()[:count]]


def test_the_share_of_the_gain(copied: RunFolder) -> None:
    """A run as its own student keeps all of it."""
    report = compared(copied, copied)
    labels, names = copied.labels("val"), copied.ensemble.names
    each = {name: (copied.member(name).outputs()["val"].argmax(1) == labels).mean() for name in names}
    assert report.best_accuracy.value == max(each.values()) == each[report.best]
    assert report.gap.value == 0
    whole, best = report.ensemble_accuracy.value, report.best_accuracy.value
    assert report.share == (pytest.approx(1.0) if whole > best else None)
    assert report.gain.value == pytest.approx(whole - best)


def test_a_stopped_student_goes_on(copied: RunFolder, tmp_path: Path, run_cli: Octavo, cache: Path) -> None:
    words = ["distil", str(copied.path), "--student", "mobile", "--no-report", "--out", str(tmp_path / "s")]
    assert run_cli(*words, "--set", "train.epochs=1")[0] == 0
    code, out, err = run_cli(
        "distil", str(copied.path), "--student", "mobile", "--out", str(tmp_path / "s"), "--resume"
    )
    assert code == 0 and "student" in out, err


def test_what_cannot_teach_is_refused(
    copied: RunFolder, segmented: RunFolder, tmp_path: Path, run_cli: Octavo, cache: Path
) -> None:
    out = ["--out", str(tmp_path / "s"), "--no-report"]
    code, _, err = run_cli("distil", str(segmented.path), "--student", "resnet18", *out)
    assert code == 2 and len(err.strip().splitlines()) == 1
    code, _, err = run_cli("distil", str(copied.path), "--student", "mobil", *out)
    assert code == 2 and "mobil" in err
    code, _, err = run_cli("distil", str(copied.path), "--student", "mobile", "--set", "augment.mixup=0.2", *out)
    assert code == 2 and "teacher's answers can't be mixed" in err
    manifest = json.loads((copied.path / "manifest.json").read_text())
    manifest["classes"][3] = "another"
    (copied.path / "manifest.json").write_text(json.dumps(manifest))
    code, _, err = run_cli("distil", str(copied.path), "--student", "mobile", *out)
    assert code == 2 and "other classes than these data" in err
    assert not (tmp_path / "s").exists()


def test_other_images_are_not_compared(copied: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(copied.path, tmp_path / "other")
    other = RunFolder.open(tmp_path / "other")
    real = RunFolder.labels
    monkeypatch.setattr(
        RunFolder, "labels", lambda self, part: real(self, part)[::-1] if self.path == other.path else real(self, part)
    )
    with pytest.raises(UserError, match="its validation images aren't those of"):
        compared(copied, other)
