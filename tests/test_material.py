"""A recipe's images, read, split and stored, and what is refused before any network is trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from octavo.data.store import Pixels
from octavo.engine.hardware import Hardware
from octavo.engine.material import Material
from octavo.errors import UserError
from octavo.progress import silent
from octavo.recipe import ClassifyRecipe
from octavo.tasks.classification.data import prepare


def recipe(**sections: object) -> ClassifyRecipe:
    member = {"name": "m", "backbone": "squeezenet1_1", "weights": "none"}
    return ClassifyRecipe.model_validate({"name": "t", "data": {"size": 32}, "members": [member], **sections})


def made(folder: Path, cache: Path, skip_broken: bool = False, **sections: object) -> Material:
    return prepare(recipe(**sections), str(folder), None, cache, skip_broken=skip_broken, progress=silent)


@pytest.fixture
def copy(digits_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits_folder, tmp_path / "copy"))


def test_parts_are_apart_stratified_and_complete(digits_folder: Path, tmp_path: Path) -> None:
    found = made(digits_folder, tmp_path, data={"size": 32, "holdout": 0.25})
    assert found.counts == {"fit": 120, "holdout": 40, "val": 40}
    everything = np.concatenate(list(found.parts.values()))
    assert sorted(everything) == list(range(200))
    for indices in found.parts.values():
        assert len(set(np.bincount(found.samples.labels[indices]))) == 1
    rows = found.rows
    assert [row["part"] for row in rows].count("holdout") == 40
    assert all(row["file"].split("/")[1].split("_")[0] == row["label"] for row in rows)
    assert all((row["part"] == "val") == row["file"].startswith("val_10") for row in rows)


def test_a_folder_without_a_split_gets_one_by_seed(digits_folder: Path, tmp_path: Path) -> None:
    parts = [made(digits_folder / "train_10", tmp_path, seed=seed).parts for seed in (0, 0, 1)]
    assert [len(p["val"]) for p in parts] == [30, 30, 30]  # a fifth of 16 a class, rounded
    assert np.array_equal(parts[0]["val"], parts[1]["val"])
    assert not np.array_equal(parts[0]["val"], parts[2]["val"])


def test_broken_files_are_refused_or_left_out_of_every_part(copy: Path, tmp_path: Path) -> None:
    (copy / "train_10" / "3_5.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"3_5\.png"):
        made(copy, tmp_path)
    found = made(copy, tmp_path, skip_broken=True)
    assert sum(found.counts.values()) == 199
    assert [row["part"] for row in found.rows if row["file"] == "train_10/3_5.png"] == ["broken"]
    assert found.manifest(recipe(), Hardware("cpu"))["data"]["broken"] == 1


def test_an_unknown_class_in_val_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "val_10" / "1_16.png").rename(copy / "val_10" / "11_16.png")
    with pytest.raises(UserError, match='val has class "11"'):
        made(copy, tmp_path)


def test_one_class_is_refused(copy: Path, tmp_path: Path) -> None:
    for path in [*copy.rglob("[1-9]_*.png")]:
        path.unlink()
    with pytest.raises(UserError, match="only one class"):
        made(copy, tmp_path)


def test_class_weights_must_fit_the_classes(digits_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.class_weights: 2 weights for 10 classes"):
        made(digits_folder, tmp_path, train={"class_weights": [1, 2]})
    made(digits_folder, tmp_path, train={"class_weights": [1] * 10})


def test_members_are_checked_before_anything_is_decoded(
    digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octavo.data.store.build", lambda *a, **k: pytest.fail("decoded"))
    member = {"name": "m", "backbone": "resnet15", "weights": "none"}
    with pytest.raises(UserError, match=r"members\[0\]\.backbone: unknown \"resnet15\"; did you mean"):
        made(digits_folder, tmp_path, members=[member])


def test_too_few_images_are_refused(copy: Path, tmp_path: Path) -> None:
    for path in [*copy.glob("train_10/*_?.png"), *copy.glob("train_10/*_1[1-9].png")]:
        path.unlink()
    assert made(copy, tmp_path, data={"size": 32, "holdout": 0}).counts["fit"] == 10
    with pytest.raises(UserError, match="no class has two training images"):
        made(copy, tmp_path, data={"size": 32, "holdout": 0.1})


def test_the_manifest_names_what_the_run_is_made_of(digits_folder: Path, tmp_path: Path) -> None:
    found = made(digits_folder, tmp_path)
    said = found.manifest(recipe(seed=3), Hardware("cpu"))
    assert (said["seed"], said["classes"]) == (3, [str(i) for i in range(10)])
    assert said["data"]["pixels"] == found.pixels.digest == Pixels(found.pixels.folder).digest
    assert said["data"]["root"] == str(digits_folder)
    assert said["data"]["own_split"] is True
    assert {"torch", "torchvision", "numpy", "pillow"} <= set(said["packages"])
