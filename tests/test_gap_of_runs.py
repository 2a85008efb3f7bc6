"""Runs whose validation images are unlike their held-out ones: told wherever their numbers are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import Octavo, reseal
from octavo.engine.folder import RunFolder
from octavo.engine.member_folder import MemberFolder
from octavo.files import write_csv
from octavo.numbers.results import Interval
from octavo.numbers.speed_results import DistilReport
from octavo.page.beware import beware
from octavo.tasks.known import subject_of, task_of
from octavo.tasks.segmentation.evaluation import regrade_masks

WORDS = "more of a gap than sampling explains"


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the trained run whose validation images have other labels."""
    copied = RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))
    moved = {str(i): str((i + 1) % 10) for i in range(10)}
    rows = [row | ({"label": moved[row["label"]]} if row["part"] == "val" else {}) for row in copied.samples()]
    write_csv(copied.path / "samples.csv", rows)
    reseal(copied)
    return copied


def test_a_gap_between_held_out_and_validation_images_is_told(run: RunFolder, run_cli: Octavo) -> None:
    code, out, _ = run_cli("evaluate", run.path)
    assert code == 0 and WORDS in " ".join(out.split())
    (said,) = [text for text in run.metrics.warnings if WORDS in text]
    assert said.startswith("accuracy of the members' plain mean is 0.") and "40 held-out training images" in said
    subject = subject_of(run)
    findings = task_of(run.recipe).summary(subject).findings
    assert any(WORDS in text for text in beware(subject, findings).warnings)


def test_without_a_gap_nothing_is_said(trained: RunFolder, segmented: RunFolder) -> None:
    for one in (trained, segmented):
        assert not any(WORDS in text for text in one.metrics.warnings)


def test_a_gap_in_miou_is_told(segmented: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(Path(shutil.copytree(segmented.path, tmp_path / "run")))
    monkeypatch.setattr("octavo.tasks.segmentation.evaluation.alone", lambda run, part: None)  # knows four images alone
    own = run.member("segmenter").outputs()
    truth = np.concatenate([own["holdout"], own["val"]]).sum(axis=2)
    right = np.stack([np.diag(row) for row in truth])
    wrong = np.roll(right, 1, axis=2)
    wrong[:, :, -1] = 0
    monkeypatch.setattr(
        MemberFolder, "outputs", lambda self: {"holdout": np.repeat(right, 3, 0), "val": np.repeat(wrong, 4, 0)}
    )
    report = regrade_masks(run)
    (said,) = [text for text in report.warnings if WORDS in text]
    assert said.startswith("mIoU (mmsegmentation) is 1.000 on 21 held-out training images and 0.")


def student(**numbers: float | None) -> DistilReport:
    some = Interval(value=0.8, low=0.7, high=0.9)
    fixed = {"best_accuracy": some, "ensemble_accuracy": some, "student_accuracy": some, "gain": some, "gap": some}
    return DistilReport(student="a", best="b", scored=40, rule="", **fixed, **numbers)  # type: ignore[arg-type]


def test_what_a_student_keeps_is_said_of_a_sure_gain_alone() -> None:
    assert student(share=0.8, above_p=0.01).kept == "the student keeps 80% of the ensemble's gain over its best member"
    assert student(share=0.8).kept.startswith("the student keeps 80%")  # a report of before
    unsure = student(share=0.8, above_p=0.375).kept
    assert "within chance here (p = 0.38)" in unsure and "80" not in unsure
    assert "keeps none" in student(share=-0.5, above_p=0.01).kept
    assert "no gain to keep" in student(share=None).kept
