"""The looks at a segmenter's run: what they say, and the figures by their pixels."""

from __future__ import annotations

import csv
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from sklearn.metrics import accuracy_score, jaccard_score, precision_score, recall_score

from conftest import reseal
from octavo.data.classes import IGNORE, ClassEntry, ClassTable, load_table
from octavo.data.masks import paint
from octavo.engine.folder import RunFolder
from octavo.files import write_csv
from octavo.looks.iou import classes_of_masks, epochs
from octavo.looks.legend import ids_of, legend_of
from octavo.looks.scenes import scenes
from octavo.looks.subject import SegmentSubject
from octavo.looks.worst import worst
from octavo.pictures.curves import training_curves
from octavo.pictures.iou import ClassIou, apart, iou_curves, iou_dots
from octavo.pictures.scenes import Scene, error_map, scene_table
from octavo.pictures.style import PALETTE, drawn

DRAW = np.random.default_rng(0)
WIDE = ClassTable("wide", tuple(ClassEntry(f"c{i}", i, (i, 255 - i, 7 * i % 256), ignored=i == 30) for i in range(31)))


@pytest.fixture(scope="module")
def subject(segmented: RunFolder) -> SegmentSubject:
    return SegmentSubject(segmented)


def pixels(subject: SegmentSubject) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """True and predicted channels of each validation image, read from the files."""
    truth = [subject.truth(i).ravel() for i in range(len(subject.files))]
    painted = [subject.predicted(i) for i in range(len(subject.files))]
    return truth, [ids_of(p, subject.run.table).ravel() for p in painted if p is not None]


def ious(truth: np.ndarray, predicted: np.ndarray, labels: range) -> np.ndarray:
    """Scikit-learn's IoU of each class; not a number where it occurs in neither."""
    found = jaccard_score(truth, predicted, labels=labels, average=None, zero_division=0)
    return np.where([((truth == c) | (predicted == c)).any() for c in labels], found, np.nan)


# looks


def test_the_worst_images_come_first_with_scikit_learns_numbers(subject: SegmentSubject) -> None:
    drawing = worst(subject)
    assert drawing is not None and not drawing.figures
    rows = drawing.look.tables[0].rows
    truth, predicted = pixels(subject)
    scores = {n: accuracy_score(t, p) for n, t, p in zip(subject.mask_names, truth, predicted, strict=True)}
    assert [row[0] for row in rows] == sorted(scores, key=lambda name: scores[name])
    for name, accuracy, miou, count, pair, share in rows:
        i = subject.mask_names.index(str(name))
        assert accuracy == pytest.approx(scores[str(name)]) and count == truth[i].size
        assert miou == pytest.approx(jaccard_score(truth[i], predicted[i], average="macro", zero_division=0))
        true, taken = (subject.classes.index(word) for word in str(pair).split(" → "))
        assert share == pytest.approx(((truth[i] == true) & (predicted[i] == taken)).mean())


def test_scenes_are_the_worst_the_middle_and_the_best(subject: SegmentSubject) -> None:
    drawing = scenes(subject)
    assert drawing is not None
    figure = drawing.figures["scenes.png"]
    assert not isinstance(figure, bytes)
    texts = [text.get_text() for text in figure.texts]
    ranked = worst(subject)
    assert ranked is not None
    for row in ranked.look.tables[0].rows:
        assert row[0] in texts
    assert [text.partition(":")[0] for text in texts if "% right" in text] == ["worst", "worst", "middle", "best"]
    wrong = np.array([136, 34, 85])
    for place, row in enumerate(ranked.look.tables[0].rows):
        errors = np.asarray(figure.axes[4 * place + 3].images[0].get_array())
        assert (errors == wrong).all(axis=2).mean() == pytest.approx(1 - float(row[1] or 0))


def test_scenes_pass_over_predictions_that_are_gone(segmented: RunFolder, tmp_path: Path) -> None:
    run, said = RunFolder.open(shutil.copytree(segmented.path, tmp_path / "run")), []
    subject = SegmentSubject(run, say=said.append)
    run.member(subject.name).predicted_file("val", subject.mask_names[0]).unlink()
    drawing = scenes(subject)
    assert drawing is not None and len(getattr(drawing.figures["scenes.png"], "axes", ())) == 4 * 3
    assert said == ["scenes: images whose predicted mask is gone from predictions/ are passed over: 1"]
    shutil.rmtree(run.path / "predictions")
    assert scenes(subject) is None


