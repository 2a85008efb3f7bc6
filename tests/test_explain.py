"""The pictures of a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

import octavo.looks.confusion
import octavo.looks.history
import octavo.looks.stages
from conftest import Octavo, reseal
from octavo.data import store
from octavo.data.classes import load_table
from octavo.data.masks import MaskDecoder
from octavo.data.pairs import Pairs, read_pairs
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.looks.look import Drawing, Look, Shown, Way
from octavo.recipe import SegmentRecipe
from octavo.tasks.classification.sections import SECTIONS as CLASSIFY
from octavo.tasks.segmentation.evaluation import regrade_masks
from octavo.verbs.explain import explain

SHARED = Path(__file__).parents[2] / "shared" / "data" / "deepglobe13"
TABLE = load_table("course")
DRAWN = ("stages", "confusion", "history")
STAGES = {"epoch_002": 2, "epoch_004": 4, "best": "best"}


def colour(channel: int, side: int = 40) -> np.ndarray:
    return np.broadcast_to(TABLE.colours[channel], (side, side, 3)).copy()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six training and three validation pairs in the course's layout; image i of validation is all of class i."""
    for split, count in (("train", 7), ("validation", 3)):
        (tmp_path / "data" / split).mkdir(parents=True)
        for i in range(count):
            base = tmp_path / "data" / split / f"{i:04}"
            Image.fromarray(np.full((40, 40, 3), 20 * i + 10, np.uint8)).save(f"{base}_sat.jpg")
            Image.fromarray(colour(i)).save(f"{base}_mask.png")
    return tmp_path / "data"


def made(folder: Path, data: Path, keep: str = "best", **stages: Any) -> RunFolder:
    """A run as training leaves it: stage masks of the validation images 0 and 2, all of class 5, 4 and 3."""
    recipe = SegmentRecipe.model_validate(
        {
            "name": "t",
            "task": "segment",
            "train": {"epochs": 9, "keep": keep},
            "stages": {"at": [2, 4, "best"], "images": ["0000", "0002"]} | stages,
        }
    )
    rows = [
        {"file": f"{split}/{i:04}_sat.jpg", "mask": f"{split}/{i:04}_mask.png", "part": part, "name": f"{i:04}_sat"}
        for split, part, count in (("train", "fit", 7), ("validation", "val", 3))
        for i in range(count)
    ]
    run, pairs, cache = RunFolder.new(folder), read_pairs(data), folder.parent / "cache"
    manifest = {
        "options": {"cache": str(cache)},
        "table": TABLE.to_dict(),
        "classes": TABLE.names,
        "data": {"root": str(data), "layout": "course", **digests(pairs, cache)},
    }
    run.begin(recipe, manifest, rows)
    files = run.member("segmenter")
    for channel, stage in zip((5, 4, 3), STAGES.values(), strict=True):
        for name in ("0000_sat", "0002_sat"):
            files.write_mask(files.stage_file(stage, name), colour(channel))
    counts = np.zeros((3, 8, 8), np.int64)
    counts[:, :7, :7] = np.arange(49).reshape(7, 7)
    scores = (0.1, 0.2, 0.5, 0.3, 0.2)
    history = [{"epoch": e, "lr": 0.1, "train_loss": 1 / e, "holdout_miou": s} for e, s in enumerate(scores, 1)]
    files.finish({"classes": 7}, {"val": counts}, history)
    regrade_masks(run)
    return run


def digests(pairs: Pairs, cache: Path) -> dict[str, str]:
    masks = store.build(pairs.mask_files, MaskDecoder(TABLE, "colours"), cache)
    return {"pixels": store.build(pairs, store.ImageDecoder(), cache).digest, "masks": masks.digest}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple]:
    """What the plots were asked for."""
    asked: dict[str, tuple] = {}
    places = {
        "stage_table": octavo.looks.stages,
        "confusion_matrix": octavo.looks.confusion,
        "training_curves": octavo.looks.history,
    }
    for name, module in places.items():
        original = getattr(module, name)

        def spy(*given: Any, name: str = name, original: Any = original) -> Any:
            asked[name] = given
            return original(*given)

        monkeypatch.setattr(module, name, spy)
    return asked


