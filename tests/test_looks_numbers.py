"""Looks at the numbers of classifiers, at their networks and at what they cost."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from octavo.data.classes import load_table
from octavo.engine.cascaded import cascade_of
from octavo.engine.folder import RunFolder
from octavo.engine.restore import restore
from octavo.errors import UserError
from octavo.looks.classes import classes
from octavo.looks.confusion import confusion
from octavo.looks.cost import cost
from octavo.looks.look import Drawing, Look, Table
from octavo.looks.members import members
from octavo.looks.networks import networks, segmenter
from octavo.looks.reliability import reliability
from octavo.looks.speed import speed
from octavo.looks.subject import ClassifySubject, SegmentSubject
from octavo.numbers.confusions import similar_order
from octavo.numbers.ensemble import Ensemble
from octavo.numbers.grade import grade
from octavo.options import Options
from octavo.pictures.classes import interval_dots
from octavo.pictures.confusion import block_size
from octavo.pictures.style import drawn
from octavo.recipe import ClassifyRecipe
from octavo.tasks.classification.cascade import cascade
from octavo.tasks.classification.precision import precision
from octavo.tasks.classification.sections import SECTIONS as CLASSIFY
from octavo.tasks.classification.student import graduate
from octavo.tasks.known import subject_of
from octavo.tasks.segmentation.sections import SECTIONS as SEGMENT
from octavo.verbs.describe import describe
from octavo.verbs.explain import explain
from octavo.verbs.training import train

ALONE = """\
name = "alone"
data = {size = 32, resize = "stretch", stored = 32, normalize = "none", holdout = 0.25}
train = {epochs = 1, batch_size = 40}
[[members]]
name = "squeeze"
backbone = "squeezenet1_1"
weights = "none"
"""


@pytest.fixture(scope="module")
def subject(trained: RunFolder) -> ClassifySubject:
    found = subject_of(trained, "cpu")
    assert isinstance(found, ClassifySubject)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> ClassifySubject:
    """A run of one member."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "alone.toml").write_text(ALONE)
    options = Options(out=folder / "run", cache=folder / "cache", device="cpu")
    return ClassifySubject(train(folder / "alone.toml", digits_folder, (), options), "cpu")


def graded(size: int, n: int, absent: int = 0) -> Any:
    """A subject of so many classes with awkward names, of which the last `absent` have no image."""
    draw = np.random.default_rng(size)
    names = tuple(f"<script>${i}</script>" for i in range(size))
    labels = draw.integers(0, size - absent, n)
    logits = draw.normal(0, 1, (1, n, size)) + 3 * np.eye(size)[(labels + 7 * (draw.random(n) < 0.3)) % size]
    combination = Ensemble(("one",), "mean_logit", (1.0,))
    report = grade(["one"], logits, labels, names, combination, split="val", replicates=20)
    return SimpleNamespace(classes=names, labels=labels, predicted=logits[0].argmax(1), report=report)


def column(table: Table, name: str) -> list[Any]:
    place = table.columns.index(name)
    return [row[place] for row in table.rows]


def words(drawing: Drawing) -> str:
    return drawing.look.sees + " ".join(shown.caption for shown in drawing.look.shown)


def legible(drawing: Drawing) -> None:
    """Draw every figure and check that each of its panels with a scale has names on both axes."""
    for figure in drawing.figures.values():
        assert not isinstance(figure, bytes)
        drawn(figure)
        assert max(figure.get_size_inches()) <= 11.2
        for axes in figure.axes:
            bar = axes.get_label() == "<colorbar>"
            shared = bool(axes.get_shared_x_axes().get_siblings(axes)[1:])
            assert bar or shared or axes.get_xlabel(), "an axis without a name"
            texts = [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts]
            assert all(text.get_fontsize() >= 7 for text in texts)
        for legend in figure.legends:
            assert len(legend.get_texts()) <= 10


def test_up_to_twenty_classes_stand_in_their_own_order(subject: ClassifySubject) -> None:
    drawing = confusion(subject)
    shown = [text.get_text() for text in drawing.figures["confusion.png"].axes[0].get_yticklabels()]  # type: ignore
    assert shown == list(subject.classes) and "similarity" not in words(drawing)
    legible(drawing)