def test_the_table_of_classes_is_scikit_learns(subject: SegmentSubject) -> None:
    drawing = classes_of_masks(subject)
    assert drawing is not None
    truth, predicted = (np.concatenate(part) for part in pixels(subject))
    labels = range(len(subject.classes))
    shares = (f(truth, predicted, labels=labels, average=None, zero_division=np.nan)
              for f in (recall_score, precision_score))  # fmt: skip
    values = [ious(truth, predicted, labels), *shares]
    for name, scored, *numbers in drawing.look.tables[0].rows:
        i = subject.classes.index(str(name))
        iou, low, high, recall, precision, share = numbers
        for found, expected in zip((iou, recall, precision), (v[i] for v in values), strict=True):
            assert found is None if np.isnan(expected) else found == pytest.approx(expected)
        assert scored == ("yes" if subject.report.per_class[i].scored else "no")
        assert share == pytest.approx((truth == i).mean())
        assert low is None or (iou is not None and high is not None and low <= iou <= high)  # type: ignore[operator]
    assert any("rangeland" in warning for warning in drawing.look.warnings)  # a class that the scenes lack


def test_ious_by_epoch_are_in_the_history_and_drawn(subject: SegmentSubject) -> None:
    drawing = epochs(subject)
    assert drawing is not None and "water" not in "".join(drawing.look.warnings)
    assert "rangeland" in drawing.look.warnings[0]
    history = subject.run.member(subject.name).history()
    lines = [line.get_ydata() for line in getattr(drawing.figures["epochs.png"], "axes", ())[0].get_lines()]
    names = [name for name in subject.classes if any(row.get(f"holdout_iou_{name}") for row in history)]
    assert {"urban", "agriculture", "water"} <= set(names)
    for name in names:
        values = [float(row[f"holdout_iou_{name}"] or "nan") for row in history]
        assert any(len(y) == len(values) and np.array_equal(y, values, equal_nan=True) for y in lines), name
    # The rule of the run averages the classes that occur.
    for row in history:
        each = [float(row[f"holdout_iou_{name}"]) for name in names if row[f"holdout_iou_{name}"]]
        assert np.mean(each) == pytest.approx(float(row["holdout_miou"]), abs=1e-5)


def test_the_last_epochs_ious_are_those_of_the_masks(subject: SegmentSubject) -> None:
    """The run keeps its best epoch, whose held-out counts are stored."""
    row = subject.run.member(subject.name).history()[subject.final_epoch - 1]
    counts = subject.run.member(subject.name).outputs()["holdout"].sum(0)
    truth, predicted = (np.repeat(np.indices(counts.shape)[i].ravel(), counts.ravel()) for i in (0, 1))
    for i, iou in enumerate(ious(truth, predicted, range(7))):
        noted = row.get(f"holdout_iou_{subject.classes[i]}")
        assert not noted if np.isnan(iou) else float(noted or "nan") == pytest.approx(iou, abs=1e-2)


@pytest.mark.parametrize(("drop", "words"), [("iou_", "did not note it"), ("holdout", "holds no images out")])
def test_runs_without_ious_by_epoch_have_no_such_look(
    segmented: RunFolder, tmp_path: Path, drop: str, words: str
) -> None:
    run, said = RunFolder.open(shutil.copytree(segmented.path, tmp_path / "run")), []
    subject = SegmentSubject(run, say=said.append)
    files = run.member(subject.name)
    rows = [{key: value for key, value in row.items() if drop not in key} for row in files.history()]
    write_csv(files.folder / "history.csv", rows)
    reseal(run)
    assert epochs(subject) is None and len(said) == 1 and words in said[0]


def test_names_of_classes_survive_the_history(tmp_path: Path) -> None:
    names = ["a,b", 'say "x"', "two\nlines", "holdout_miou", "é"]
    rows = [{"epoch": 1, **{f"holdout_iou_{name}": i / 8 for i, name in enumerate(names)}}]
    write_csv(tmp_path / "history.csv", rows)
    with (tmp_path / "history.csv").open(encoding="utf-8", newline="") as file:
        found = next(iter(csv.DictReader(file)))
    assert found == {"epoch": "1"} | {f"holdout_iou_{name}": str(i / 8) for i, name in enumerate(names)}


# legends


def test_a_small_table_is_named_whole() -> None:
    table = load_table("course")
    for void in (True, False):
        legend = legend_of(table, np.zeros(8, int), void=void)
        assert legend.entries == {entry.name: entry.colour for entry in table.entries}
        np.testing.assert_array_equal(legend.colours[:7], table.colours)