def test_a_segmenters_stages_are_laid_out_as_the_reference_has_them(
    tmp_path: Path, data: Path, drawn: dict[str, tuple]
) -> None:
    run, said, seen = made(tmp_path / "run", data), [], []
    files = explain(run, DRAWN, progress=lambda w, d, t, n="": seen.append((d, t)), say=said.append).pictures
    assert sorted(files) == [run.path / "plots" / f"{name}.png" for name in ("confusion", "history", "stages")]
    assert all(np.asarray(Image.open(file)).std() > 0 for file in files) and seen[-1] == (3, 3) and not said
    rows, columns, classes = drawn["stage_table"]
    assert columns == ("original", "truth", "early\nepoch 2", "middle\nepoch 4", "final\nepoch 3")
    assert classes == {entry.name: entry.colour for entry in TABLE.entries}
    assert [row.name for row in rows] == ["0000_sat", "0002_sat"]
    for place, row in zip((0, 2), rows, strict=True):
        image, truth, early, middle, final = row.pictures
        assert abs(int(image[0, 0, 0]) - (20 * place + 10)) <= 2  # JPEG
        for found, channel in ((truth, place), (early, 5), (middle, 4), (final, 3)):
            np.testing.assert_array_equal(found, colour(channel))
    counts, names = drawn["confusion_matrix"]
    np.testing.assert_array_equal(counts, 3 * np.arange(49).reshape(7, 7))
    assert names == TABLE.names
    assert [row["epoch"] for row in drawn["training_curves"][0]] == list("12345")


def test_the_final_epoch_is_the_last_where_the_last_weights_were_kept(
    tmp_path: Path, data: Path, drawn: dict[str, tuple]
) -> None:
    explain(made(tmp_path / "run", data, keep="last"), ("stages",))
    assert drawn["stage_table"][1][-1] == "final\nepoch 5"


def test_a_stage_without_masks_is_left_out_and_it_is_said(tmp_path: Path, data: Path, drawn: dict[str, tuple]) -> None:
    run, said = made(tmp_path / "run", data), []
    shutil.rmtree(run.path / "masks" / "epoch_004")
    reseal(run)
    (run.path / "masks" / "best" / "0002_sat.png").unlink()
    explain(run, ("stages",), say=said.append)
    rows, columns, _ = drawn["stage_table"]
    assert columns == ("original", "truth", "early\nepoch 2", "final\nepoch 3")
    assert rows[1].pictures[-1] is None
    assert said[0].startswith("epoch 4 has no masks, so its column is left out") and "missing" in said[1]


def test_a_run_without_stage_masks_has_the_other_pictures(tmp_path: Path, data: Path) -> None:
    run, said = made(tmp_path / "run", data, count=0, images=()), []
    shutil.rmtree(run.path / "masks")
    reseal(run)
    assert [file.stem for file in explain(run, DRAWN, say=said.append).pictures] == ["confusion", "history"]
    assert said == ["no masks by stage were kept: the recipe's stages name no image or no epoch"]


def test_a_table_of_stages_stays_legible(tmp_path: Path, data: Path, drawn: dict[str, tuple]) -> None:
    """Of many epochs some are drawn, the first and the last among them; what is left out is said."""
    run, said = made(tmp_path / "run", data, at=[*range(1, 10), "best"]), []
    files = run.member("segmenter")
    for epoch in range(1, 10):
        files.write_mask(files.stage_file(epoch, "0000_sat"), colour(epoch % 7))
    reseal(run)
    explain(run, ("stages",), say=said.append)
    rows, columns, _ = drawn["stage_table"]
    assert columns == ("original", "truth", "epoch 1", "epoch 3", "epoch 5", "epoch 7", "epoch 9", "final\nepoch 3")
    np.testing.assert_array_equal(rows[0].pictures[3], colour(3))
    assert "masks by stage: 5 of 9 epochs are drawn; masks/ has all" in said


