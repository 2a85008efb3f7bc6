"""k-fold bagging: every training image is predicted by the network that didn't see it; groups stay whole."""

from __future__ import annotations

import csv
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from octavo.data.pairs import read_pairs
from octavo.data.readers import read
from octavo.data.samples import drawn_groups
from octavo.engine.bag import mean_history
from octavo.engine.folder import RunFolder
from octavo.engine.restore import restore
from octavo.errors import UserError
from octavo.networks.member import Bag
from octavo.options import Options
from octavo.recipe import ClassifyRecipe
from octavo.tasks.classification.evaluation import evaluate
from octavo.tasks.classification.predictor import ClassPredictor
from octavo.verbs.training import train

FOLDS = 3


def recipe(**changes: object) -> ClassifyRecipe:
    head = {"hidden": [{"width": 16}]}
    members = [
        {"name": "tuned", "backbone": "squeezenet1_1", "weights": "none", "head": head},
        {"name": "frozen", "backbone": "mobilenet_v3_small", "weights": "none", "mode": "frozen", "head": head},
    ]
    data = {"size": 32, "stored": 16, "normalize": "none", "folds": FOLDS}
    train = {"epochs": 2, "batch_size": 32, "lr": 0.01}
    return ClassifyRecipe.model_validate({"name": "t", "data": data, "train": train, "members": members} | changes)


@pytest.fixture(scope="module")
def bagged(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("bagged")
    return train(recipe(), digits_folder, (), Options(out=folder / "run", cache=folder / "cache", device="cpu"))


def test_folds_are_stratified_and_depend_on_names_and_seed_alone(digits_folder: Path) -> None:
    samples = read(digits_folder)
    folds, inside = samples.folds(4, 0), samples.splits["train"]
    assert set(folds[inside]) == set(range(4)) and (np.delete(folds, inside) == -1).all()
    for label in range(10):
        counts = np.bincount(folds[inside][samples.labels[inside] == label], minlength=4)
        assert np.ptp(counts) <= 1
    assert np.ptp(np.bincount(folds[inside])) <= 1
    assert (samples.folds(4, 0) == folds).all() and (samples.folds(4, 1) != folds).any()
    with pytest.raises(UserError, match=r"data\.folds: 5000 folds of .* expected at most"):
        samples.folds(5000, 0)


def test_every_training_image_is_held_out_once(bagged: RunFolder) -> None:
    rows = bagged.samples()
    train_rows = [row for row in rows if row["part"] == "holdout"]
    assert {row["fold"] for row in train_rows} == {"1", "2", "3"}
    assert not any(row["part"] == "fit" for row in rows)
    folds = np.array([int(row["fold"]) - 1 for row in train_rows])
    for name in ("tuned", "frozen"):
        files = bagged.member(name)
        joined = files.outputs()
        assert len(joined["holdout"]) == len(train_rows)
        for fold in range(FOLDS):
            own = files.fold(fold).outputs()
            np.testing.assert_array_equal(joined["holdout"][folds == fold], own["holdout"])
        mean = np.mean([files.fold(f).outputs()["val"].astype(np.float64) for f in range(FOLDS)], axis=0)
        np.testing.assert_allclose(joined["val"], mean, atol=1e-5)


def test_networks_of_folds_start_and_end_differently(bagged: RunFolder) -> None:
    tuned, frozen = (restore(bagged, name, torch.device("cpu")) for name in ("tuned", "frozen"))
    assert isinstance(tuned.net, Bag) and isinstance(frozen.net, Bag)
    first, second = (next(iter(net.parameters())) for net in list(tuned.net.nets)[:2])
    assert not torch.equal(first, second)
    assert len({id(net.get_submodule("backbone")) for net in frozen.net.nets}) == 1
    heads = [net.get_submodule("head")[0].weight for net in frozen.net.nets]
    assert not torch.equal(heads[0], heads[1])
    whole, head = (bagged.member("frozen").fold(f).weights.stat().st_size for f in (0, 1))
    assert head < whole / 5  # one extractor is kept, not three


def test_predictions_are_the_mean_of_the_folds(bagged: RunFolder, digits_folder: Path) -> None:
    found = ClassPredictor(bagged, "cpu").predict([digits_folder / "val_10"])
    order = [found.files.index(Path(file).name) for file in bagged.files("val")]
    logits = np.stack([bagged.member(n).outputs()["val"] for n in bagged.ensemble.names])
    np.testing.assert_allclose(found.probabilities[order], softmax(bagged.ensemble.logits(logits), axis=1), atol=1e-4)


def test_report_says_where_weights_were_chosen(bagged: RunFolder) -> None:
    report = bagged.metrics
    assert (report.fitted_on, report.calibrated_on) == ("out-of-fold", "out-of-fold")
    assert "networks that did not see it" in report.rule and not report.flattered and report.optimism
    assert evaluate(bagged, split="holdout").flattered


def test_frozen_features_are_computed_once(bagged: RunFolder) -> None:
    assert len(list(bagged.path.parent.glob("cache/features/*/features.npy"))) == 1


def test_killed_between_folds_goes_on_to_the_same(bagged: RunFolder, digits_folder: Path, tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(bagged.path, tmp_path / "run")))
    for path in ("metrics.json", "ensemble.json", "members/frozen/member.json", "members/frozen/fold_2/member.json"):
        (folder.path / path).unlink()
    said: list[str] = []
    options = Options(out=folder.path, resume=True, cache=bagged.path.parent / "cache", device="cpu")
    train(None, None, (), options, say=said.append)
    assert any("frozen fold 2 starts" in line for line in said)
    for path in ("metrics.json", "ensemble.json", "members/frozen/fold_2/weights.safetensors", "history.csv"):
        assert (folder.path / path).read_bytes() == (bagged.path / path).read_bytes(), path


