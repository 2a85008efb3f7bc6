"""torchvision's data sets by name, on tiny archives in their own file formats; no network."""

from __future__ import annotations

import hashlib
import inspect
import pickle
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from octavo.data import torchvision_data
from octavo.data.torchvision_data import DATASETS, Part, export, read
from octavo.errors import UserError

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