def test_data_that_are_gone_or_changed_are_a_line(tmp_path: Path, data: Path) -> None:
    run = made(tmp_path / "run", data)
    (data / "validation" / "0002_sat.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"its images have changed since .*run was trained; restore them"):
        explain(run, ("stages",))
    Image.fromarray(colour(6)).save(data / "validation" / "0002_mask.png")
    with pytest.raises(UserError, match=r"its masks have changed since .*run was trained; restore them"):
        explain(run, ("stages",))
    (data / "train" / "0000_sat.jpg").unlink()
    (data / "train" / "0000_mask.png").unlink()
    with pytest.raises(UserError, match="its files are others than those that"):
        explain(run, ("stages",))
    shutil.rmtree(data)
    with pytest.raises(UserError, match=r"its data are gone from .*data; put them back there"):
        explain(run, ("stages",))


def test_a_look_that_fails_keeps_no_other_from_being_taken(tmp_path: Path, data: Path) -> None:
    run = made(tmp_path / "run", data)
    shutil.rmtree(data)
    found = explain(run, DRAWN)
    assert [path.stem for path in found.pictures] == ["confusion", "history"]
    assert list(found.failed) == ["stages"] and "its data are gone" in found.failed["stages"]


def test_the_command_says_what_failed_at_the_end(tmp_path: Path, data: Path, run_cli: Octavo) -> None:
    run = made(tmp_path / "run", data)
    shutil.rmtree(data)
    code, out, error = run_cli("explain", run.path, "--look", "stages", "--look", "confusion")
    assert code == 1 and out.splitlines() == [str(run.plot("confusion.png"))]
    assert error.splitlines()[-1].startswith(f"failed: stages: {run.path}: its data are gone")
    code, out, error = run_cli("explain", run.path, "--look", "stages")
    assert code == 2 and not out and error.splitlines()[-1].startswith(f"error: {run.path}: its data are gone")


@pytest.mark.parametrize("look", ["embedding", "stability"])
def test_options_of_a_plane_reach_every_look_at_one(
    trained: RunFolder, tmp_path: Path, look: str, run_cli: Octavo
) -> None:
    run = RunFolder.open(shutil.copytree(trained.path, tmp_path / "run"))
    code, _, error = run_cli("explain", run.path, "--look", look, "--layer", "squeeze.head.0", "--seed", 7)
    text = run.explained(f"{look}.json").read_text()
    assert code == 0 and "squeeze.head.0" in text and "seed 7" in text and "seed 0" not in text, error
    code, _, error = run_cli("explain", run.path, "--look", look, "--method", "nothing")
    assert code == 2 and 'unknown "nothing"' in error
    code, _, error = run_cli("explain", run.path, "--look", "history", "--seed", 7)
    assert code == 2 and "options of the look embedding, which isn't taken" in error


def test_pictures_that_a_look_no_longer_has_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                        trained: RunFolder) -> None:  # fmt: skip
    run = RunFolder.open(shutil.copytree(trained.path, tmp_path / "run"))

    def drawing(count: int) -> Drawing | None:
        files = [f"deep_{i}.png" for i in range(count)]
        shown = tuple(Shown(file=file, caption="c", alt="a") for file in files)
        look = Look(name="deep", title="t", sees="s", source="metrics.json", shown=shown)
        return Drawing(look, dict.fromkeys(files, b"x")) if count else None

    for count in (3, 1, 2, 0):
        monkeypatch.setitem(CLASSIFY, "deep", Way(lambda subject, count=count: drawing(count)))
        explain(run, ("deep",))
        assert len([*run.plots.glob("deep_*.png")]) == count
        assert run.explained("deep.json").exists() == (count > 0)


def test_an_unfinished_run_is_refused(tmp_path: Path, data: Path) -> None:
    run = made(tmp_path / "run", data)
    (run.path / "metrics.json").unlink()
    with pytest.raises(UserError, match="is not finished; go on with `octavo train --resume"):
        explain(run)


def test_a_classifiers_run_has_curves_and_confusion(
    trained: RunFolder, tmp_path: Path, drawn: dict[str, tuple]
) -> None:
    run = RunFolder.open(shutil.copytree(trained.path, tmp_path / "run"))
    assert [file.name for file in explain(run, DRAWN[1:]).pictures] == ["confusion.png", "history.png"]
    members = list(dict.fromkeys(row["member"] for row in drawn["training_curves"][0]))
    assert members == ["vgg", "squeeze", "mobile"]
    counts, names = drawn["confusion_matrix"]
    lines = (run.path / "predictions" / "val.csv").read_text().splitlines()[1:]
    predicted = [line.split(",")[1] for line in lines]
    true = [row["label"] for row in run.samples() if row["part"] == "val"]
    np.testing.assert_array_equal(counts, confusion_matrix(true, predicted, labels=list(names)))
    assert counts.sum() == len(true) > 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data")
def test_real_scenes_and_their_masks_make_a_table(tmp_path: Path, drawn: dict[str, tuple]) -> None:
    pairs = read_pairs(SHARED)
    recipe = SegmentRecipe.model_validate(
        {"name": "t", "task": "segment", "train": {"epochs": 2}, "stages": {"at": [1, "best"]}}
    )
    val = set(pairs.splits["val"].tolist())
    rows = [{"file": f, "mask": m, "part": "val" if i in val else "fit", "name": Path(f).stem} for i, (f, m) in
            enumerate(zip(pairs.files, pairs.masks, strict=True))]  # fmt: skip
    run = RunFolder.new(tmp_path / "run")
    cache = tmp_path / "cache"
    manifest = {
        "options": {"cache": str(cache)},
        "table": TABLE.to_dict(),
        "classes": TABLE.names,
        "data": {"root": str(SHARED), "layout": pairs.layout, **digests(pairs, cache)},
    }
    run.begin(recipe, manifest, rows)
    files = run.member("segmenter")
    for index in sorted(val)[:2]:
        truth = np.asarray(Image.open(pairs.mask_path(index)).convert("RGB"))
        for stage in (1, "best"):
            files.write_mask(files.stage_file(stage, Path(pairs.files[index]).stem), truth)
    files.finish({}, {"val": np.ones((2, 8, 8), np.int64)}, [{"epoch": 1, "lr": 1, "train_loss": 1}])
    regrade_masks(run)
    assert len(explain(run, DRAWN).pictures) == 3
    shown, columns, _ = drawn["stage_table"]
    assert columns == ("original", "truth", "epoch 1", "final\nepoch 1") and len(shown) == 2
    for row in shown:
        np.testing.assert_array_equal(row.pictures[1], row.pictures[2])  # the truth, decoded and painted, is the file
