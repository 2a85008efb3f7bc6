"""What isn't a run's own isn't taken for it: evaluations of other data that look like the run's, in both tasks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from conftest import reseal
from octavo.data.classes import load_table
from octavo.data.masks import paint
from octavo.engine.folder import RunFolder
from octavo.files import read_csv, write_csv
from octavo.numbers.mask_results import SegmentReport
from octavo.numbers.results import Report
from octavo.tasks.classification.evaluation import evaluate
from octavo.tasks.classification.score import score
from octavo.tasks.segmentation.evaluation import evaluate_masks


@pytest.fixture
def data(digits_folder: Path, tmp_path: Path) -> Path:
    """A copy of the digits."""
    return Path(shutil.copytree(digits_folder, tmp_path / "data"))


@pytest.fixture
def counted_passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was computed anew by networks."""
    found: list[str] = []
    for module, name in (("classification", "answers"), ("segmentation", "restore_segmenter")):
        own = getattr(__import__(f"octavo.tasks.{module}.evaluation", fromlist=[name]), name)

        def noted(*args: object, own: Callable[..., object] = own, name: str = name, **more: object) -> object:
            found.append(name)
            return own(*args, **more)

        monkeypatch.setattr(f"octavo.tasks.{module}.evaluation.{name}", noted)
    return found


def table(root: Path, out: Path, change: Callable[[str, str, str], tuple[str, str]]) -> Path:
    """Write digits as a list with labels and splits that `change` made of (file, label, split)."""
    out.mkdir()
    rows = []
    for path in sorted(root.rglob("*.png")):
        split = "train" if "train" in path.parent.name else "val"
        file, (label, part) = f"{split}-{path.name}", change(path.name, path.name[0], split)
        shutil.copy(path, out / file)
        rows.append({"image": file, "label": label, "split": part})
    write_csv(out / "labels.csv", rows)
    return out


def expected(run: RunFolder, root: Path) -> float:
    """The accuracy of the run's stored answers by labels of a list, image by image; files are known by their names."""
    said = {
        Path(f).name: c
        for f, c in zip(run.files("val"), run.ensemble.logits(run.outputs("val")).argmax(1), strict=True)
    }
    rows = [row for row in read_csv(root / "labels.csv") if row["split"] == "val"]
    return float(np.mean([str(said[row["image"].removeprefix("val-")]) == row["label"] for row in rows]))


def test_other_labels_are_scored_as_they_are(
    trained: RunFolder, digits_folder: Path, tmp_path: Path, cache: Path, counted_passes: list[str]
) -> None:
    """Failed before: equal pixels alone let the stored outputs stand in, with the labels of old."""
    new = table(digits_folder, tmp_path / "new", lambda name, label, split: (str((int(label) + 1) % 10), split))
    report = evaluate(trained, data=new, layout="csv", device="cpu", coverage=0.8)
    assert (
        report.ensemble.metrics["accuracy"].value
        == pytest.approx(expected(trained, new))
        != pytest.approx(
            trained.metrics.ensemble.metrics["accuracy"].value  # type: ignore[union-attr]
        )
    )
    assert (report.split, report.flattered, counted_passes) == ("new/val", False, ["answers"])
    assert report.sets and report.sets.coverage.value < 0.5 and report.sets.scored == report.sets.fitted == 20
    again = evaluate(trained, data=new, layout="csv", split="val", device="cpu", coverage=0.8)
    assert again == report and trained.metrics.split == "val"


def swapped(name: str, label: str, split: str) -> tuple[str, str]:
    return {"4_16.png": "7", "7_16.png": "4"}.get(name, label), split


def test_two_labels_swapped(trained: RunFolder, digits_folder: Path, tmp_path: Path, cache: Path) -> None:
    new = table(digits_folder, tmp_path / "new", swapped)
    report = evaluate(trained, data=new, layout="csv", device="cpu")
    assert report.split == "new/val"
    assert report.ensemble.metrics["accuracy"].value == pytest.approx(expected(trained, new))


def test_the_runs_own_data_elsewhere_are_known(
    trained: RunFolder, data: Path, cache: Path, counted_passes: list[str]
) -> None:
    assert evaluate(trained, data=data) == evaluate(trained, data=data, split="val") == trained.metrics
    renamed = data.parent / "renamed"
    shutil.move(data, renamed)
    for path in renamed.rglob("*.png"):  # the same order
        path.rename(path.with_name(path.name.replace("_", "_0")))
    assert evaluate(trained, data=renamed) == trained.metrics and not counted_passes


def test_a_split_that_moved_is_computed_and_said_to_be_trained_on(
    trained: RunFolder, data: Path, cache: Path, counted_passes: list[str]
) -> None:
    (data / "train_10" / "3_2.png").rename(data / "val_10" / "3_2.png")
    report = evaluate(trained, data=data, device="cpu")
    assert (report.split, report.n, report.flattered) == ("data/val", 41, True)
    assert report.warnings[0].startswith(
        "flattered: 1 of 41 scored images is among those that run was trained or tuned on"
    )
    assert counted_passes == ["answers"]


def test_all_in_one_folder_is_not_the_runs_val(trained: RunFolder, data: Path, cache: Path) -> None:
    for path in (data / "val_10").glob("*.png"):
        path.rename(data / path.name)
    for path in (data / "train_10").glob("*.png"):
        path.rename(data / path.name)
    shutil.rmtree(data / "val_10"), shutil.rmtree(data / "train_10")
    report = evaluate(trained, data=data, device="cpu")
    assert (report.split, report.n, report.flattered) == ("data/all", 200, True)
    assert "160 of 200 scored images" in report.warnings[0]


