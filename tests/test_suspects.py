"""Labels that are probably wrong: how many of those that are named are, and what a run's look says of them."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from conftest import reseal
from octavo.engine.folder import RunFolder
from octavo.looks.look import Drawing
from octavo.looks.subject import ClassifySubject
from octavo.looks.suspects import LIST, suspects
from octavo.numbers.calibration import NONE
from octavo.numbers.suspects import label_suspects
from octavo.pictures.style import drawn
from octavo.tasks.known import subject_of


def classified(count: int = 4000, classes: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True labels, and probabilities of a classifier that is right on four of five images.

    Classes lie in pairs that are taken for one another, and some images are harder than others.
    """
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, count)
    logits = draw.normal(0, 1.0, (count, classes))
    logits[np.arange(count), truth] += draw.gamma(4, 1.2, count)
    logits[np.arange(count), truth ^ 1] += draw.gamma(2, 1.0, count)
    return truth, softmax(logits, axis=1)


def flipped(truth: np.ndarray, classes: int, share: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a share is another class, and which those are."""
    draw = np.random.default_rng(seed)
    bad = draw.random(len(truth)) < share
    return np.where(bad, (truth + draw.integers(1, classes, len(truth))) % classes, truth), bad


@pytest.mark.parametrize("seed", range(3))
def test_the_first_that_are_named_are_wrong_and_few_are_missed(seed: int) -> None:
    truth, probabilities = classified(seed=seed)
    assert 0.75 < (probabilities.argmax(1) == truth).mean() < 0.85
    labels, bad = flipped(truth, 20, 0.05, seed + 10)
    found = label_suspects(labels, probabilities)
    right = bad[found.indices]
    assert right[:24].all() and right[:100].mean() > 0.8
    assert right.mean() > 0.45 and right.sum() > 0.8 * bad.sum()
    naive = probabilities.argmax(1) != labels  # every mistake: what it must be better than
    assert right.mean() > 2 * bad[naive].mean()
    assert (found.suggested[right] == truth[found.indices[right]]).mean() > 0.7
    np.testing.assert_array_equal(found.self_confidence, probabilities[found.indices, labels[found.indices]])
    np.testing.assert_array_equal(found.confidence, probabilities[found.indices].max(1))
    assert (np.diff(found.self_confidence) >= 0).all() and (found.suggested != labels[found.indices]).all()


def test_as_many_are_named_as_the_paper_counts() -> None:
    truth, probabilities = classified(1000, 6)
    labels, _ = flipped(truth, 6, 0.1)
    # Section 3.1 of the paper, written out: confidently another class, the threshold being a class's mean probability.
    thresholds = np.array([probabilities[labels == k, k].mean() for k in range(6)])
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    off = (confident.max(1) > 0) & (confident.argmax(1) != labels) & (probabilities.argmax(1) != labels)
    own = probabilities[np.arange(1000), labels]
    least = np.argsort(own)[: off.sum()]
    expected = least[probabilities[least].argmax(1) != labels[least]]
    np.testing.assert_array_equal(label_suspects(labels, probabilities).indices, expected)
    assert 50 < len(expected) < 200


def test_classes_without_images_change_nothing_but_may_be_suggested() -> None:
    truth, probabilities = classified(600, 6)
    labels, _ = flipped(truth, 6, 0.05)
    without = label_suspects(labels, probabilities)
    wide = np.zeros((600, 9))
    places = np.array([1, 2, 4, 5, 7, 8])
    wide[:, places] = probabilities
    found = label_suspects(places[labels], wide)
    np.testing.assert_array_equal(found.indices, without.indices)
    np.testing.assert_array_equal(found.suggested, places[without.suggested])
    first = int(without.indices[0])
    wide[first] = np.eye(9)[0] * 0.99 + wide[first] * 0.01
    assert label_suspects(places[labels], wide).suggested[0] == 0


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [
        ([], np.zeros((0, 2))),
        ([0], [[0.1, 0.9]]),
        ([0, 1], [[0.1, 0.9], [0.9, 0.1]]),
        ([1, 1, 1], [[0.9, 0.1]] * 3),
        ([0, 0, 2, 2], [[1, 0, 0]] * 4),
        ([3, 0], [[0, 1, 0, 0], [0, 1, 0, 0]]),
    ],
)
def test_small_sets_give_an_answer(labels: list[int], probabilities: list[list[float]]) -> None:
    found = label_suspects(np.array(labels, np.int64), np.array(probabilities, np.float64))
    assert len(found.indices) == len(found.suggested) == len(found.self_confidence) <= len(labels)


def test_two_classes_and_a_single_wrong_label() -> None:
    probabilities = np.tile([[0.95, 0.05], [0.05, 0.95]], (10, 1))
    labels = np.tile([0, 1], 10)
    assert not len(label_suspects(labels, probabilities).indices)
    labels[4] = 1
    found = label_suspects(labels, probabilities)
    assert found.indices.tolist() == [4] and found.suggested.tolist() == [0]


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    label_suspects(*classified(50, 40))  # classes of one image: the library warns of them
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [[0.5, 0.5]], "expected labels"),
        ([0], [[1.0]], "expected labels"),
        ([2], [[0.5, 0.5]], "outside"),
        ([-1], [[0.5, 0.5]], "outside"),
        ([0], [[0.5, 0.1]], "sum to one"),
        ([0], [[np.nan, 0.1]], "sum to one"),
    ],
)
def test_what_is_no_probability_is_refused(labels: list[int], probabilities: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_suspects(np.array(labels), np.array(probabilities))


def outputs_of(trained: RunFolder, folder: Path, planted: dict[str, dict[int, int]]) -> RunFolder:
    """A copy of a run whose members name the true class of every image, but another of those that are planted."""
    run = RunFolder.open(shutil.copytree(trained.path, folder))
    run.ensemble = replace(run.ensemble, calibration=NONE, own=())
    for name in run.ensemble.names:
        outputs = {}
        for part in load_file(run.member(name).folder / "outputs.safetensors"):
            named = run.labels(part)
            for index, other in planted.get(part, {}).items():
                named[index] = other
            outputs[part] = 8 * np.eye(10, dtype=np.float32)[named]
        save_file(outputs, run.member(name).folder / "outputs.safetensors")
    reseal(run)
    return run


def looked(run: RunFolder) -> tuple[ClassifySubject, Drawing]:
    subject = subject_of(run, "cpu")
    assert isinstance(subject, ClassifySubject)
    return subject, suspects(subject)


def test_a_runs_wrong_labels_are_listed_and_drawn(trained: RunFolder, tmp_path: Path) -> None:
    labels = trained.labels("val")
    planted = {3: (int(labels[3]) + 1) % 10, 30: (int(labels[30]) + 5) % 10}
    held = trained.labels("holdout")
    subject, drawing = looked(
        outputs_of(trained, tmp_path / "run", {"val": planted, "holdout": {2: (int(held[2]) + 1) % 10}})
    )
    look = drawing.look
    assert f"2 of {len(labels)} validation images (5.0 %)" in look.sees
    assert f"1 of {len(held)} held-out training images" in look.sees
    assert "networks that were not trained on the image" in look.sees and "Northcutt" in look.sees
    first, second = look.tables
    assert {(row[1], row[2], row[3]) for row in first.rows} == {
        (subject.files[i], subject.classes[labels[i]], subject.classes[other]) for i, other in planted.items()
    }
    assert first.rows[0][4] == pytest.approx(1 / (np.exp(8) + 9), abs=1e-6)
    assert [row[1] for row in second.rows] == [trained.files("holdout")[2]]
    assert sorted(drawing.figures) == ["suspects.png", "suspects_holdout.png"]
    listed = list(csv.DictReader(drawing.files[LIST].decode().splitlines()))
    assert [row["part"] for row in listed].count("val") == 2 and len(listed) == 3
    for row in listed:
        other = {subject.files[i]: subject.classes[k] for i, k in planted.items()}
        assert row["suggested"] == other.get(row["file"], subject.classes[(int(held[2]) + 1) % 10])
        assert (
            float(row["self_confidence"]) < 0.01 < 0.99 < float(row["suggested_probability"]) and not row["corrected"]
        )
    assert all(drawn(figure).startswith(b"\x89PNG") for figure in drawing.figures.values())
    texts = [text.get_text() for text in drawing.figures["suspects.png"].texts]
    assert any(text.startswith("label ") and text.endswith(", 0.0 %") for text in texts)
    # greedy weights were chosen on the held-out images: a reader must know
    assert subject.report.fitted_on == "holdout"
    assert "held-out training images served to choose the ensemble's weights" in look.sees
    assert "The validation images served" not in look.sees and not look.warnings


def test_the_held_out_images_that_are_drawn_are_those_that_are_named(trained: RunFolder, tmp_path: Path) -> None:
    held = trained.labels("holdout")
    subject, drawing = looked(outputs_of(trained, tmp_path / "run", {"holdout": {2: (int(held[2]) + 1) % 10}}))
    row = trained.files("holdout")[2]
    place = [entry["file"] for entry in trained.samples()].index(row)
    from octavo.pictures.sheets import enlarged

    (axes,) = drawing.figures["suspects_holdout.png"].axes
    expected = enlarged(subject.pixels.image(place).transpose(1, 2, 0), 320)
    np.testing.assert_array_equal(axes.images[0].get_array(), expected)


def test_where_no_label_is_suspicious_it_is_said(trained: RunFolder, tmp_path: Path) -> None:
    _, drawing = looked(outputs_of(trained, tmp_path / "run", {}))
    assert "0 of 40 validation images (0.0 %)" in drawing.look.sees
    assert not drawing.figures and not drawing.look.tables