@pytest.mark.parametrize(("occur", "void", "named"), [(4, False, 4), (10, False, 10), (10, True, 8), (25, False, 9)])
def test_a_large_table_names_the_commonest_that_occur(occur: int, void: bool, named: int) -> None:
    counts = np.zeros(31, int)
    chosen = DRAW.permutation(30)[:occur]
    counts[chosen] = 100 + np.arange(occur)[::-1]
    counts[-1] = 5
    legend = legend_of(WIDE, counts, void=void)
    common, rest = chosen[:named], chosen[named:]
    others = {f"{len(rest)} other classes"} if len(rest) else set()
    assert set(legend.entries) == {f"c{i}" for i in common} | ({"c30"} if void else set()) | others
    assert len(legend.entries) <= 10
    np.testing.assert_array_equal(legend.colours[common], WIDE.colours[common])
    greys = {tuple(row) for row in legend.colours[rest].tolist()}
    assert len(greys) == (1 if len(rest) else 0) and all(len(set(grey)) == 1 for grey in greys)


@pytest.mark.parametrize("table", [WIDE, load_table("course"), load_table("voc")], ids=lambda table: table.name)
def test_painted_masks_are_read_back(table: ClassTable) -> None:
    ids = DRAW.integers(0, len(table.trained), (20, 30)).astype(np.uint8)
    np.testing.assert_array_equal(ids_of(paint(ids, table), table), ids)


# figures


