"""torchvision's data sets by name, on tiny archives in their own file formats; no network."""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from octavo.data import folder_sums, store, torchvision_data
from octavo.data.torchvision_data import DATASETS, PAIR_DATASETS, Part, export, read, read_pairs
from octavo.errors import Damaged, UserError

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_exists_and_takes_its_arguments(name: str) -> None:
    signature = inspect.signature(getattr(datasets, name))
    parts = DATASETS[name]
    assert parts[0].split == "train"
    assert [p.split for p in parts] in (["train"], ["train", "val"], ["train", "val", "test"])
    for part in parts:
        signature.bind(root="x", download=True, **part.arguments)


def cifar(raw: Path, monkeypatch: pytest.MonkeyPatch, per_batch: int = 20) -> np.ndarray:
    """Write CIFAR-10 in its binary form with a few images, and its checksums; return the training images."""
    rng = np.random.default_rng(0)
    folder = raw / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    kinds = {"train_list": [f"data_batch_{i}" for i in range(1, 6)], "test_list": ["test_batch"]}
    images = []
    for attribute, files in kinds.items():
        sums = []
        for file in files:
            data = rng.integers(0, 256, (per_batch, 3072), dtype=np.uint8)
            labels = [i % 10 for i in range(per_batch)]
            (folder / file).write_bytes(pickle.dumps({"data": data, "labels": labels}))
            sums.append([file, hashlib.md5((folder / file).read_bytes()).hexdigest()])
            if attribute == "train_list":
                images.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        monkeypatch.setattr(datasets.CIFAR10, attribute, sums)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(NAMES)}))
    meta = {**datasets.CIFAR10.meta, "md5": hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return np.concatenate(images)


def test_cifar_is_exported_once_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = cifar(tmp_path / "datasets" / "CIFAR10.raw", monkeypatch)
    said: list[tuple[int, int]] = []
    samples = read(
        "torchvision:CIFAR10", cache=tmp_path, progress=lambda what, done, total, note="": said.append((done, total))
    )
    assert said[-1] == (120, 120)
    assert (samples.root, samples.layout, samples.own_split) == ("torchvision:CIFAR10", "torchvision", True)
    assert samples.classes == NAMES
    assert {s: len(i) for s, i in samples.splits.items()} == {"train": 100, "val": 20}
    assert samples.labels[samples.splits["train"]].tolist() == [i % 10 for i in range(100)]
    for index in samples.splits["train"][::17]:
        with Image.open(samples.path(int(index))) as image:
            np.testing.assert_array_equal(np.asarray(image), images[int(Path(samples.files[index]).stem)])
    monkeypatch.setattr(torchvision_data, "_load", lambda *_: pytest.fail("loaded again"))
    assert read("torchvision:CIFAR10", cache=tmp_path).files == samples.files


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "image flipped": lambda folder: flip(folder / "train" / "07.png"),
    "image cut": lambda folder: os.truncate(folder / "train" / "07.png", 9),
    "image gone": lambda folder: (folder / "val" / "07.png").unlink(),
    "another image": lambda folder: shutil.copy(folder / "val" / "07.png", folder / "val" / "7.png"),
    "labels flipped": lambda folder: flip(folder / "labels.csv"),
    "labels gone": lambda folder: (folder / "labels.csv").unlink(),
    "list flipped": lambda folder: flip(folder / folder_sums.SUMS),
    "empty list": lambda folder: os.truncate(folder / folder_sums.SUMS, 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_export_is_made_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cifar(tmp_path / "datasets" / "CIFAR10.raw", monkeypatch)
    folder = export("CIFAR10", tmp_path)
    whole = {str(path): path.read_bytes() for path in folder.rglob("[!.]*.*")}
    DAMAGES[damage](folder)
    assert export("CIFAR10", tmp_path) == folder
    assert {str(path): path.read_bytes() for path in folder.rglob("[!.]*.*")} == whole
    (line,) = caplog.messages
    assert line.startswith(f"warning: {folder}/") and line.endswith("; it is exported again")


def test_damage_that_leaves_the_time_is_found_when_images_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar(tmp_path / "datasets" / "CIFAR10.raw", monkeypatch)
    image = export("CIFAR10", tmp_path) / "train" / "07.png"
    times = image.stat()
    flip(image)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(Damaged, match=r"07\.png: damaged or changed: .*octavo cache --clear datasets"):
        store.build(read("torchvision:CIFAR10", cache=tmp_path), store.ImageDecoder(), tmp_path)


def test_an_export_of_before_is_taken_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cifar(tmp_path / "datasets" / "CIFAR10.raw", monkeypatch)
    folder = export("CIFAR10", tmp_path)
    (folder / folder_sums.SUMS).unlink()
    monkeypatch.setattr(torchvision_data, "_load", lambda *_: pytest.fail("loaded again"))
    assert export("CIFAR10", tmp_path) == export("CIFAR10", tmp_path) == folder
    (line,) = caplog.messages
    assert "by an earlier version of Octavo, without checksums; they are added now" in line


def test_torchvisions_own_files_are_those_of_the_first_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "datasets" / "CIFAR10.raw"
    cifar(raw, monkeypatch)
    flip(export("CIFAR10", tmp_path) / "train" / "07.png")
    flip(raw / "cifar-10-batches-py" / "batches.meta")
    with pytest.raises(
        Damaged, match=r"batches\.meta: damaged or changed: .*; delete it, and torchvision downloads it"
    ):
        export("CIFAR10", tmp_path)


def test_export_from_the_published_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive as it is downloaded, put by hand where the error message says."""
    cifar(tmp_path / "made", monkeypatch)
    raw = tmp_path / "datasets" / "CIFAR10.raw"
    raw.mkdir(parents=True)
    with tarfile.open(raw / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made" / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(
        datasets.CIFAR10, "tgz_md5", hashlib.md5((raw / "cifar-10-python.tar.gz").read_bytes()).hexdigest()
    )
    assert len(read("torchvision:CIFAR10", cache=tmp_path).files) == 120


class Made:
    """A data set with names that a folder couldn't have, as torchvision's may be."""

    classes = ("F/A-18", "a,b", 'say "ü"', "10", "9")

    def __init__(self, root: str, download: bool, train: bool) -> None:
        self.size = 10 if train else 5

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("L", (9, 9), index), index % 5


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "Made", Made, raising=False)
    monkeypatch.setitem(DATASETS, "Made", (Part("train", {"train": True}), Part("val", {"train": False})))


@pytest.mark.usefixtures("made")
def test_class_names_of_any_kind(tmp_path: Path) -> None:
    samples = read("torchvision:made", cache=tmp_path)
    assert set(samples.classes) == set(Made.classes)
    assert samples.classes.index("9") < samples.classes.index("10")
    for index, file in enumerate(samples.files):
        assert samples.classes[samples.labels[index]] == Made.classes[int(Path(file).stem) % 5]


@pytest.mark.usefixtures("made")
def test_export_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Made, "__getitem__", lambda self, index: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export("Made", tmp_path)
    assert [p.name for p in (tmp_path / "datasets").iterdir()] == ["Made.raw"]
    stale = tmp_path / "datasets" / "Made.tmp" / "train"
    stale.mkdir(parents=True)
    (stale / "stale.png").touch()
    export("Made", tmp_path)
    assert not (tmp_path / "datasets" / "Made" / "train" / "stale.png").exists()
    assert len(read("torchvision:Made", cache=tmp_path).files) == 15


def test_what_cannot_be_had_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline:
        def __init__(self, **_: Any) -> None:
            raise OSError("<urlopen error\nno route>")

    monkeypatch.setattr(datasets, "CIFAR100", Offline)
    raw = tmp_path / "datasets" / "CIFAR100.raw"
    with pytest.raises(
        UserError, match=re.escape(f"(<urlopen error no route>); put torchvision's own files for CIFAR100 into {raw}")
    ):
        read("torchvision:CIFAR100", cache=tmp_path)
    assert raw.is_dir()


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='torchvision: unknown "CIFAR1000"; did you mean "CIFAR100"'):
        read("torchvision:CIFAR1000", cache=tmp_path)
    with pytest.raises(UserError, match="is a torchvision data set"):
        read("torchvision:CIFAR100", "csv", cache=tmp_path)


def test_folders_are_passed_on(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    assert read(tmp_path).classes == ("a", "b")
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError):
        read(tmp_path)
    assert read(tmp_path, strict=False).problems[0].fatal


# ── Images and masks ────────────────────────────────────────────────────────────────────────────────────────────────

LISTS = {"train": ("2007_1", "2007_2"), "val": ("2008_3",), "trainval": ("2007_1", "2007_2", "2008_3")}


def voc(root: Path) -> Path:
    """Write VOC 2012 in its own form, with three images, as its archive unpacks."""
    kit = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (kit / folder).mkdir(parents=True)
    for number, name in enumerate(LISTS["trainval"]):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(kit / "JPEGImages" / f"{name}.jpg")
        mask = Image.new("P", (8, 6), number)
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        mask.save(kit / "SegmentationClass" / f"{name}.png")
    for split, names in LISTS.items():
        (kit / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return kit


def archive_voc(raw: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pack it as it is downloaded, and have torchvision expect this archive."""
    from torchvision.datasets import voc as module

    voc(made)
    raw.mkdir(parents=True)
    facts = module.DATASET_YEAR_DICT["2012"]
    file = raw / facts["filename"]
    with tarfile.open(file, "w") as tar:
        tar.add(made / "VOCdevkit", "VOCdevkit")
    monkeypatch.setitem(module.DATASET_YEAR_DICT, "2012", {**facts, "md5": hashlib.md5(file.read_bytes()).hexdigest()})
    return file


@pytest.mark.parametrize("name", PAIR_DATASETS)
def test_every_data_set_of_pairs_exists(name: str) -> None:
    inspect.signature(getattr(datasets, name)).bind(root="x", image_set="train", download=True)


def test_voc_from_its_published_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "datasets" / "VOCSegmentation.raw"
    archive_voc(raw, tmp_path / "made", monkeypatch)
    (raw / "VOCdevkit" / "VOC2012").mkdir(parents=True)  # what a killed process left
    pairs = read_pairs("torchvision:vocsegmentation", cache=tmp_path)
    assert (pairs.root, pairs.layout, pairs.own_split) == ("torchvision:vocsegmentation", "torchvision", True)
    assert {s: [Path(pairs.files[i]).stem for i in index] for s, index in pairs.splits.items()} == {
        s: list(LISTS[s]) for s in ("train", "val")
    }
    expected = datasets.VOCSegmentation(str(tmp_path / "made"), image_set="train")
    for index in pairs.splits["train"].tolist():
        image, mask = expected[index]
        with Image.open(pairs.path(index)) as own, Image.open(pairs.mask_path(index)) as own_mask:
            np.testing.assert_array_equal(np.asarray(own), np.asarray(image))
            np.testing.assert_array_equal(np.asarray(own_mask), np.asarray(mask))
    monkeypatch.setattr(torchvision_data, "_load", lambda *_: pytest.fail("loaded again"))
    assert read_pairs("torchvision:VOCSegmentation", "torchvision", cache=tmp_path).files == pairs.files


def test_voc_unpacked_by_hand(tmp_path: Path) -> None:
    voc(tmp_path / "datasets" / "VOCSegmentation.raw")
    assert len(read_pairs("torchvision:VOCSegmentation", cache=tmp_path).files) == 3


def test_voc_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline:
        def __init__(self, **_: Any) -> None:
            raise OSError("<urlopen error\nno route>")

    monkeypatch.setattr(datasets, "VOCSegmentation", Offline)
    with pytest.raises(UserError, match=r"can't be downloaded or read \(<urlopen error no route>\); put torchvision's"):
        read_pairs("torchvision:VOCSegmentation", cache=tmp_path)
    assert not (tmp_path / "datasets" / "VOCSegmentation").exists()


def test_names_of_the_other_task(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds images and their classes, for a classifier; expected one of: VOC"):
        read_pairs("torchvision:CIFAR10", cache=tmp_path)
    with pytest.raises(UserError, match="holds images and masks, for a segmenter; expected one of: CIFAR10"):
        read("torchvision:VOCSegmentation", cache=tmp_path)
    with pytest.raises(UserError, match='unknown "VOCSegmentatio"; did you mean "VOCSegmentation"'):
        read_pairs("torchvision:VOCSegmentatio", cache=tmp_path)
    with pytest.raises(UserError, match="is a torchvision data set"):
        read_pairs("torchvision:VOCSegmentation", "voc", cache=tmp_path)


def test_folders_of_pairs_are_passed_on(tmp_path: Path) -> None:
    for name in ("1_sat.png", "1_mask.png", "2_sat.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(UserError, match=r"have no mask: 2_sat\.png"):
        read_pairs(tmp_path)
    assert read_pairs(tmp_path, "course", strict=False).masks == ("1_mask.png",)