@pytest.mark.parametrize("size", [21, 50, 200])
def test_more_classes_stand_in_the_order_of_their_similarity(size: int) -> None:
    case = graded(size, 20 * size)
    drawing = confusion(case)
    assert "similarity" in words(drawing)
    axes = drawing.figures["confusion.png"].axes[0]  # type: ignore[union-attr]
    counts = confusion_matrix(case.labels, case.predicted, labels=range(size))
    image = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
    if size <= 70:
        labels = [text.get_text().replace("\\", "") for text in axes.get_yticklabels()]
        assert labels == [text.get_text().replace("\\", "") for text in axes.get_xticklabels()]
    else:
        places = drawing.look.tables[1]
        assert column(places, "places")[:2] == ["1–10", "11–20"] and len(axes.get_yticklabels()) == 20
        labels = ", ".join(column(places, "classes")).split(", ")
    ids = [case.classes.index(label) for label in labels]
    np.testing.assert_allclose(image, (counts / counts.sum(1, keepdims=True))[np.ix_(ids, ids)])
    assert ids == similar_order(counts).tolist() != list(range(size))
    legible(drawing)


@pytest.mark.parametrize(("classes_", "size"), [(71, 5), (125, 5), (126, 10), (200, 10), (251, 20), (501, 50)])
def test_blocks_are_round_and_few(classes_: int, size: int) -> None:
    assert block_size(classes_) == size


def test_the_commonest_confusions_are_listed(subject: ClassifySubject) -> None:
    table = confusion(subject).look.tables[0]
    counts = confusion_matrix(subject.labels, subject.predicted)
    np.fill_diagonal(counts, 0)
    assert column(table, "images") == sorted(counts[counts > 0].tolist(), reverse=True)[:15]
    ids = {name: i for i, name in enumerate(subject.classes)}
    for true, predicted, count, share in table.rows:
        own = subject.labels == ids[str(true)]
        assert count == (subject.predicted[own] == ids[str(predicted)]).sum()
        assert share == pytest.approx((subject.predicted[own] == ids[str(predicted)]).mean())


def test_classes_are_listed_from_the_worst_to_the_best(subject: ClassifySubject) -> None:
    drawing = classes(subject)
    assert drawing is not None
    table = drawing.look.tables[0]
    precision, recall, f1, support = precision_recall_fscore_support(subject.labels, subject.predicted, zero_division=0)  # type: ignore
    ids = [subject.classes.index(name) for name in column(table, "class")]
    assert column(table, "accuracy") == pytest.approx(recall[ids]) and (np.diff(recall[ids]) >= 0).all()
    assert column(table, "images") == support[ids].tolist()
    assert [x or 0 for x in column(table, "precision")] == pytest.approx(precision[ids])
    assert column(table, "F1") == pytest.approx(f1[ids])
    assert all(a <= b <= c for a, b, c in zip(*(column(table, k) for k in ("low", "accuracy", "high")), strict=True))
    for i, text in zip(ids, column(table, "most often taken for (images)"), strict=True):
        wrong = subject.predicted[(subject.labels == i) & (subject.predicted != i)]
        most = np.bincount(wrong, minlength=1)
        assert text == (f"{subject.classes[most.argmax()]} ({most.max()})" if wrong.size else None)
    legible(drawing)


@pytest.mark.parametrize(("size", "columns"), [(2, 1), (50, 1), (51, 2), (200, 4), (230, 4)])
def test_dots_of_up_to_two_hundred_classes_stand_in_columns(size: int, columns: int) -> None:
    drawing = classes(graded(size, 12 * size))
    assert drawing is not None
    figure = drawing.figures["classes.png"]
    assert len(figure.axes) == columns  # type: ignore[union-attr]
    assert len(drawing.look.tables[0].rows) == size
    assert ("200 worst of 230" in words(drawing)) == (size == 230)
    legible(drawing)


def test_dots_lie_at_their_values_and_are_told_from_the_rest() -> None:
    values, ends = np.array([0.2, 0.5, 0.9]), np.array([[0.1, 0.3], [0.4, 0.6], [0.8, 0.95]])
    figure = interval_dots(["a", "b", "c"], values, ends, what="share", lines={"mean": 0.5, "other": 0.1})
    marks = {line.get_marker(): line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1}
    assert {m: (line.get_xdata()[0], line.get_ydata()[0]) for m, line in marks.items()} == {
        "v": (0.2, 0), "o": (0.5, 1), "^": (0.9, 2)
    }  # fmt: skip
    reach = {tuple(seg[:, 0].round(9)) for c in figure.axes[0].collections for seg in c.get_segments()}  # type: ignore
    assert reach == {tuple(pair) for pair in ends.tolist()}
    assert len({line.get_color() for line in marks.values()}) == 3
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "mean (50.0 %)", "interval below that", "interval around that", "interval above that", "other (10.0 %)"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="expected 1"):
        interval_dots(["a"], values, ends, what="share", lines={"mean": 0.5})


