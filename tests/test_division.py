"""Data that a training would refuse once broken files are left out, and `octavo check`, which says so before."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Octavo
from octavo.data.store import Pixels
from octavo.engine.material import Material
from octavo.errors import UserError
from octavo.progress import silent
from octavo.recipe import ClassifyRecipe, SegmentRecipe, load
from octavo.tasks.classification.check import check
from octavo.tasks.classification.data import prepare as prepare_samples
from octavo.tasks.segmentation.check import check_masks
from octavo.tasks.segmentation.data import prepare as prepare_pairs

TABLE = "".join(f'[[classes]]\nid = {i}\nname = "c{i}"\ncolor = [{i}, 0, 9]\n' for i in range(3))


def damage(*paths: Path) -> None:
    for path in paths:
        path.write_bytes(b"\x89PNG\r\n")


def remove(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def image(path: Path, seed: int, side: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(path)


def three_classes(root: Path, train: int = 5, val: int = 3) -> Path:
    for place, name in enumerate("abc"):
        for k in range(train + val):
            split, number = ("train", k) if k < train else ("val", k - train)
            image(root / split / name / f"{number}.png", 100 * place + k)
    return root


def prepared(root: Path, *, skip_broken: bool = True, labels: Path | None = None, **data: Any) -> Material:
    """As `train quick --data ROOT` prepares the data."""
    recipe = load("quick", [f"data.{key}={value}" for key, value in data.items()])
    assert isinstance(recipe, ClassifyRecipe)
    recipe = recipe.model_copy(update={"members": recipe.members[2:]})
    return prepare_samples(recipe, str(root), None, Path(str(root) + ".cache"), skip_broken, labels, progress=silent)


def refusal(root: Path, **options: Any) -> str:
    with pytest.raises(UserError) as found:
        prepared(root, **options)
    return str(found.value)


def test_a_class_whose_training_images_are_all_broken_is_refused(tmp_path: Path) -> None:
    root = three_classes(tmp_path / "data")
    damage(*(root / "train" / "b").iterdir())
    text = refusal(root)
    words = 'class "b" is left without images to train on: of its 4 images, 4 can\'t be decoded; mend that, or take the'
    assert text == f"{root}: {words} class out of the data"
    assert check(root, cache=tmp_path / "cache", leaks=False).errors == (text,)


def test_a_class_with_held_out_images_alone_is_refused(tmp_path: Path) -> None:
    root = three_classes(tmp_path / "data")
    whole = prepared(root, skip_broken=False)
    fit = [whole.samples.files[i] for i in whole.parts["fit"] if whole.labels[np.array([i])][0] == 1]
    damage(*(root / file for file in fit))
    assert 'class "b" is left without images to train on: of its 4 images, 4' in refusal(root)
    assert 'class "b" is left' in check(root, cache=tmp_path / "cache", leaks=False).errors[0]


def test_labels_and_broken_files_together_empty_a_class(tmp_path: Path) -> None:
    root = three_classes(tmp_path / "data")
    files = sorted((root / "train" / "b").iterdir())
    damage(*files[:3])
    labels = tmp_path / "labels.csv"
    labels.write_text("file,corrected\ntrain/b/3.png,-\ntrain/b/4.png,a\n")
    with pytest.raises(UserError, match=r'labels.csv: class "b" is left without training images'):
        labels.write_text("file,corrected\n" + "".join(f"train/b/{k}.png,a\n" for k in range(5)))
        prepared(root, labels=labels)
    labels.write_text("file,corrected\ntrain/b/3.png,-\ntrain/b/4.png,a\n")
    text = refusal(root, labels=labels)
    assert 'class "b" is left without images to train on' in text and "--labels" in text
    assert check(root, labels=labels, cache=tmp_path / "cache", leaks=False).errors == (text,)
    assert check(root, cache=tmp_path / "cache", leaks=False).errors == ()  # two whole images of b are left


def test_with_folds_a_class_may_be_missing_from_one_training(tmp_path: Path) -> None:
    root = three_classes(tmp_path / "data", train=2)
    damage(root / "train" / "b" / "0.png")
    (warning,) = prepared(root, folds=2).warnings
    assert warning.startswith('class "b" is left without images to train on in fold ')
    damage(root / "train" / "b" / "1.png")
    assert 'class "b" is left without images to train on: of its 2 images, 2 can' in refusal(root, folds=2)


@pytest.mark.parametrize("part", ["holdout", "val"])
def test_a_class_without_scored_images_is_a_warning(part: str, tmp_path: Path) -> None:
    root = three_classes(tmp_path / "data")
    whole = prepared(root, skip_broken=False)
    lost = [i for i in whole.parts[part] if whole.labels[np.array([i])][0] == 2]
    damage(*(root / whole.samples.files[i] for i in lost))
    word = {"holdout": "held-out", "val": "validation"}[part]
    (warning,) = prepared(root).warnings
    assert warning.startswith(f'class "c" is left without {word} images: {len(lost)} file')
    report = check(root, cache=tmp_path / "cache", leaks=False)
    assert warning in report.warnings and not report.ok and not report.errors


def test_training_prints_what_was_lost(run_cli: Octavo, tmp_path: Path) -> None:
    root = three_classes(tmp_path / "data")
    damage(*(root / "val" / "c").iterdir())
    member = 'members=[{name="m",backbone="squeezenet1_1",weights="none"}]'
    words = [w for key in (member, "train.epochs=1", "train.cache=false", "data.size=24") for w in ("--set", key)]
    train = ["train", "quick", "--data", root, "--out", tmp_path / "run", "--no-report", *words]
    assert run_cli(*train)[0] == 2  # without --skip-broken
    code, _, err = run_cli(*train, "--skip-broken")
    assert code == 0 and 'warning: class "c" is left without validation images: 3 files of these' in err
    other = Path(shutil.copytree(root, tmp_path / "other"))
    image(other / "val/a/0.png", 9999)
    code, out, _ = run_cli("evaluate", tmp_path / "run", "--data", other, "--skip-broken")
    lost = '3 of 9 images of other/val can\'t be decoded and are left out; class "c" is left without any'
    assert code == 0 and lost in " ".join(out.split())
    damage(*(other / "val").glob("*/*"))
    code, _, err = run_cli("evaluate", tmp_path / "run", "--data", other, "--skip-broken")
    assert code == 2 and "not one of 9 images of other/val can be decoded" in err


# ── Images with masks ───────────────────────────────────────────────────────────────────────────────────────────────


def scenes_of(root: Path, train: int = 6, val: int = 3, table: str | None = TABLE) -> Path:
    for k in range(train + val):
        split = "train" if k < train else "val"
        image(root / split / "images" / f"{k}.png", k)
        (root / split / "masks").mkdir(exist_ok=True)
        ids = np.arange(9, dtype=np.uint8).reshape(3, 3) % 3
        Image.fromarray(ids.repeat(8, 0).repeat(8, 1)).save(root / split / "masks" / f"{k}.png")
    if table:
        (root / "classes.toml").write_text(table)
    return root


def without_class(root: Path, value: int, *keep: int) -> None:
    """Take a class out of all masks but those of `keep`."""
    for path in root.glob("*/masks/*.png"):
        ids = np.array(Image.open(path))
        if int(path.stem) not in keep:
            ids[ids == value] = 2 if value != 2 else 0
            Image.fromarray(ids).save(path)


def prepared_masks(root: Path, *, skip_broken: bool = True, **data: Any) -> Material:
    recipe = load("fcn8s-plus", [f"data.{key}={value}" for key, value in data.items()])
    assert isinstance(recipe, SegmentRecipe)
    small = recipe.segmenter.model_copy(update={"backbone": "vgg11", "weights": "none", "hidden": ()})
    recipe = recipe.model_copy(update={"segmenter": small})
    return prepare_pairs(recipe, str(root), None, root.with_name("cache"), skip_broken, progress=silent)


def mask_refusal(root: Path, **options: Any) -> str:
    with pytest.raises(UserError) as found:
        prepared_masks(root, **options)
    return str(found.value)


@pytest.mark.parametrize("half", ["images", "masks"])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_class_that_broken_pairs_alone_show_is_refused(half: str, elsewhere: bool, tmp_path: Path) -> None:
    root = scenes_of(tmp_path / "data")
    without_class(root, 1, 2, *([6, 7, 8] if elsewhere else []))
    assert prepared_masks(root, skip_broken=False).warnings == ()
    damage(root / "train" / half / "2.png")
    text = mask_refusal(root)
    assert text.startswith(
        f'{root}: class "c1" is left without pixels to train on: 1 of 5 pairs can\'t be decoded, and'
    )
    assert check_masks(root, cache=tmp_path / "cache", leaks=False).errors == (text,)


def test_a_shipped_tables_class_that_no_mask_shows_is_a_warning(tmp_path: Path) -> None:
    table = {0: 0, 1: 5, 2: 9}  # values of VOC's background, bottle and chair
    root = scenes_of(tmp_path / "data", table=None)
    for path in root.glob("*/masks/*.png"):
        Image.fromarray(np.vectorize(table.get)(np.array(Image.open(path))).astype(np.uint8)).save(path)
    damage(root / "train" / "masks" / "2.png")
    (warning,) = prepared_masks(root, classes="voc").warnings
    assert warning.startswith("no mask that can be decoded shows 18 classes (") and "1 of 5 pairs can't" in warning
    for path in root.glob("train/masks/*.png"):  # bottles are in the validation part alone
        if path.stem != "2":
            ids = np.array(Image.open(path))
            Image.fromarray(np.where(ids == 5, 0, ids).astype(np.uint8)).save(path)
    assert 'class "bottle" is left without pixels to train on' in mask_refusal(root, classes="voc")


def test_pixels_that_validation_loses_are_a_warning(tmp_path: Path) -> None:
    root = scenes_of(tmp_path / "data")
    without_class(root, 1, 0, 1, 2, 3, 4, 5, 7)
    damage(root / "val" / "images" / "7.png")
    warning = 'class "c1" is left without validation pixels: 1 of 3 pairs can\'t be decoded'
    assert prepared_masks(root).warnings == (warning,)
    report = check_masks(root, cache=tmp_path / "cache", leaks=False)
    assert warning in report.warnings and not report.errors


def void(root: Path) -> None:
    (root / "classes.toml").write_text(TABLE + '[[classes]]\nid = 255\nname = "void"\nignored = true\n')
    for path in root.glob("train/masks/*.png"):
        Image.fromarray(np.full((24, 24), 255, np.uint8)).save(path)


def one_class(root: Path) -> None:
    without_class(root, 1)
    without_class(root, 2)


def unknown_value(root: Path) -> None:
    Image.fromarray(np.full((24, 24), 77, np.uint8)).save(root / "train/masks/1.png")


def another_size(root: Path) -> None:
    image(root / "train/images/1.png", 9, side=25)


MASK_FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "void": (void, "the masks to train on show no pixel of any class; there is nothing to learn"),
    "one class": (one_class, 'the masks to train on show class "c0" alone; there is nothing to learn'),
    "unknown": (unknown_value, "value 77"),
    "size": (another_size, "24×24"),
    "no mask": (lambda root: remove(root / "train/masks/1.png"), "1 of 6 images in train have no mask"),
    "broken": (lambda root: damage(root / "train/masks/1.png"), "not a JPEG"),
    "all broken": (lambda root: damage(*root.glob("*/images/*")), "not a JPEG"),
    "no masks": (lambda root: damage(*root.glob("*/masks/*")), "not one mask can be read"),
    "few": (lambda root: remove(root / "val", *root.glob("train/*/[2-9].png")),
            "1 training images, so none can be split off"),
    "deep": (lambda root: Image.fromarray(np.full((24, 24), 600, np.uint16)).save(root / "train/masks/1.png"),
             "values from 600 to 600 of 16 bits"),
}  # fmt: skip


@pytest.mark.parametrize("fault", MASK_FAULTS)
def test_check_refuses_masks_that_training_refuses(fault: str, tmp_path: Path) -> None:
    root = scenes_of(tmp_path / "data")
    MASK_FAULTS[fault][0](root)
    text = mask_refusal(root, skip_broken=False)
    report = check_masks(root, cache=tmp_path / "cache", leaks=False)
    told = "\n".join([*report.errors, *(f"{flaw.file}: {flaw.reason}" for flaw in report.broken)])
    assert not report.ok and MASK_FAULTS[fault][1] in told and MASK_FAULTS[fault][1] in text


def grouped(root: Path, of: Callable[[str], str]) -> None:
    """List the training images in a CSV file, the group of each by its class."""
    files = sorted(root.glob("train/*/*.png"))
    rows = [(file.relative_to(root).as_posix(), file.parent.name, of(file.parent.name)) for file in files]
    with (root / "list.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([("image", "label", "group"), *rows])


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "one class": (lambda root: remove(*root.glob("*/[bc]")), "only one class"),
    "one image each": (lambda root: remove(*root.glob("train/*/[1-9].png")),
                       "no class has two training images"),
    "no validation": (lambda root: damage(*root.glob("val/*/*.png")), "not a JPEG"),
    "one group": (lambda root: grouped(root, lambda name: "g"), "no group of training images can be split off"),
    "a group a class": (lambda root: grouped(root, lambda name: name), "no group of training images can be split off"),
    "unknown class": (lambda root: image(root / "val/z/0.png", 1), 'val has class "z"'),
    "empty class": (lambda root: (root / "train/z").mkdir(), "no image in this class folder"),
    "beside": (lambda root: image(root / "train/0.png", 1), "beside the class folders"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_check_refuses_images_that_training_refuses(fault: str, tmp_path: Path) -> None:
    root = three_classes(tmp_path / "data")
    FAULTS[fault][0](root)
    root = root / "list.csv" if (root / "list.csv").exists() else root
    text = refusal(root, skip_broken=False)
    report = check(root, cache=tmp_path / "cache", leaks=False)
    told = "\n".join([*report.errors, *(f"{flaw.file}: {flaw.reason}" for flaw in report.broken)])
    assert not report.ok and FAULTS[fault][1] in told and FAULTS[fault][1] in text


def test_sound_data_are_taken_by_both(tmp_path: Path) -> None:
    classes, masks = three_classes(tmp_path / "classes"), scenes_of(tmp_path / "masks")
    assert check(classes, cache=tmp_path / "cache", leaks=False).ok
    assert prepared(classes, skip_broken=False).warnings == ()
    assert check_masks(masks, cache=tmp_path / "cache", leaks=False).ok
    assert isinstance(prepared_masks(masks, skip_broken=False).pixels, Pixels)


def test_what_is_left_to_do_after_writing_a_table(run_cli: Octavo, tmp_path: Path) -> None:
    root = scenes_of(tmp_path / "my data", table=None)
    for path in root.glob("*/masks/*.png"):  # colours of no shipped table
        shades = np.array([(10, 20, 30), (200, 10, 10), (10, 200, 10)], np.uint8)
        Image.fromarray(shades[np.array(Image.open(path))]).save(path)
    assert run_cli("check", root, "--no-leaks")[0] == 1
    other = tmp_path / "t.toml"
    for table, tail in ((other, f" --set data.classes={other}"), (root / "classes.toml", "")):
        code, out, _ = run_cli("check", root, "--no-leaks", "--write-classes", table)
        assert code == 0 and "ready to train on" in out
        words, command = out.splitlines()[-2:]
        assert words.startswith(f"{table}: names 3 classes class 0, class 1, class 2; give them their names there")
        assert command == f"octavo train fcn8s-plus --data '{root}'{tail}"
        assert table.is_file()
    assert prepared_masks(root, skip_broken=False).classes == ("class 0", "class 1", "class 2")
    code, _, err = run_cli("check", root, "--no-leaks", "--write-classes", tmp_path / "again.toml")
    assert code == 2 and "no table to propose" in err