def test_mean_history_is_over_the_folds_that_came_so_far() -> None:
    found = mean_history([[{"epoch": "1", "a": "2"}, {"epoch": "2", "a": "4"}], [{"epoch": "1", "a": "4", "b": ""}]])
    assert found == [{"epoch": "1", "a": "3.0"}, {"epoch": "2", "a": "4.0"}]


def test_one_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="one fold leaves nothing to train on"):
        recipe(data={"folds": 1})


def grouped(folder: Path, digits_folder: Path, *, divided: bool = False) -> Path:
    """A CSV of 60 digits in 12 groups of one class each, and 10 for validation."""
    rows = [("image", "label", "split", "group")]
    for i, file in enumerate(sorted((digits_folder / "train_10").glob("*_1?.png"))[:60]):
        label = file.name.partition("_")[0]
        rows.append((str(file), label, "train", f"{label}-{i % 2}"))
    for file in sorted((digits_folder / "val_10").glob("*_16.png")):
        label = file.name.partition("_")[0]
        rows.append((str(file), label, "val", f"{label}-{0 if divided else 'v'}"))
    path = folder / "list.csv"
    with path.open("w", newline="") as lines:
        csv.writer(lines).writerows(rows)
    return path


def test_groups_stay_whole(digits_folder: Path, tmp_path: Path) -> None:
    samples = read(grouped(tmp_path, digits_folder))
    folds, train = samples.folds(2, 0), samples.splits["train"]
    places = {samples.groups[i]: {int(f) for f in folds[train][[samples.groups[j] == samples.groups[i] for j in train]]}
              for i in train}  # fmt: skip
    assert all(len(found) == 1 for found in places.values()) and len(set(folds[train])) == 2
    fit, held = samples.holdout(0.2, 0)
    assert len(held) and not {samples.groups[i] for i in fit} & {samples.groups[i] for i in held}
    assert Counter(samples.labels[fit]).keys() == Counter(samples.labels[train]).keys()
    assert not any("group" in p.text for p in samples.problems)


