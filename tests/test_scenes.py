"""A recipe's images and masks, read, split and stored; what is wrong is refused before a run begins."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import SIDE, scene, write_scenes
from octavo.data.batches import MaskRows
from octavo.data.content import digest_of
from octavo.engine.material import Material
from octavo.errors import UserError
from octavo.progress import silent
from octavo.recipe import SegmentRecipe
from octavo.tasks.segmentation.data import mask_names, prepare


def recipe(data: dict[str, Any] | None = None, **rest: Any) -> SegmentRecipe:
    own = {"size": 32, "classes": "course", "holdout": 0.25} | (data or {})
    segmenter = {"backbone": "vgg11", "weights": "none", "hidden": [{"width": 4}]}
    return SegmentRecipe.model_validate({"name": "t", "task": "segment", "data": own, "segmenter": segmenter} | rest)


@pytest.fixture
def folder(tmp_path: Path, scenes_folder: Path) -> Path:
    return Path(shutil.copytree(scenes_folder, tmp_path / "data"))


def made(folder: Path, skip_broken: bool = False, **keys: Any) -> Material:
    cache = folder.with_name("cache")
    return prepare(recipe(**keys), str(folder), None, cache, skip_broken, progress=silent)


def test_scenes_are_split_stored_and_named(folder: Path) -> None:
    found = made(folder)
    assert {part: len(indices) for part, indices in found.parts.items()} == {"fit": 9, "holdout": 3, "val": 4}
    files = np.array(found.samples.files)
    assert all(name.startswith("train/") for name in files[np.r_[found.parts["fit"], found.parts["holdout"]]])
    assert all(name.startswith("validation/") for name in files[found.parts["val"]])
    assert isinstance(found.labels, MaskRows)
    for place, number in zip(found.parts["val"].tolist(), range(100, 104), strict=True):
        image, ids = scene(number)
        np.testing.assert_array_equal(found.labels[np.array([place])][0], ids)
        shown = found.pixels.image(place).transpose(1, 2, 0).astype(int)
        assert np.abs(shown - image).mean() < 15  # JPEG with halved colours
        row = {key: value for key, value in found.rows[place].items() if key not in ("pixels", "mask_pixels")}
        assert row == {
            "file": f"validation/{number - 100:04}_sat.jpg",
            "mask": f"validation/{number - 100:04}_mask.png",
            "part": "val",
            "name": f"{number - 100:04}_sat",
        }
        contents = found.rows[place]["pixels"], found.rows[place]["mask_pixels"]
        assert contents == (digest_of(found.pixels.image(place)), digest_of(ids[None]))


def test_images_are_reduced_and_masks_are_not(folder: Path) -> None:
    found = made(folder, data={"scale": 0.5})
    assert isinstance(found.labels, MaskRows)
    assert (found.pixels.sizes == SIDE // 2).all() and (found.labels.sizes == SIDE).all()


def test_a_folder_without_a_split_gets_one(folder: Path) -> None:
    found = made(folder / "train", data={"val": 0.25})
    assert {part: len(indices) for part, indices in found.parts.items()} == {"fit": 7, "holdout": 2, "val": 3}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BROKEN = {"image": "train/0003_sat.jpg", "mask": "train/0005_mask.png"}


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("which", BROKEN)
def test_broken_files_are_refused_by_name_or_left_out(folder: Path, which: str, scale: float) -> None:
    truncate(folder / BROKEN[which])
    with pytest.raises(UserError, match=rf"{BROKEN[which]} \(.*--skip-broken$"):
        made(folder, data={"scale": scale})
    found = made(folder, skip_broken=True, data={"scale": scale})
    place = found.samples.files.index(BROKEN[which].replace("_mask.png", "_sat.jpg"))
    assert list(found.broken) == [place] and found.rows[place]["part"] == "broken"
    assert sum(len(indices) for indices in found.parts.values()) == 15
    assert all(place not in indices for indices in found.parts.values())


def test_a_mask_of_another_size_is_refused(folder: Path) -> None:
    path = folder / "validation/0002_mask.png"
    Image.open(path).crop((0, 0, SIDE, SIDE - 2)).save(path)
    for scale in (1.0, 0.5):
        with pytest.raises(UserError, match=rf"0002_sat.jpg: is {SIDE}×{SIDE} pixels, its mask {SIDE}×{SIDE - 2} \(1 "):
            made(folder, data={"scale": scale})


def strange_colour(folder: Path) -> None:
    Image.new("RGB", (SIDE, SIDE), (1, 2, 3)).save(folder / "train/0001_mask.png")


def one_image(folder: Path) -> None:
    for path in sorted((folder / "train").glob("*"))[2:]:
        path.unlink()


def nothing(folder: Path) -> None:
    pass


MISTAKES: dict[str, tuple[Callable[[Path], None], dict[str, Any], str]] = {
    "rule": (nothing, {"measure": {"rule": "cuorse"}}, r'measure.rule: unknown "cuorse"; did you mean "course"'),
    "stages": (nothing, {"stages": {"images": ["0077"]}}, r'stages.images: no validation image "0077"'),
    "class weights": (nothing, {"train": {"class_weights": [1, 2]}}, "train.class_weights: 2 weights for 7 classes"),
    "table": (nothing, {"data": {"classes": "curse"}}, 'did you mean "course"'),
    "no table": (nothing, {"data": {"classes": None}}, '"deepglobe"; on the command line: --set data.classes=NAME'),
    "colour": (strange_colour, {}, "0001_mask.png"),
    "backbone": (nothing, {"segmenter": {"backbone": "vgg61"}}, 'segmenter.backbone: unknown "vgg61"'),
    "holdout": (one_image, {}, "data.holdout|none can be split off"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_refused_in_a_line(folder: Path, name: str) -> None:
    change, keys, message = MISTAKES[name]
    change(folder)
    with pytest.raises(UserError, match=message) as error:
        made(folder, **keys)
    assert "\n" not in str(error.value)


def test_predicted_masks_have_names_of_their_own() -> None:
    files = ("a/0001.png", "b/0001.png", "a/2.png", "c/2.png", "d e.tif", "e/3.png", "e/3.jpg")
    found = mask_names(files, ["val", "val", "val", "fit", "val", "val", "val"])
    assert found == ("a/0001", "b/0001", "2", "2", "d e", "e/3.png", "e/3.jpg")


def test_names_of_masks_stay_inside_of_the_run() -> None:
    files = ["/data/s1/0001.png", "/data/s2/0001.png", "../s3/0001.png"]
    assert mask_names(files, ["val"] * 3) == ("data/s1/0001", "data/s2/0001", "s3/0001")


@pytest.mark.parametrize("letter", ["b", "é"])
def test_names_of_masks_fit_the_file_system_however_long_those_of_images_are(letter: str, tmp_path: Path) -> None:
    stem = letter * (251 // len(letter.encode()))
    names = mask_names([f"{stem}.png", f"{stem}.jpg", f"{stem}.gif", f"a/{letter}.png"], ["val"] * 4)
    for name in names:
        (tmp_path / f"{name}.png").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").touch()
    assert len(set(names)) == 4 and names[3] == letter


@pytest.mark.parametrize("scale", [0.5, 0.67, 1.0])
def test_a_mask_that_is_a_pixel_off_is_refused_at_any_scale(folder: Path, scale: float) -> None:
    path = folder / "train/0004_mask.png"
    mask = Image.open(path)
    larger = Image.new("RGB", (SIDE, SIDE + 1))
    larger.paste(mask)
    larger.save(path)
    with pytest.raises(UserError, match=rf"0004_sat.jpg: is {SIDE}×{SIDE} pixels, its mask {SIDE}×{SIDE + 1} \(1 such"):
        made(folder, data={"scale": scale})


ASPP = {"segmenter": {"network": "deeplabv3_mobilenet_v3_large", "weights": "none"}}
RESNET = {"segmenter": {"backbone": "resnet18", "weights": "none", "hidden": []}}


@pytest.mark.parametrize("mode", ["finetune", "frozen"])
def test_one_image_is_too_few_for_a_norm_of_one_value(tmp_path: Path, mode: str) -> None:
    folder = write_scenes(tmp_path / "data", 1, 1)
    keys: dict[str, Any] = {"data": {"holdout": 0.0, "size": 64}, "train": {"mode": mode}}
    with pytest.raises(UserError, match="deeplabv3_mobilenet_v3_large: its batch norm can't be trained on 1 image"):
        made(folder, **keys, **ASPP)
    made(folder, **keys, **RESNET)  # 2×2 values of stride 32
    if mode == "finetune":
        with pytest.raises(UserError, match="fcn: its batch norm can't be trained on 1 image"):
            made(folder, data={"holdout": 0.0, "size": 32}, **RESNET)


def test_statistics_of_whole_images_one_by_one_are_refused_before_the_training(folder: Path) -> None:
    for name in ("sat.jpg", "mask.png"):
        path = folder / f"train/0001_{name}"
        Image.open(path).crop((0, 0, 40, SIDE)).save(path)
    keys: dict[str, Any] = {"data": {"size": 64}, "train": {"reestimate_norm": True, "batch_size": 2}}
    with pytest.raises(UserError, match=r"train\.reestimate_norm: whole images go one by one through deeplabv3_mobile"):
        made(folder, **keys, **ASPP)
    made(folder, **keys, **RESNET)