def test_classes_without_images_come_last_and_are_a_warning() -> None:
    drawing = classes(graded(12, 200, absent=2))
    assert drawing is not None
    assert drawing.look.warnings == ("2 of 12 classes have no validation image.",)
    assert [row[2] for row in drawing.look.tables[0].rows[-2:]] == [None, None]
    assert len(drawing.figures["classes.png"].axes[0].get_yticklabels()) == 10  # type: ignore[union-attr]


def test_calibration_is_that_of_the_report(subject: ClassifySubject) -> None:
    drawing = reliability(subject)
    table, bins = drawing.look.tables
    assert column(table, "system") == ["vgg", "squeeze", "mobile", "ensemble"]
    for system, row in zip(subject.report.systems, table.rows, strict=True):
        metrics = [system.metrics[key].value for key in ("accuracy", "ece", "nll", "brier")]
        assert [row[1], *row[3:]] == pytest.approx(metrics)
    assert sum(column(bins, "images")) == len(subject.labels)
    gaps = [abs(c - a) * n for n, c, a in zip(*(column(bins, k) for k in ("images", "mean confidence", "accuracy")),
                                              strict=True)]  # fmt: skip
    assert sum(gaps) / len(subject.labels) == pytest.approx(subject.report.ensemble.metrics["ece"].value, abs=1e-6)
    assert "15 bins of equal width" in drawing.look.sees
    legible(drawing)


def test_members_are_compared_in_pairs_and_without_each(subject: ClassifySubject) -> None:
    drawing = members(subject)
    assert drawing is not None
    table, pairs = drawing.look.tables
    assert column(table, "weight") == pytest.approx([*subject.run.ensemble.weights, 1])
    predicted = dict(zip(subject.members, subject.logits.argmax(2), strict=True))
    own = [accuracy_score(subject.labels, predicted[name]) for name in subject.members]
    assert column(table, "accuracy")[:-1] == pytest.approx(own)
    adds = [entry.leave_one_out and entry.leave_one_out.value for entry in subject.report.contributions]
    assert column(table, "adds") == [*adds, None]
    assert len(pairs.rows) == 3
    for one, other, differ, wrong, by_chance in pairs.rows:
        a, b = predicted[str(one)], predicted[str(other)]
        assert differ == pytest.approx((a != b).mean())
        assert wrong == pytest.approx(((a != subject.labels) & (b != subject.labels)).mean())
        assert by_chance == pytest.approx((a != subject.labels).mean() * (b != subject.labels).mean())
    matrix = drawing.figures["disagreement.png"].axes[1].images[0].get_array()  # type: ignore[union-attr]
    assert np.asarray(matrix)[-1, -1] == pytest.approx(1 - accuracy_score(subject.labels, subject.predicted))
    legible(drawing)


def test_time_is_measured_and_never_put_among_the_numbers(trained: RunFolder, tmp_path: Path) -> None:
    run = RunFolder.open(shutil.copytree(trained.path, tmp_path / "run"))
    before = (run.path / "metrics.json").read_bytes()
    files = explain(run, ["cost"], device="cpu").pictures
    assert [file.name for file in files] == ["cost.png"]
    assert (run.path / "metrics.json").read_bytes() == before
    drawing = cost(ClassifySubject(run, "cpu"))
    table = drawing.look.tables[0]
    times = column(table, "median [ms per image]")
    assert column(table, "system") == ["vgg", "squeeze", "mobile", "ensemble"] and min(times) > 0
    used = [t for t, weight in zip(times, run.ensemble.weights, strict=False) if weight > 0]
    assert times[-1] == pytest.approx(sum(used))
    fastest = column(table, "system")[int(np.argmin(times))]
    assert dict(zip(column(table, "system"), column(table, "on the Pareto front"), strict=True))[fastest] == "yes"
    grown = drawing.look.tables[1]
    for one, other in ((-1, -1), (column(table, "system").index(column(grown, "added")[0]), 0)):
        same = column(table, "on the Pareto front")[one], column(grown, "on the Pareto front")[other]
        assert same[0] == same[1]  # the ensemble is the last prefix, the member that answers first the first
    assert "batches of 16 validation images" in drawing.look.sees and "(cpu, " in drawing.look.sees
    legible(drawing)