def test_a_group_in_two_splits_is_told(digits_folder: Path, tmp_path: Path) -> None:
    samples = read(grouped(tmp_path, digits_folder, divided=True))
    assert any("more than one split, which flatters the score" in p.text for p in samples.problems)


def test_groups_are_drawn_near_the_share_and_leave_every_class() -> None:
    random = np.random.default_rng(0)
    groups = [f"g{i}" for i in random.integers(0, 40, 400)]
    labels = random.integers(0, 5, 400)
    taken = drawn_groups(np.arange(400), groups, labels, 0.2, "key")
    assert abs(len(taken) - 80) <= 12
    assert drawn_groups(np.arange(400), groups, labels, 0.0, "key") == []
    alone = drawn_groups(np.arange(4), ["a", "a", "b", "b"], np.array([0, 0, 1, 1]), 0.5, "key")
    assert alone == []  # either group has all of a class


def partly_grouped(folder: Path, digits_folder: Path) -> Path:
    """A CSV of 60 digits: those that are first of their class belong to a patient, the others have an empty group."""
    rows: list[tuple[str, ...]] = [("image", "label", "group")]
    files = sorted((digits_folder / "train_10").glob("*_1?.png"))[:60]
    for i, file in enumerate(files):
        rows.append((f" {file} ", f" {file.name[0]} ", " p1 " if i < 3 else "p1" if i < 5 else " "))
    path = folder / "list.csv"
    with path.open("w", newline="") as lines:
        csv.writer(lines).writerows(rows)
    return path


def test_an_image_with_an_empty_group_is_alone(digits_folder: Path, tmp_path: Path) -> None:
    samples = read(partly_grouped(tmp_path, digits_folder))
    assert samples.groups == ("p1",) * 5 + ("",) * 55 and samples.files[0].endswith(".png")
    fit, held = samples.with_val(0.2, 0).holdout(0.2, 0)
    for part in (fit, held):  # the patient's images stay together, the others don't
        assert len(set(part) & set(range(5))) in (0, 5) and set(part) & set(range(5, 60))
    folds = samples.folds(5, 0)
    assert len(set(folds[:5])) == 1 and len(set(folds[5:])) == 5
    whole = samples.with_val(0.2, 0)
    assert not any("more than one split" in problem.text for problem in whole.problems)


def test_an_image_and_mask_with_an_empty_group_are_alone(scenes_folder: Path, tmp_path: Path) -> None:
    rows = [("image", "mask", "group")]
    for i in range(12):
        image = scenes_folder / "train" / f"{i:04}_sat.jpg"
        rows.append((f"{image} ", f" {image.with_name(f'{i:04}_mask.png')}", "roof " if i < 4 else ""))
    path = tmp_path / "list.csv"
    with path.open("w", newline="") as lines:
        csv.writer(lines).writerows(rows)
    pairs = read_pairs(path)
    assert pairs.groups == ("roof",) * 4 + ("",) * 8
    held = set(pairs.holdout(0.3, 1)[1].tolist())
    assert len(held & set(range(4))) in (0, 4) and 2 <= len(held) <= 5


def test_a_list_without_any_group_is_divided_as_without_the_column(digits_folder: Path, tmp_path: Path) -> None:
    files = sorted((digits_folder / "train_10").glob("*_1?.png"))
    found = []
    for name, end in (("plain.csv", ""), ("empty.csv", ",")):
        text = "".join(f"{file},{file.name[0]}{end}\n" for file in files)
        (tmp_path / name).write_text(f"image,label{end and ',group'}\n{text}")
        found.append(read(tmp_path / name).holdout(0.2, 0)[1].tolist())
    assert found[0] == found[1]


def test_many_groups_are_drawn_in_a_moment() -> None:
    count = 20_000
    began = time.perf_counter()
    taken = drawn_groups(np.arange(count), [str(i) for i in range(count)], np.arange(count) % 10, 0.2, "key")
    assert len(taken) == 4000 and time.perf_counter() - began < 2