def scene(side: tuple[int, int] = (60, 80), classes: int = 4, void: bool = True) -> Scene:
    truth, predicted = DRAW.integers(0, classes, (2, *side)).astype(np.uint8)
    if void:
        truth[: side[0] // 3] = IGNORE
    return Scene(
        "a_$b", "worst: 1 % right\nmIoU 0.1", DRAW.integers(0, 256, (*side, 3)).astype(np.uint8), truth, predicted
    )


def test_error_maps_tell_right_wrong_and_void_apart_without_hue() -> None:
    grey = np.broadcast_to(np.linspace(0, 255, 60), (40, 60))
    truth, predicted = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    predicted[10:20], truth[30:] = 1, IGNORE
    found = error_map(grey, truth, predicted).astype(float) @ (0.299, 0.587, 0.114)
    right, wrong, void = found[:10], found[10:20], found[30:]
    assert right.min() > 200 and wrong.max() < 80 and np.ptp(wrong) == 0
    assert len(np.unique(void)) == 2 and void.min() > 80  # stripes


def test_a_scene_shows_image_truth_prediction_and_errors() -> None:
    one = scene()
    table = load_table("course")
    colours = legend_of(table, np.ones(8, int), void=False).colours
    figure = scene_table([one], colours, {"urban": (0, 255, 255)})
    original, truth, predicted, errors = (np.asarray(axes.images[0].get_array()) for axes in figure.axes)
    np.testing.assert_array_equal(original, one.image)
    for channel in range(4):
        shown = predicted[one.predicted == channel].astype(float)
        grey = one.image[one.predicted == channel] @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(shown, 0.35 * grey[:, None] + 0.65 * colours[channel], atol=0.51)
    known = one.truth != IGNORE
    wrong = (errors == (136, 34, 85)).all(axis=2)
    np.testing.assert_array_equal(wrong, known & (one.truth != one.predicted))
    assert len(np.unique(truth[~known], axis=0)) == 2
    texts = [text.get_text() for text in figure.texts]
    assert {r"a_\$b", "original", "errors", "right", "wrong", "no truth: counts nowhere"} <= set(texts)
    assert "no truth: counts nowhere" not in [t.get_text() for t in scene_table([scene(void=False)], colours, {}).texts]


@pytest.mark.parametrize("side", [(20, 900), (900, 20), (3000, 2000), (1, 1)])
def test_scenes_of_any_shape_are_drawn(side: tuple[int, int]) -> None:
    figure = scene_table([scene(side), scene((50, 50))], np.zeros((256, 3), np.uint8), {"x": (1, 2, 3)})
    assert max(figure.get_size_inches()) < 14 and figure.get_size_inches()[0] <= 11
    assert all(max(np.asarray(axes.images[0].get_array()).shape) <= 720 for axes in figure.axes)
    drawn(figure, dpi=40)


def test_scenes_whose_masks_differ_in_shape_are_refused() -> None:
    one = scene()
    with pytest.raises(ValueError, match="truth"):
        scene_table([Scene("a", "", one.image, one.truth, one.predicted[1:])], np.zeros((256, 3), np.uint8), {})


@pytest.mark.parametrize("count", [1, 7, 60, 200])
def test_dots_stand_where_their_class_is_written(count: int) -> None:
    values = DRAW.random(count)
    entries = [
        ClassIou(f"class_{i}_$", v, v / 2 if i % 3 else None, v + (1 - v) / 2 if i % 3 else None, i % 5 > 0, 1 / count)
        for i, v in enumerate(values)
    ]
    figure = iou_dots(entries, 0.4, 0.95)
    written = []
    for axes in figure.axes:
        labels = [label.get_text() for label in axes.get_yticklabels()]
        places = {}
        for container in axes.containers:
            line = container.lines[0]
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
                places[labels[int(y)]] = (x, line.get_marker())
        written += [(label, *places[label]) for label in labels]
    assert [x for _, x, _ in written] == pytest.approx(values.tolist())
    assert [marker for *_, marker in written] == ["o" if entry.scored else "s" for entry in entries]
    assert [label.startswith("(") for label, *_ in written] == [not entry.scored for entry in entries]
    assert figure.get_size_inches()[0] <= 11
    drawn(figure, dpi=40)


def test_dots_of_no_class_are_refused() -> None:
    with pytest.raises(ValueError, match="a class"):
        iou_dots([], None, 0.95)


@pytest.mark.parametrize("count", [2, 10, 11, 40])
@pytest.mark.parametrize("length", [1, 2, 30])
def test_the_first_ten_classes_have_names_and_the_others_are_grey(count: int, length: int) -> None:
    lines = {f"class {i}": DRAW.random(length) for i in range(count)}
    lines["class 1"][:] = np.nan
    figure = iou_curves(range(1, length + 1), lines, np.full(length, 0.5), kept=length)
    axes = figure.axes[0]
    drawn_lines = {
        to_hex(line.get_color()): line for line in reversed(axes.get_lines()) if len(line.get_xdata()) == length
    }
    for i, (name, values) in enumerate(list(lines.items())[:10]):
        np.testing.assert_array_equal(drawn_lines[PALETTE[i].lower()].get_ydata(), values, err_msg=name)
    texts = [text.get_text() for text in axes.texts]
    assert [name for name in lines if name in texts] == [n for n in list(lines)[:10] if n != "class 1"]
    places = sorted(text.xy[1] for text in axes.texts if text.get_text() in (*lines, "mIoU (mean)"))
    assert all(b - a > 0.047 for a, b in pairwise(places))
    assert axes.get_title(loc="left") == (f"grey: {count - 10} rarer classes" if count > 10 else "")
    assert f"kept: epoch {length}" in texts and axes.get_xlabel() == "epoch" and "0–1" in axes.get_ylabel()
    drawn(figure, dpi=40)


def test_curves_without_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        iou_curves([], {"a": np.zeros(0)}, np.zeros(0))
    with pytest.raises(ValueError, match="2 "):
        iou_curves([1, 2], {"a": np.zeros(3)}, np.zeros(2))


@pytest.mark.parametrize("places", [[], [0.5], [0.5] * 11, [0.0] * 11, [1.0] * 11, [0.1, 0.11, 0.5, 0.9, 0.91]])
def test_names_at_the_ends_do_not_overlap(places: list[float]) -> None:
    found = apart(places, 0.048)
    assert len(found) == len(places)
    assert all(b - a > 0.047 for a, b in pairwise(found))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in found)
    if len(places) == 5:
        assert found[2] == 0.5  # far from the others, it stays


def test_single_classes_are_no_panels_of_the_training_curves() -> None:
    rows = [{"epoch": "1", "holdout_miou": "0.3", "holdout_iou_water": "0.2", "holdout_iou_a_b": "", "lr": "1"}]
    assert [axes.get_title(loc="left") for axes in training_curves(rows).axes] == ["mIoU", "learning rate"]


@pytest.mark.parametrize("members", [1, 2, 10, 14])
def test_the_legends_of_training_curves_have_ten_entries_at_most(members: int) -> None:
    rows = [
        {"member": f"m{i}", "epoch": str(e), "train_loss": "1", "holdout_loss": "2", "lr": "0.1"}
        for i in range(members) for e in (1, 2)
    ]  # fmt: skip
    figure = training_curves(rows)
    entries = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert max(map(len, entries)) <= 10 and entries[-1] == ["training", "held out"]
    if members > 1:
        named = [f"m{i}" for i in range(members if members <= 10 else 9)]
        assert entries[0] == named + (["5 others"] if members == 14 else [])
    colours = {to_rgb(line.get_color()) for line in figure.axes[0].get_lines()}
    assert len(colours) == min(members, 10)
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    drawn(figure, dpi=40)
