"""The command line on images and masks: what a user types, what is printed, and the exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import SCENES, Octavo
from octavo.engine.folder import RunFolder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "scenes.toml"
    path.write_text(SCENES)
    return path


@pytest.mark.slow
def test_from_check_to_explain(run_cli: Octavo, recipe: Path, scenes_folder: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(scenes_folder, tmp_path / "data"))
    code, out, err = run_cli("check", data, "--classes", "course")
    assert code == 0 and "agriculture" in out and not err
    run = tmp_path / "run"
    changes = ["--set", "train.epochs=2", "--set", 'stages.at=[1, "best"]']
    code, out, err = run_cli("train", recipe, "--data", data, "--out", run, *changes)
    assert code == 0 and "mIoU" in out and f"run: {run}" in out, err
    assert "layout course, 7 classes, images: 9 fit, 3 holdout, 4 val" in err and "Traceback" not in err
    assert {p.parent.name for p in (run / "masks").rglob("*.png")} == {"epoch_001", "best"}

    code, out, err = run_cli("train", recipe, "--data", data, "--out", run, *changes)
    assert code == 2 and err.count("\n") == 1 and "--resume goes on with it" in err
    before = (run / "metrics.json").read_bytes()
    code, out, err = run_cli("train", "--resume", "--no-report", "--out", run)
    assert code == 0 and "mIoU" in out and (run / "metrics.json").read_bytes() == before

    code, out, err = run_cli("evaluate", run, "--out", tmp_path / "own.json")
    numbers = {key: value for key, value in json.loads(before).items() if key not in ("files", "sha256")}
    assert code == 0 and "mIoU" in out and json.loads((tmp_path / "own.json").read_bytes()) == numbers
    code, out, err = run_cli("evaluate", run, "--rule", "smp-macro", "--all-classes")
    assert code == 0 and "smp" in out and all(name in out for name in ("urban", "barren", "unknown"))

    code, out, err = run_cli("predict", run, data / "validation/0001_sat.jpg", "--out", tmp_path / "masks")
    assert code == 0 and out == f"1 image → {tmp_path / 'masks'}\n"
    (mask,) = (tmp_path / "masks").glob("*.png")
    written = np.asarray(Image.open(run / "predictions/val/0001_sat.png"))
    assert (np.asarray(Image.open(mask).convert("RGB")) == written).all(-1).mean() > 0.98

    code, out, err = run_cli("score", run / "predictions/val", "--truth", data, "--classes", "course",
                             "--rule", "mmsegmentation", "--out", tmp_path / "score.json")  # fmt: skip
    assert code == 0 and "torchmetrics" in out, err
    scored = json.loads((tmp_path / "score.json").read_text())["report"]
    assert scored["metrics"]["miou"]["value"] == json.loads(before)["metrics"]["miou"]["value"]

    code, out, err = run_cli("explain", run)
    assert code == 0 and out.splitlines() and all(Path(line).is_file() for line in out.splitlines())

    Image.fromarray(np.full((48, 48, 3), 255, np.uint8)).save(data / "train/0000_mask.png")
    code, out, err = run_cli("train", "--resume", "--out", run)
    assert code == 2 and "the images or labels in" in err.splitlines()[-1] and "have changed since" in err


def test_a_broken_image_among_many_is_code_1(
    run_cli: Octavo, segmented: RunFolder, scenes_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(scenes_folder / "validation/0000_sat.jpg", folder)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    code, out, err = run_cli("predict", segmented.path, folder, "--out", tmp_path / "masks")
    assert (
        code == 1 and out == f"1 image → {tmp_path / 'masks'}\n" and err.startswith("1 file could not be predicted → ")
    )


MISTAKES = {
    "train {recipe} --data {data} --set segmenter.stride=7": "segmenter.stride",
    "train {recipe} --data {data} --set segmenter.backbone=vgg61": 'segmenter.backbone: unknown "vgg61"',
    "train {recipe} --data {data} --set loss.dyce=1": 'loss.dyce: unknown key; did you mean "dice"?',
    "train {recipe} --data {data} --set measure.rule=cuorse": 'measure.rule: unknown "cuorse"; did you mean "course"?',
    'train {recipe} --data {data} --set stages.images=["0077"]': 'stages.images: no validation image "0077"',
    "train {recipe} --data {data} --set data.size=4": "data.size: input should be greater than or equal to 8, got 4",
    "train {recipe} --data {data} --set data.classes=nope": "nope",
    "train {recipe} --data {data} --set data.size=[48,4]": "data.size[1]: input should be greater than or equal to 8",
    "train {recipe} --data {digits}": "image",
    "train {recipe} --data {tmp}/nowhere": "nowhere: no such folder or file",
    "train {recipe} --data {data} --set segmenter.start={tmp}/nowhere": "no such run folder or weights file",
    "check {data}/validation --classes nope": "nope",
    "describe fcn8z": 'did you mean "fcn8s"?',
    "classes coarse": 'did you mean "course"?',
    "evaluate {run} --split tset": '--split: unknown "tset"',
    "evaluate {run} --rule cuorse": 'unknown "cuorse"; did you mean "course"?',
    "evaluate {run} --data {tmp}/nowhere": "nowhere: no such folder or file",
    "predict {run} {data}/validation --out {tmp}/m --member segmenter": "--member",
    "predict {run} {data}/validation --out {tmp}/m --probabilities": "--probabilities",
    "predict {run} {tmp}/nowhere --out {tmp}/m": "nowhere: no such file or folder",
    "score {run}/predictions/val --truth {tmp}/nowhere": "nowhere: no such folder or file",
    "score {run}/predictions/val --truth {data} --classes course --rule cuorse": 'did you mean "course"?',
    "explain {tmp}/nowhere": "nowhere: no such run folder",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_code_2(
    run_cli: Octavo, segmented: RunFolder, recipe: Path, scenes_folder: Path, digits_folder: Path, tmp_path: Path,
    line: str,
) -> None:  # fmt: skip
    places = {"data": scenes_folder, "run": segmented.path, "recipe": recipe, "tmp": tmp_path, "digits": digits_folder}
    words = [word.format(**places) for word in line.split(" ")]
    if words[0] == "train":
        words += ["--out", str(tmp_path / "run")]
    code, out, err = run_cli(*words)
    assert code == 2, (out, err)
    assert err.startswith("error: ") and err.count("\n") == 1 and MISTAKES[line] in err, err
    assert not (tmp_path / "run").exists()  # nothing is begun that can't be trained


def test_stages_that_never_come_are_said(run_cli: Octavo, recipe: Path, scenes_folder: Path, tmp_path: Path) -> None:
    """A short trial of a recipe whose stages lie beyond its end trains, keeps early masks, and says so."""
    words = ("train", recipe, "--data", scenes_folder, "--out", tmp_path / "a run", "--no-report", "--set",
             "train.epochs=3", "--set", 'stages.at=[15,30,"best"]')  # fmt: skip
    code, _, err = run_cli(*words)
    said = "note: stages.at: epochs 15, 30 never come, train.epochs is 3; masks by stage are kept after epoch 1"
    assert code == 0 and said in err, err
    assert sorted(path.name for path in (tmp_path / "a run/masks").iterdir()) == ["best", "epoch_001"]


def test_tables_are_listed_and_printed(run_cli: Octavo) -> None:
    code, out, _ = run_cli("classes")
    assert code == 0 and all(name in out for name in ("course", "deepglobe", "camvid", "voc", "cityscapes"))
    code, out, _ = run_cli("classes", "course")
    assert code == 0 and out.count("[[classes]]") == 7


def test_a_segmenter_is_described(run_cli: Octavo, recipe: Path) -> None:
    code, out, err = run_cli("describe", recipe, "--classes", "7")
    assert code == 0 and "vgg11" in out and "score_pool4" in out, err


def test_rule_is_for_segmenters(run_cli: Octavo, trained: RunFolder) -> None:
    code, _, err = run_cli("evaluate", trained.path, "--rule", "course")
    assert code == 2 and err.startswith("error: --rule: means nothing for a classifier's run")