def test_images_of_another_order_and_a_subset_are_computed(
    trained: RunFolder, data: Path, cache: Path, counted_passes: list[str]
) -> None:
    val = data / "val_10"
    for first, second in (("1_16", "1_17"),):
        (val / f"{first}.png").rename(val / "x.png")
        (val / f"{second}.png").rename(val / f"{first}.png")
        (val / "x.png").rename(val / f"{second}.png")
    report = evaluate(trained, data=data, device="cpu")
    assert (report.split, report.flattered) == ("data/val", False) and counted_passes == ["answers"]
    assert report.ensemble.metrics["accuracy"] == trained.metrics.ensemble.metrics["accuracy"]  # type: ignore[union-attr]
    (val / "9_19.png").unlink()
    assert evaluate(trained, data=data, device="cpu").n == 39


def test_runs_of_before_know_their_data_as_a_whole(
    trained: RunFolder, digits_folder: Path, tmp_path: Path, cache: Path, counted_passes: list[str]
) -> None:
    run = RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))
    rows = [{k: v for k, v in row.items() if k != "pixels"} for row in run.samples()]
    write_csv(run.path / "samples.csv", rows)
    reseal(run)
    assert evaluate(run, data=digits_folder) == run.metrics and not counted_passes
    new = table(digits_folder, tmp_path / "new", swapped)
    assert evaluate(run, data=new, layout="csv", device="cpu").split == "new/val" and counted_passes == ["answers"]


# ── Segmenters ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def scenes(scenes_folder: Path, tmp_path: Path) -> Path:
    """A copy of the scenes."""
    return Path(shutil.copytree(scenes_folder, tmp_path / "scenes"))


def value(report: Report | SegmentReport) -> float:
    assert isinstance(report, SegmentReport) and report.miou is not None
    return report.miou


def test_the_same_masks_of_other_images_are_computed(
    segmented: RunFolder, scenes: Path, cache: Path, counted_passes: list[str]
) -> None:
    """Failed before: equal masks alone let the stored counts stand in."""
    assert evaluate_masks(segmented, data=scenes) == evaluate_masks(segmented, data=scenes, split="val")
    assert evaluate_masks(segmented, data=scenes) == segmented.metrics and not counted_passes
    for path in (scenes / "validation").glob("*_sat.jpg"):
        ImageOps.invert(Image.open(path)).save(path, quality=95)
    report = evaluate_masks(segmented, data=scenes)
    assert (report.split, report.n, report.flattered) == ("scenes/val", 4, False)
    assert report.without_twins is None and counted_passes == ["restore_segmenter"]
    assert value(report) != pytest.approx(value(segmented.metrics), abs=0.02)


def test_other_masks_of_the_same_images_are_computed(
    segmented: RunFolder, scenes: Path, cache: Path, counted_passes: list[str]
) -> None:
    course = load_table("course")
    for path in (scenes / "validation").glob("*_mask.png"):
        Image.fromarray(paint(np.full((48, 48), 2, np.uint8), course)).save(path)
    report = evaluate_masks(segmented, data=scenes, split="val")
    assert report.split == "scenes/val" and counted_passes == ["restore_segmenter"]
    assert sum(sum(row) for i, row in enumerate(report.confusion) if i != 2) == 0


def test_training_scenes_among_the_scored_are_said(segmented: RunFolder, scenes: Path, cache: Path) -> None:
    for ending in ("sat.jpg", "mask.png"):
        shutil.copy(scenes / "train" / f"0003_{ending}", scenes / "validation" / f"0009_{ending}")
    report = evaluate_masks(segmented, data=scenes)
    assert (report.split, report.n, report.flattered) == ("scenes/val", 5, True)
    assert report.warnings[0].startswith("flattered: 1 of 5 scored images is among those that run was trained or tuned")


def test_a_run_that_drew_its_validation_images_knows_them(
    trained: RunFolder, digits_folder: Path, tmp_path: Path, cache: Path, counted_passes: list[str]
) -> None:
    """As a run whose data have no split of their own; two labels swapped are other data."""
    run = RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))
    manifest = run.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"own_split": true', '"own_split": false'))
    reseal(run)
    flat = tmp_path / "flat"
    flat.mkdir()
    rows = read_csv(run.path / "samples.csv")
    for i, row in enumerate(rows):
        shutil.copy(digits_folder / row["file"], flat / f"{i:03}.png")
    labels = [{"image": f"{i:03}.png", "label": row["label"]} for i, row in enumerate(rows)]
    write_csv(flat / "labels.csv", labels)
    assert evaluate(run, data=flat) == trained.metrics and not counted_passes
    labels[0]["label"], labels[30]["label"] = labels[30]["label"], labels[0]["label"]
    write_csv(flat / "labels.csv", labels)
    report = evaluate(run, data=flat, device="cpu")
    assert (report.split, report.n, report.flattered) == ("flat/all", 200, True)


def test_evaluate_and_score_give_the_same_intervals(trained: RunFolder) -> None:
    report = evaluate(trained)
    for truth in (trained.path, trained.path / "samples.csv"):
        found = score(trained.path / "predictions" / "val.csv", truth)
        for key in ("accuracy", "macro_f1", "balanced_accuracy"):
            assert getattr(found, key) == report.ensemble.metrics[key]
        assert found.per_class == report.per_class and found.split == "val"
