"""A segmenter's run graded: on its own images from what is stored, on other images by its network."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from conftest import write_scenes
from octavo import Run
from octavo.data.classes import load_table
from octavo.data.fitting import write_hint
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.tasks.segmentation.evaluation import evaluate_masks
from octavo.tasks.segmentation.restore import TrainedSegmenter, restore_segmenter

TABLE = load_table("course")


@pytest.fixture
def folder(tmp_path: Path, scenes_folder: Path) -> Path:
    return Path(shutil.copytree(scenes_folder, tmp_path / "data"))


def ids(path: Path) -> np.ndarray:
    """Channels of a mask in colours, read by Pillow and compared colour by colour."""
    colours = np.asarray(Image.open(path).convert("RGB"))
    return (colours[:, :, None] == TABLE.colours).all(-1).argmax(-1)


def table_of(masks: Path, truth: Path) -> np.ndarray:
    names = sorted(path.name.removesuffix("_mask.png") for path in truth.glob("*_mask.png"))
    true = np.stack([ids(truth / f"{name}_mask.png") for name in names])
    predicted = np.stack([ids(masks / f"{name}_sat.png") for name in names])
    return confusion_matrix(true.ravel(), predicted.ravel(), labels=range(7))


def test_metrics_are_those_of_the_predicted_pngs(segmented: RunFolder, scenes_folder: Path) -> None:
    """mIoU of metrics.json from the PNG files in predictions/val alone, by scikit-learn's counts."""
    table = table_of(segmented.path / "predictions/val", scenes_folder / "validation")
    union = table.sum(0) + table.sum(1) - table.diagonal()
    iou = table.diagonal() / np.where(union, union, np.nan)
    report = json.loads((segmented.path / "metrics.json").read_text())
    assert report["metrics"]["miou"]["value"] == pytest.approx(np.nanmean(iou), abs=1e-9)
    assert report["metrics"]["pixel_accuracy"]["value"] == pytest.approx(table.diagonal().sum() / table.sum())
    np.testing.assert_array_equal(np.array(report["confusion"])[:7, :7], table)
    assert report["n"] == 4 and report["rule_name"] == "mmsegmentation" and not report["flattered"]
    assert len(np.unique(table.nonzero()[1])) > 1  # more than one class is predicted


def test_own_images_are_graded_from_what_is_stored(segmented: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.tasks.segmentation.evaluation.restore_segmenter", None)
    assert evaluate_masks(segmented) == segmented.metrics == evaluate_masks(segmented, split="val")
    held = evaluate_masks(segmented, split="holdout")
    assert held.n == 3 and held.flattered
    with pytest.raises(UserError, match='--split: unknown "tset"'):
        evaluate_masks(segmented, split="tset")
    course = evaluate_masks(segmented, rule="smp-macro")
    assert course.rule_name == "smp-macro" and course.miou != segmented.metrics.miou  # type: ignore[union-attr]
    with pytest.raises(UserError, match='unknown "cuorse"; did you mean "course"'):
        evaluate_masks(segmented, rule="cuorse")


def test_the_same_images_as_other_data_have_the_same_counts(
    segmented: RunFolder, scenes_folder: Path, cache: Path
) -> None:
    own = segmented.metrics
    assert evaluate_masks(segmented, data=scenes_folder) == own  # known by its images and masks: what is stored
    assert evaluate_masks(segmented, data=scenes_folder, split="val") == own


def test_large_images_go_in_windows_and_it_is_said(
    segmented: RunFolder, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ending in ("sat.jpg", "mask.png"):  # three of the four images: otherwise the stored counts stand in
        (folder / "validation" / f"0000_{ending}").unlink()
    stored = segmented.member("segmenter").outputs()["val"][1:].sum(axis=0)
    for name in ("restore", "evaluation"):
        monkeypatch.setattr(f"octavo.tasks.segmentation.{name}.WHOLE", 40 * 40)
    windows: list[str] = []
    found = evaluate_masks(
        segmented, data=folder, split="val", progress=lambda what, done, total, note="": windows.append(note)
    )
    assert "validation/0003_sat.jpg: window 1 of 1" in windows
    assert "3 images of more than 1,600 pixels (after data.scale) predicted in windows" in found.warnings
    np.testing.assert_allclose(found.confusion, stored, atol=20)
    monkeypatch.setattr(TrainedSegmenter, "sees_whole", True)
    found = evaluate_masks(segmented, data=folder, split="val")
    assert "predicted in windows; this network has means over the whole" in " ".join(found.warnings)


def test_parts_of_other_data(segmented: RunFolder, folder: Path, cache: Path) -> None:
    assert evaluate_masks(segmented, data=folder, split="train").n == 12
    whole = evaluate_masks(segmented, data=folder / "validation")
    assert (whole.split, whole.n) == ("validation/all", 4)
    with pytest.raises(UserError, match='--split: unknown "test"'):
        evaluate_masks(segmented, data=folder, split="test")
    with pytest.raises(UserError, match="no such folder or file"):
        evaluate_masks(segmented, data=folder / "nowhere")


@pytest.mark.parametrize("name", ["0002_sat.jpg", "0002_mask.png"])
def test_broken_files_of_other_data_are_refused_by_name_or_left_out(
    segmented: RunFolder, folder: Path, cache: Path, name: str
) -> None:
    path = folder / "validation" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"{name}.*--skip-broken$") as error:
        evaluate_masks(segmented, data=folder, split="val")
    assert "\n" not in str(error.value)
    assert evaluate_masks(segmented, data=folder, split="val", skip_broken=True).n == 3


def test_masks_that_do_not_fit_are_refused(segmented: RunFolder, folder: Path, cache: Path) -> None:
    path = folder / "validation/0001_mask.png"
    Image.open(path).crop((0, 0, 40, 48)).save(path)
    with pytest.raises(UserError, match=r"0001_sat.jpg: is 48×48 pixels, its mask 40×48; image and mask must be"):
        evaluate_masks(segmented, data=folder)
    Image.new("RGB", (48, 48), (9, 9, 9)).save(path)
    with pytest.raises(UserError, match=r"0001_mask.png"):
        evaluate_masks(segmented, data=folder)


def test_an_unfinished_run_is_refused(segmented: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(segmented.path, tmp_path / "run")))
    (run.path / "members/segmenter/member.json").unlink()
    with pytest.raises(UserError, match="this run is not finished; go on with `octavo train --resume"):
        evaluate_masks(run)


