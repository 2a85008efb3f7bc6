"""Predictions on a user's files: every file has its row, under its own name."""

from __future__ import annotations

import csv
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax

import octavo
from octavo.engine.folder import RunFolder
from octavo.engine.restore import batch_of
from octavo.errors import UserError
from octavo.inference.images import short_names
from octavo.inference.members import LoadedMembers
from octavo.tasks.classification.prediction import Predictions, errors_path
from octavo.tasks.classification.predictor import ClassPredictor

# fmt: off
NAMES = [
    "a,b.png", 'say "so".png', "=1+1.png", " led by a space.png", "two\nlines.png", "return\rhere.png", "tab\t.png",
    "Grüße \N{LATIN SMALL LETTER E WITH ACUTE}.png", "Grüße e\N{COMBINING ACUTE ACCENT}.png", "日本.png", "a;b.png",
    "'.png", "#.png", "-1.png", b"\xff\xfe.png".decode("utf-8", "surrogateescape"),
]
# fmt: on


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def odd_names(tmp_path: Path, digits_folder: Path) -> Path:
    """Digits under names that CSV files and shells stumble over; the digit is that of the name's place modulo ten."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        shutil.copy(digits_folder / "val_10" / f"{i % 10}_16.png", folder / name)
    if len(os.listdir(folder)) < len(NAMES):  # noqa: PTH208 (macOS takes é and é for one name)
        pytest.skip("this file system changes names")
    return folder


def test_names_of_every_kind_round_trip(trained: RunFolder, odd_names: Path, tmp_path: Path) -> None:
    found = ClassPredictor(trained, "cpu").predict([odd_names])
    found.write(tmp_path / "out.csv")
    table = rows(tmp_path / "out.csv")
    assert table[0] == ["image_id", "label"]
    assert sorted(name for name, _ in table[1:]) == sorted(NAMES)
    single = {n: ClassPredictor(trained, "cpu").predict([odd_names / n]) for n in NAMES[::4]}
    for name, one in single.items():
        assert one.files == (name,) and [name, one.labels[0]] in table


def test_strips_beside_each_other_need_no_giant_canvas(trained: RunFolder, tmp_path: Path) -> None:
    for size in ((65_000, 32), (32, 65_000), (40, 30)):
        Image.new("L", size, 99).save(tmp_path / f"{size[0]}.gif")
    tracemalloc.start()
    found = ClassPredictor(trained, "cpu", member="squeeze").predict([tmp_path])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.files == ("32.gif", "40.gif", "65000.gif")
    assert not found.errors
    assert peak < 200e6


def test_predictions_equal_the_evaluation_of_the_same_files(trained: RunFolder, digits_folder: Path) -> None:
    found = ClassPredictor(trained, "cpu").predict([digits_folder / "val_10"])
    evaluated = dict(rows(trained.path / "predictions" / "val.csv")[1:])
    assert dict(zip(found.files, found.labels, strict=True)) == evaluated
    logits = np.stack([trained.member(n).outputs()["val"] for n in trained.ensemble.names])
    mixed = np.tensordot(np.array(trained.ensemble.weights), logits.astype(np.float64), 1)
    expected = softmax(mixed * trained.ensemble.calibration.scale[0], axis=1)
    order = [found.files.index(Path(file).name) for file in trained.files("val")]
    np.testing.assert_allclose(found.probabilities[order], expected, atol=1e-4)
    np.testing.assert_array_equal(found.ids, found.probabilities.argmax(1))
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)


def test_one_member_alone(trained: RunFolder, digits_folder: Path) -> None:
    found = octavo.load(trained.path, "cpu").predict(digits_folder / "val_10", member="squeeze")
    order = [found.files.index(Path(file).name) for file in trained.files("val")]
    scale = trained.ensemble.own_of("squeeze").scale[0]
    expected = softmax(trained.member("squeeze").outputs()["val"] * scale, axis=1)
    np.testing.assert_allclose(found.probabilities[order], expected, atol=1e-4)
    with pytest.raises(UserError, match='--member: unknown "squeez"; did you mean "squeeze"'):
        ClassPredictor(trained, member="squeez").predict([digits_folder / "val_10"])


def test_columns_that_can_be_asked_for(trained: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    found = ClassPredictor(trained, "cpu").predict([digits_folder / "val_10"])
    found.write(tmp_path / "out.csv", ids=True, probabilities=True)
    table = rows(tmp_path / "out.csv")
    assert table[0] == ["image_id", "label", "confidence", *(f"p_{c}" for c in trained.manifest["classes"])]
    for row, number, shares in zip(table[1:], found.ids, found.probabilities, strict=True):
        assert row[1] == str(number) and float(row[2]) == pytest.approx(shares.max(), abs=1e-6)
        np.testing.assert_allclose(np.array(row[3:], float), shares, atol=1e-6)


def test_unreadable_files_are_listed_and_the_rest_predicted(
    trained: RunFolder, digits_folder: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "mixed", tmp_path / "out.v1.csv"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(digits_folder / "val_10" / "7_16.png", folder / "deep" / "good.png")
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no image")
    (folder / "cut.png").write_bytes((digits_folder / "val_10" / "7_16.png").read_bytes()[:60])
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "notes.txt").write_text("not listed")
    found = ClassPredictor(trained, "cpu").predict([folder])
    found.write(out)
    assert [row[0] for row in rows(out)[1:]] == ["deep/good.png"]
    listed = rows(tmp_path / "out.v1.errors.csv")
    assert listed[0] == ["image_id", "reason"]
    assert {row[0] for row in listed[1:]} == {"empty.png", "text.jpg", "cut.png", "gone.png"}
    assert all(reason and "\n" not in reason for _, reason in listed[1:])
    (folder / "deep" / "good.png").rename(folder / "alone.png")
    ClassPredictor(trained, "cpu").predict([folder / "alone.png"]).write(out)
    assert not errors_path(out).exists()  # what it said was of other predictions


def test_nothing_readable_still_gives_a_table(trained: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    found = ClassPredictor(trained, "cpu").predict([tmp_path / "x.png"])
    found.write(tmp_path / "out.csv", probabilities=True)
    assert rows(tmp_path / "out.csv") == [["image_id", "label"]] and list(found.errors) == ["x.png"]
    assert found.probabilities.shape == (0, 10) and found.labels == []


def test_ids_are_below_the_folder_given_and_never_the_same_for_two() -> None:
    paths = [Path("/d/a/1.png"), Path("/d/b/1.png"), Path("/e/2.png")]
    assert list(short_names(paths, ["/e/2.png"]).values()) == ["/d/a/1.png", "/d/b/1.png", "2.png"]


def test_ids_of_two_folders_with_the_same_names(
    trained: RunFolder, digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, digit in (("a", 3), ("b", 5)):
        (tmp_path / folder).mkdir()
        shutil.copy(digits_folder / "val_10" / f"{digit}_16.png", tmp_path / folder / "1.png")
    shutil.copy(digits_folder / "val_10" / "2_16.png", tmp_path / "a" / "2.png")
    monkeypatch.chdir(tmp_path)
    found = ClassPredictor(trained, "cpu").predict(["a", "b"])
    assert found.files == ("a/1.png", "2.png", "b/1.png")
    assert ClassPredictor(trained, "cpu").predict(["."]).files == ("a/1.png", "a/2.png", "b/1.png")


def test_many_files_named_one_by_one_take_no_time(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(5000)]
    assert len(short_names(paths, paths)) == 5000  # was a question to the disk for each pair: minutes


def test_sizes_mix_in_one_batch(trained: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    image = Image.open(digits_folder / "val_10" / "4_16.png").convert("RGB")
    for i, size in enumerate([(8, 8), (300, 20), (20, 300), (64, 48)]):
        image.resize(size).save(tmp_path / f"{i}.png")
    whole = ClassPredictor(trained, "cpu").predict([tmp_path])
    for i in range(4):
        alone = ClassPredictor(trained, "cpu").predict([tmp_path / f"{i}.png"])
        np.testing.assert_allclose(whole.probabilities[i], alone.probabilities[0], atol=1e-4)


def test_embedding_is_the_layer_before_its_relu(trained: RunFolder, digits_folder: Path) -> None:
    run = octavo.load(trained.path, "cpu")
    found = run.embed(digits_folder / "val_10", "vgg.head.0")
    assert found.shape == (40, 256) and found.dtype == np.float32 and found.min() < 0
    net, paths = run.members["vgg"], sorted((digits_folder / "val_10").iterdir())
    from octavo.engine.restore import restore

    member = restore(trained, "vgg", torch.device("cpu"))
    images = [np.asarray(Image.open(p).convert("RGB")) for p in paths]
    with torch.no_grad():
        x = member.inputs.plain(batch_of(images))
        features = net.get_submodule("backbone")(x)
        linear = net.get_submodule("head.0")
        expected = features @ linear.weight.T + linear.bias
        logits = net.get_submodule("head.2")(torch.relu(expected))
    from natsort import natsorted

    order = natsorted(range(40), key=lambda i: paths[i].name)
    np.testing.assert_allclose(found, expected.numpy()[order], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(run.embed(digits_folder / "val_10", "vgg.head"), logits.numpy()[order], atol=1e-3)
    assert run.embed([digits_folder / "val_10" / "0_16.png"], "mobile.backbone").shape == (1, 576)


EMBED_MISTAKES: dict[str, Callable[[RunFolder, Path], object]] = {
    r'"vg\.head" names no member; expected MEMBER\.LAYER with one of: vgg, squeeze': lambda r, d: LoadedMembers(
        r, "cpu"
    ).embed([d], "vg.head"),
    r'layer: unknown "head\.9"; did you mean "head': lambda r, d: LoadedMembers(r, "cpu").embed([d], "vgg.head.9"),
    r"broken\.png: ": lambda r, d: LoadedMembers(r, "cpu").embed([d / "broken.png"], "vgg.head.0"),
    r"nowhere: no such file or folder": lambda r, d: LoadedMembers(r, "cpu").embed([d / "nowhere"], "vgg.head.0"),
}


@pytest.mark.parametrize("words", EMBED_MISTAKES)
def test_embedding_refuses_what_it_cannot_do(trained: RunFolder, tmp_path: Path, words: str) -> None:
    (tmp_path / "broken.png").touch()
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "sub").mkdir()
    if "broken" not in words:
        (tmp_path / "broken.png").unlink()
    with pytest.raises(UserError, match=words):
        EMBED_MISTAKES[words](trained, tmp_path)


def test_labels_are_names() -> None:
    found = Predictions(("a", "b"), ("cat", "dog"), np.array([1, 0]), np.zeros((2, 2), np.float32), {})
    assert found.labels == ["dog", "cat"]