def test_what_makes_answers_faster_is_shown(trained: RunFolder, tmp_path: Path) -> None:
    run = RunFolder.open(shutil.copytree(trained.path, tmp_path / "run"))
    run.ensemble = replace(run.ensemble, combine="weighted", weights=(0.4, 0.3, 0.3))
    assert speed(ClassifySubject(run, "cpu")) is None
    half = precision(run, 100, device="cpu")
    run.bf16 = half.model_dump(mode="json")
    found = cascade(run, 20, device="cpu")
    assert found.found
    graduate(run, trained, lambda line: None)
    drawing = speed(ClassifySubject(run, "cpu"))
    assert drawing is not None
    whole, steps, own, student = drawing.look.tables
    assert drawing.look.source == "cascade.json, precision.json, distil.json"
    assert column(whole, "times as fast") == pytest.approx([1, found.speedup], abs=1e-6)
    assert column(whole, "accuracy") == [found.whole.value, found.accuracy.value]
    assert sum(column(steps, "stop here")) == pytest.approx(1)
    assert column(own, "time [ms per image]") == pytest.approx(list(half.milliseconds), abs=1e-6)
    assert run.distil and column(student, "accuracy")[2] == run.distil.student_accuracy.value
    assert f"{found.speedup:.1f} times as fast as the whole ensemble" in drawing.look.sees
    explain(run, ["speed"], device="cpu")
    assert of_now(run, "speed")
    run.bf16 = None
    assert not of_now(run, "speed")  # it has changed: the next report looks anew
    with pytest.raises(UserError, match="its members answer in another precision since"):
        cascade_of(run)
    assert speed(ClassifySubject(run, "cpu")).look.source == "distil.json"  # type: ignore[union-attr]
    run.cascade = (run.cascade or {}) | {"bf16": []}
    run.bf16 = half.model_dump(mode="json")
    assert speed(ClassifySubject(run, "cpu")).look.source == "precision.json, distil.json"  # type: ignore[union-attr]
    explain(run, ["speed", "members", "history"], device="cpu")
    run.prune(replace(run.ensemble, weights=(0.5, 0.5, 0.0)))
    assert not of_now(run, "speed") and not of_now(run, "members") and of_now(run, "history")
    again = speed(ClassifySubject(run, "cpu"))
    assert again and again.look.source == "distil.json"  # cascade and bfloat16 were of another ensemble


def of_now(run: RunFolder, name: str) -> bool:
    """Tell whether a look that was taken shows the run as it is."""
    look = Look.from_json(run.explained(f"{name}.json").read_text(encoding="utf-8"))
    return look.state == run.state(CLASSIFY[name].of)


def test_what_runs_networks_is_thorough() -> None:
    assert [name for name in ("confusion", "classes", "reliability", "members", "cost") if CLASSIFY[name].thorough] == [
        "cost"
    ]
    assert list(CLASSIFY)[-1] == list(SEGMENT)[-1] == "networks"


def test_networks_are_described_as_octavo_describe_does(subject: ClassifySubject) -> None:
    look = networks(subject).look
    said = describe(subject.recipe, classes=len(subject.classes))
    assert list(look.texts) == list(subject.members)
    assert all(text in said for text in look.texts.values())
    totals = dict(zip(column(look.tables[0], "member"), column(look.tables[0], "in all"), strict=True))
    for name in subject.members:
        net = restore(subject.run, name, torch.device("cpu")).net
        assert totals[name] == sum(p.numel() for p in net.parameters())
    assert totals["sum"] == sum(totals[name] for name in subject.members)


def test_a_segmenter_is_described_with_the_papers_diagram(segmented: RunFolder) -> None:
    look = segmenter(SegmentSubject(segmented)).look
    (text,) = look.texts.values()
    assert text.startswith("paper's diagram") and "→ 7×48×48" in text
    assert text in describe(segmented.recipe, classes=len(load_table("course").trained))


def test_a_run_of_one_member_has_what_makes_sense(alone: ClassifySubject) -> None:
    assert isinstance(alone.recipe, ClassifyRecipe) and alone.members == ("squeeze",)
    assert members(alone) is None
    calibration = reliability(alone)
    assert column(calibration.look.tables[0], "system") == ["squeeze"]
    assert "each member" not in [t.get_text() for t in calibration.figures["reliability.png"].legends[0].get_texts()]  # type: ignore
    time = cost(alone).look
    assert not time.shown and column(time.tables[0], "system") == ["squeeze"]
    assert column(networks(alone).look.tables[0], "member") == ["squeeze"]
    for look in (confusion, classes, reliability):
        drawing = look(alone)
        assert drawing is not None
        legible(drawing)