def test_from_python(segmented: RunFolder, scenes_folder: Path, cache: Path) -> None:
    run = Run(segmented.path, "cpu")
    assert run.evaluate() == run.metrics == segmented.metrics
    assert run.evaluate(scenes_folder, split="val").n == 4
    assert run.classes == TABLE.names and run.weights == {"segmenter": 1.0} and list(run.members) == ["segmenter"]
    image = scenes_folder / "validation/0001_sat.jpg"
    masks = run.masks(image)
    written = ids(segmented.path / "predictions/val/0001_sat.png")
    assert list(masks) == [str(image)] and masks[str(image)].dtype == np.uint8
    assert (masks[str(image)] == written).mean() > 0.99
    assert len(run.masks([scenes_folder / "validation/0000_sat.jpg", image])) == 2
    for verb in (lambda: run.predict(image), lambda: run.embed(image, "head")):
        with pytest.raises(UserError, match=r'is a run of task "segment", for which'):
            verb()


def test_a_classifiers_run_has_no_masks(trained: RunFolder, scenes_folder: Path) -> None:
    with pytest.raises(UserError, match=r'is a run of task "classify"'):
        Run(trained.path, "cpu").masks(scenes_folder)
    with pytest.raises(UserError, match=r'is a run of task "classify"'):
        evaluate_masks(trained)


def test_other_scenes(segmented: RunFolder, tmp_path: Path, cache: Path) -> None:
    """Scenes in another layout and encoding: grey masks of values."""
    write_scenes(tmp_path / "course", 2, 2)
    for folder, ending in (("images", "_sat.jpg"), ("masks", "_mask.png")):
        (tmp_path / "other" / folder).mkdir(parents=True)
        for path in (tmp_path / "course/validation").glob(f"*{ending}"):
            target = tmp_path / "other" / folder / (path.name.removesuffix(ending) + path.suffix)
            if folder == "images":
                shutil.copy(path, target)
            else:
                Image.fromarray(ids(path).astype(np.uint8)).save(target)
    found = evaluate_masks(segmented, data=tmp_path / "other")
    again = evaluate_masks(segmented, data=tmp_path / "course", split="val")
    assert found.confusion == again.confusion and found.split == "other/all"


def test_commands_that_are_suggested_can_be_typed(segmented: RunFolder, tmp_path: Path) -> None:
    """A path with spaces is one word of the command."""
    run = RunFolder(Path(shutil.copytree(segmented.path, tmp_path / "my run")))
    run.member("segmenter").record.unlink()
    for ask in (lambda: evaluate_masks(run), lambda: restore_segmenter(run, torch.device("cpu"))):
        with pytest.raises(UserError) as error:
            ask()
        command = str(error.value).split("`")[1]
        assert shlex.split(command) == ["octavo", "train", "--resume", "--out", str(run.path)]
    assert shlex.split(write_hint("my data/classes.toml"))[2:] == ["my data", "--write-classes", "my data/classes.toml"]
