"""The worst mistakes and the least certain images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conftest import reseal
from octavo.engine.folder import RunFolder
from octavo.looks.mistakes import mistakes
from octavo.looks.subject import ClassifySubject
from octavo.numbers.ensemble import Ensemble
from octavo.numbers.ranking import least_certain, second, surest, worst_mistakes
from octavo.pictures.sheets import enlarged
from octavo.pictures.style import drawn
from octavo.tasks.known import subject_of

FOUND = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.05, 0.9, 0.05], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7]])
TRUE, NAMED = np.array([0, 0, 0, 1, 2]), np.array([0, 2, 1, 0, 2])


def test_mistakes_are_in_the_order_of_their_confidence() -> None:
    assert worst_mistakes(TRUE, NAMED, FOUND).tolist() == [2, 1, 3]
    assert worst_mistakes(NAMED, NAMED, FOUND).tolist() == []


def test_the_margin_is_that_of_the_two_most_probable_classes() -> None:
    order, margin = least_certain(FOUND)
    assert order.tolist() == [3, 1, 0, 4, 2]
    np.testing.assert_allclose(margin, [0.3, 0.2, 0.85, 0, 0.5])
    draw = np.random.default_rng(0).dirichlet(np.ones(9), 200)
    ordered = np.sort(draw, axis=1)
    np.testing.assert_allclose(least_certain(draw)[1], ordered[:, -1] - ordered[:, -2])


def test_the_second_class_is_never_the_predicted_one() -> None:
    assert second(FOUND, NAMED).tolist() == [1, 1, 0, 1, 1]


def test_the_surest_are_of_as_many_classes_as_there_are() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    found = np.array([[0.99, 0.01, 0], [0.98, 0.02, 0], [0.1, 0.9, 0], [0.3, 0.7, 0], [0.9, 0, 0.1]])
    assert surest(labels, found.argmax(1), found).tolist() == [0, 2, 1, 3]


def run_of(trained: RunFolder, folder: Path, logits: np.ndarray) -> ClassifySubject:
    """A copy of a run whose members all say the same of the validation images."""
    run = RunFolder.open(shutil.copytree(trained.path, folder))
    run.ensemble = Ensemble(run.ensemble.names, run.ensemble.combine, run.ensemble.weights)  # not calibrated
    for name in run.ensemble.names:
        path = run.member(name).folder / "outputs.safetensors"
        save_file(load_file(path) | {"val": logits.astype(np.float32)}, path)
    reseal(run)
    subject = subject_of(run, "cpu")
    assert isinstance(subject, ClassifySubject)
    return subject


def test_a_runs_mistakes_are_drawn_in_order_with_their_tables(trained: RunFolder, tmp_path: Path) -> None:
    labels = trained.labels("val")
    logits = 9 * np.eye(10)[labels]
    planted = {5: 6.0, 11: 9.0, 20: 3.0}  # image → the logit of a wrong class, over a true class of 0.5
    for index, value in planted.items():
        logits[index] = 0
        logits[index, labels[index]] = 0.5
        logits[index, (labels[index] + 1) % 10] = value
    subject = run_of(trained, tmp_path / "run", logits)
    drawing = mistakes(subject)
    worst, unsure = drawing.look.tables
    assert [row[1] for row in worst.rows] == [subject.files[i] for i in (11, 5, 20)]
    shares = np.exp(9) / (np.exp(9) + np.exp(0.5) + 8), np.exp(0.5) / (np.exp(9) + np.exp(0.5) + 8)
    truth, other = subject.classes[labels[11]], subject.classes[(labels[11] + 1) % 10]
    assert worst.rows[0][2:4] == (truth, other) and worst.rows[0][5] == truth
    assert (worst.rows[0][4], worst.rows[0][6], worst.rows[0][7]) == pytest.approx(
        (shares[0], shares[1], shares[1]), abs=1e-8
    )
    assert [row[1] for row in unsure.rows[:2]] == [subject.files[20], subject.files[5]]
    assert len(unsure.rows) == 24 and unsure.rows[0][7] == pytest.approx(unsure.rows[0][4] - unsure.rows[0][6])
    assert "has 3 of 40 validation images wrong, 2 of them with a probability of at least 90 %" in drawing.look.sees
    sheet = drawing.figures["mistakes.png"]
    assert len(sheet.axes) == 3 and len(drawing.figures["least_certain.png"].axes) == 24
    np.testing.assert_array_equal(sheet.axes[0].images[0].get_array(), enlarged(subject.picture(11), 320))
    assert [text.get_text() for text in sheet.texts[:3]] == [
        "1",
        f"true {truth}",
        f"→ {other}, {100 * shares[0]:.0f} %",
    ]
    assert all(drawn(figure).startswith(b"\x89PNG") for figure in drawing.figures.values())


def test_where_nothing_is_wrong_it_is_said(trained: RunFolder, tmp_path: Path) -> None:
    subject = run_of(trained, tmp_path / "run", 9 * np.eye(10)[trained.labels("val")])
    drawing = mistakes(subject)
    assert "has none of the 40 validation images wrong" in drawing.look.sees
    assert list(drawing.figures) == ["least_certain.png"] == [shown.file for shown in drawing.look.shown]
    assert [table.title for table in drawing.look.tables] == ["The least certain images"]
