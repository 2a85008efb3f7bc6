"""Segmenters trained: every key of their recipes acts, and what a run says can be counted again from its files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.metrics import confusion_matrix
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from conftest import segmenter_folder
from octavo.data.batches import MaskRows
from octavo.data.classes import IGNORE, dumps, load_table
from octavo.data.masks import paint
from octavo.engine.checkpoint import Stop
from octavo.engine.engine import train_member
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import Hardware
from octavo.engine.job import Job
from octavo.engine.member_folder import MemberFolder
from octavo.errors import UserError
from octavo.networks.build import build_segmenter, start_segmenter
from octavo.networks.loading import load_member
from octavo.options import Options
from octavo.progress import silent
from octavo.recipe import SegmentRecipe
from octavo.tasks.segmentation.data import prepare as prepare_scenes
from octavo.tasks.segmentation.task import TASK
from octavo.tasks.segmentation.training import class_weights, inputs_of, predicted, prepare
from octavo.verbs.training import train
from test_train_keys import EFFECTS as CLASSIFIERS
from test_train_keys import keys_of

TABLE = load_table("course")
NET = {"backbone": "shufflenet_v2_x0_5", "weights": "none", "hidden": [{"width": 8}], "zero_scores": True}


def recipe(**sections: Any) -> SegmentRecipe:
    base: dict[str, Any] = {
        "name": "t",
        "task": "segment",
        "data": {"size": 32, "classes": "course", "normalize": "none", "holdout": 0.25},
        "train": {"epochs": 3, "batch_size": 3, "lr": 0.02},
        "stages": {"at": [], "count": 2},
        "segmenter": NET,
    }
    merged = {k: base[k] | v if isinstance(v, dict) and k in base else v for k, v in sections.items()}
    return SegmentRecipe.model_validate(base | merged)


class Bench:
    """Trainings of a small network on the scenes."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data, self.runs = folder, data, 0

    def job(self, made: SegmentRecipe, data: Path | None = None) -> Job:
        found = prepare_scenes(made, str(data or self.data), None, self.folder / "cache", False, progress=silent)
        return Job(
            made, made.segmenter, len(found.classes), found.labels, found.parts, found.pixels, None,
            self.folder / "cache", Hardware("cpu"), None, found.samples.files, found.names, found.table,
        )  # fmt: skip

    def fit(self, made: SegmentRecipe) -> MemberFolder:
        self.runs += 1
        files = segmenter_folder(self.folder / f"run{self.runs}")
        files.folder.mkdir(parents=True)
        train_member(TASK, self.job(made), files, silent, Stop())
        return files

    def batch(self, job: Job, indices: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        prepared = prepare(job, silent)
        chosen = job.parts["fit"][:3] if indices is None else indices
        return prepared.ways.training(replace(next(iter(prepared.in_order(chosen))), epoch=0))

    def masks(self, made: SegmentRecipe) -> dict[str, bytes]:
        root = self.fit(made).folder.parents[1] / "masks"
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.png")}


@pytest.fixture
def bench(tmp_path: Path, scenes_folder: Path) -> Bench:
    return Bench(tmp_path, scenes_folder)


# keys


def data_size(bench: Bench) -> None:
    for size in (32, (16, 40)):
        x, y = bench.batch(bench.job(recipe(data={"size": size})))
        expected = (32, 32) if size == 32 else (16, 40)
        assert x.shape[2:] == y.shape[1:] == expected


def data_scale(bench: Bench) -> None:
    made = recipe(data={"scale": 0.5, "size": 24})
    job = bench.job(made)
    assert isinstance(job.labels, MaskRows)
    x, y = bench.batch(job)
    assert x.shape == (3, 3, 24, 24)
    full = job.labels[job.parts["fit"][:3]]
    np.testing.assert_array_equal(y, full[:, 1::2, 1::2])  # the nearest of each two by two
    files = bench.fit(recipe(data={"scale": 0.5, "size": 24}, stages={"at": ["best"]}))
    for path in (files.folder.parents[1] / "masks/best").glob("*"):
        assert np.asarray(Image.open(path)).shape == (48, 48, 3)  # scores are enlarged to the masks' size
    assert (files.outputs()["val"].sum((1, 2)) == 48 * 48).all()


def data_classes(bench: Bench) -> None:
    assert bench.job(recipe()).classes == 7
    assert bench.job(recipe(data={"classes": "deepglobe"})).classes == 6  # unknown has no channel
    own = bench.folder / "own.toml"
    own.write_text(dumps(TABLE))
    assert bench.job(recipe(data={"classes": str(own)})).classes == 7


def data_tolerant(bench: Bench) -> None:
    data = bench.folder / "smeared"
    for part in ("train", "validation"):
        (data / part).mkdir(parents=True)
        for path in (bench.data / part).glob("*"):
            if path.suffix == ".png":
                colours = np.asarray(Image.open(path).convert("RGB")).astype(int)
                noise = np.random.default_rng(0).integers(-60, 61, colours.shape)
                Image.fromarray((colours + noise).clip(0, 255).astype(np.uint8)).save(data / part / path.name)
            else:
                (data / part / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="doesn't fit"):
        bench.job(recipe(), data)
    job, plain = bench.job(recipe(data={"tolerant": True}), data), bench.job(recipe())
    assert isinstance(job.labels, MaskRows) and isinstance(plain.labels, MaskRows)
    for index in range(len(job.pixels)):
        np.testing.assert_array_equal(job.labels[np.array([index])], plain.labels[np.array([index])])


def augmented(**augment: Any) -> Callable[[Bench], None]:
    """The change acts on crops as large as the image; the exact views are compared in test_augment and test_inputs."""

    def check(bench: Bench) -> None:
        plain, changed = (bench.batch(bench.job(recipe(data={"size": 48}, augment=a))) for a in ({}, augment))
        assert not torch.equal(plain[0], changed[0])
        moves = not {"brightness", "contrast", "saturation"} & set(augment)
        assert torch.equal(plain[1], changed[1]) != moves  # colours alone leave the mask

    return check


def perspective_p(bench: Bench) -> None:
    made = [recipe(data={"size": 48}, augment={"perspective": 0.4, "perspective_p": p}) for p in (0, 1)]
    plain = bench.batch(bench.job(recipe(data={"size": 48})))[0]
    found = [bench.batch(bench.job(one))[0] for one in made]
    assert torch.equal(found[0], plain)
    assert all(not torch.equal(a, b) for a, b in zip(found[1], plain, strict=True))


def loss(*specs: dict[str, float]) -> Callable[[Bench], None]:
    """The criterion of the training is another; test_losses holds each against its formula."""

    def check(bench: Bench) -> None:
        pytest.importorskip("segmentation_models_pytorch")
        draw = torch.Generator().manual_seed(0)
        logits, truth = torch.randn(2, 7, 8, 8, generator=draw), torch.randint(0, 7, (2, 8, 8), generator=draw)
        truth[:, :2] = IGNORE
        values = {prepare(bench.job(recipe(loss=spec)), silent).goal.loss(logits, truth).item() for spec in specs}
        assert len(values) == len(specs) and all(np.isfinite(list(values)))

    return check


def stages_at(bench: Bench) -> None:
    """Masks after an epoch are those that a training of as many epochs ends with, in the same bytes."""
    found = bench.masks(recipe(stages={"at": [1, 2, "best"]}))
    assert {name.split("/")[0] for name in found} == {"epoch_001", "epoch_002", "best"}
    for epochs in (1, 2):
        shorter = bench.masks(recipe(train={"epochs": epochs}, stages={"at": ["best"]}))
        for name, content in shorter.items():
            assert found[name.replace("best", f"epoch_{epochs:03d}")] == content
    last = bench.masks(recipe(stages={"at": [3, "best"]}))
    names = {name.split("/")[1] for name in last}
    assert len(names) == 2 and all(last[f"epoch_003/{n}"] == last[f"best/{n}"] == found[f"best/{n}"] for n in names)
    assert bench.masks(recipe(stages={"at": []})) == {}


def stages_images(bench: Bench) -> None:
    found = bench.masks(recipe(train={"epochs": 1}, stages={"at": [1], "images": ["0002", "0000_sat"]}))
    assert set(found) == {"epoch_001/0002_sat.png", "epoch_001/0000_sat.png"}


def stages_count(bench: Bench) -> None:
    assert len(bench.masks(recipe(train={"epochs": 1}, stages={"at": [1], "count": 3}))) == 3


def measure_rule(bench: Bench) -> None:
    values = {}
    for rule in ("mmsegmentation", "course", "smp-micro"):
        goal = prepare(bench.job(recipe(measure={"rule": rule})), silent).goal
        draw = torch.Generator().manual_seed(0)
        truth = torch.randint(0, 7, (2, 12, 12), generator=draw).to(torch.uint8)
        goal.hold(torch.randn(2, 7, 12, 12, generator=draw), truth)
        values[rule] = goal.held()["holdout_miou"]
    assert values["mmsegmentation"] != values["course"]


def weights_of_classes(bench: Bench) -> None:
    job = bench.job(recipe(train={"class_weights": "balanced"}))
    assert isinstance(job.labels, MaskRows)
    pixels = job.labels[job.parts["fit"]].ravel()
    found = class_weights(job, silent)
    assert found is not None
    present = np.unique(pixels)
    expected = compute_class_weight("balanced", classes=present, y=pixels) * len(present) / 7
    np.testing.assert_allclose(found.numpy()[present], expected, rtol=1e-5)
    given = [1.0, 2, 3, 4, 5, 6, 7]
    assert class_weights(bench.job(recipe(train={"class_weights": given})), silent).tolist() == given  # type: ignore[union-attr]


def first_weight(made: SegmentRecipe) -> Tensor:
    return next(build_segmenter(made.segmenter, made, 7).parameters())


def segmenter_name(bench: Bench) -> None:
    other = recipe(segmenter={"name": "other"})
    assert not torch.equal(first_weight(recipe()), first_weight(other))
    assert bench.job(recipe()).seed != bench.job(other).seed


def segmenter_start(bench: Bench) -> None:
    files = bench.fit(recipe(train={"epochs": 1}))
    made = recipe(segmenter={"start": str(files.weights)}, seed=9)
    net = start_segmenter(made.segmenter, made, 7)[0].state_dict()
    torch.testing.assert_close(dict(net), load_file(files.weights))


def segmenter_weights(bench: Bench) -> None:
    other = build_segmenter(recipe().segmenter, recipe(seed=5), 7).backbone.net.state_dict()
    save_file(other, bench.folder / "mine.safetensors")
    made = recipe(segmenter={"weights": str(bench.folder / "mine.safetensors")})
    net, origin = start_segmenter(made.segmenter, made, 7)
    assert origin is not None
    torch.testing.assert_close(dict(net.backbone.net.state_dict()), dict(other))


def shapes_change(**own: Any) -> Callable[[Bench], None]:
    """Another network: its tensors have other names or shapes."""

    def check(bench: Bench) -> None:
        shapes = []
        for spec in (NET, NET | own):
            made = SegmentRecipe.model_validate({"name": "t", "task": "segment", "segmenter": spec})
            net = build_segmenter(made.segmenter, made, 7, "meta")
            shapes.append({name: tuple(value.shape) for name, value in net.state_dict().items()})
        assert shapes[0] != shapes[1]

    return check


def dropout(bench: Bench) -> None:
    hidden = [{"width": 8, "dropout": 0.5}]
    made = recipe(segmenter={"hidden": hidden, "zero_scores": False})
    net, x = build_segmenter(made.segmenter, made, 7).eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(x), net(x))
        net.head.train()
        assert not torch.equal(net(x), net(x))


def seed(bench: Bench) -> None:
    assert not torch.equal(first_weight(recipe()), first_weight(recipe(seed=1)))
    assert bench.job(recipe()).parts["holdout"].tolist() != bench.job(recipe(seed=1)).parts["holdout"].tolist()


def task(bench: Bench) -> None:
    assert recipe().task == "segment"
    with pytest.raises(ValueError, match="task"):
        recipe(task="classify")


def normalize(bench: Bench) -> None:
    plain = inputs_of(bench.job(recipe()))
    assert (plain.mean, plain.std) == ((0, 0, 0), (1, 1, 1))
    assert inputs_of(bench.job(recipe(data={"normalize": "weights"}))).mean == pytest.approx((0.485, 0.456, 0.406))


def val(bench: Bench) -> None:
    for share, count in ((0.25, 3), (0.5, 6)):
        assert len(bench.job(recipe(data={"val": share}), bench.data / "train").parts["val"]) == count


def holdout(bench: Bench) -> None:
    for share, count in ((0, 0), (0.25, 3), (0.5, 6)):
        assert len(bench.job(recipe(data={"holdout": share})).parts["holdout"]) == count


SHARED = {key for key in CLASSIFIERS if key.startswith("train.")} - {"train.class_weights"}
"""Tested there for both tasks, which one engine trains; cache and views in test_pyramid_cache besides."""
ELSEWHERE = {
    "name": "test_train_keys.py::recipe_name",
    "description": "test_train_keys.py::recipe_description",
    "segmenter.upsample": "test_segmenter.py::test_bilinear_is_torchs_interpolation_up_to_the_border",
    "segmenter.border": "test_segmenter.py::test_padding_of_100_is_vggs_first_layer_padded_by_100",
    "segmenter.skip_scales": "test_segmenter.py::test_skip_scales_multiply_the_maps",
    "segmenter.zero_scores": "test_segmenter.py::test_zero_scores_start_at_ln_c_and_learn",
    **{key: f"test_train_keys.py::{EFFECT.__name__}" for key, EFFECT in CLASSIFIERS.items() if key in SHARED},
}
ACTS: dict[str, Callable[[Bench], None]] = {
    "seed": seed,
    "task": task,
    "data.size": data_size,
    "data.scale": data_scale,
    "data.classes": data_classes,
    "data.tolerant": data_tolerant,
    "data.normalize": normalize,
    "data.val": val,
    "data.holdout": holdout,
    "augment.hflip": augmented(hflip=1.0),
    "augment.vflip": augmented(vflip=1.0),
    "augment.rotation": augmented(rotation=30),
    "augment.perspective": augmented(perspective=0.4, perspective_p=1.0),
    "augment.perspective_p": perspective_p,
    "augment.scale": augmented(scale=[1.2, 1.5]),
    "augment.brightness": augmented(brightness=[0.5, 0.6]),
    "augment.contrast": augmented(contrast=[0.5, 0.6]),
    "augment.saturation": augmented(saturation=[0.5, 0.6]),
    "loss.cross_entropy": loss({}, {"cross_entropy": 2.0}),
    "loss.focal": loss({}, {"focal": 1.0}),
    "loss.focal_gamma": loss({"focal": 1.0}, {"focal": 1.0, "focal_gamma": 3.0}),
    "loss.dice": loss({}, {"dice": 1.0}),
    "loss.lovasz": loss({}, {"lovasz": 1.0}),
    "stages.at": stages_at,
    "stages.images": stages_images,
    "stages.count": stages_count,
    "measure.rule": measure_rule,
    "train.class_weights": weights_of_classes,
    "segmenter.name": segmenter_name,
    "segmenter.network": shapes_change(network="fcn_resnet50", backbone="vgg16", hidden=[{"width": 1024}] * 2),
    "segmenter.backbone": shapes_change(backbone="vgg11"),
    "segmenter.weights": segmenter_weights,
    "segmenter.start": segmenter_start,
    "segmenter.stride": shapes_change(stride=32),
    "segmenter.score": shapes_change(stride=32, score=False),
    "segmenter.hidden": shapes_change(hidden=[]),
    "segmenter.hidden.width": shapes_change(hidden=[{"width": 9}]),
    "segmenter.hidden.kernel": shapes_change(hidden=[{"width": 8, "kernel": 7}]),
    "segmenter.hidden.dropout": dropout,
}
SECTIONS = {"data", "augment", "loss", "stages", "measure", "segmenter", "train"}


def test_every_key_acts_here_or_elsewhere() -> None:
    assert set(ACTS) | set(ELSEWHERE) == set(keys_of(SegmentRecipe)) - SECTIONS
    assert not set(ACTS) & set(ELSEWHERE)
    for place in ELSEWHERE.values():
        module, name = place.split("::")
        text = Path(__file__).with_name(module).read_text()
        assert name == "check" or re.search(rf"^ *def {re.escape(name)}\(", text, re.MULTILINE), place


@pytest.mark.parametrize("key", sorted(ACTS))
def test_key_acts(key: str, bench: Bench) -> None:
    ACTS[key](bench)


# what a run says


def test_the_holdout_is_scikit_learns(bench: Bench) -> None:
    """The last epoch's held-out numbers, counted again from the trained network's masks."""
    made = recipe(train={"epochs": 2})
    files, job = bench.fit(made), bench.job(made)
    prepared = prepare(job, silent)
    load_member(prepared.net, files.weights)
    pairs = list(predicted(job, prepared, prepared.net.eval(), indices=job.parts["holdout"]))
    assert isinstance(job.labels, MaskRows)
    truth = job.labels[np.array([index for index, _ in pairs])]
    found = np.stack([ids for _, ids in pairs])
    table = confusion_matrix(truth.ravel(), found.ravel(), labels=range(7))
    union = table.sum(0) + table.sum(1) - table.diagonal()
    row = files.history()[-1]
    miou = np.nanmean(table.diagonal() / np.where(union, union, np.nan))
    assert float(row["holdout_miou"]) == pytest.approx(miou, abs=1e-5)
    assert float(row["holdout_pixel_accuracy"]) == pytest.approx((truth == found).mean(), abs=1e-5)
    np.testing.assert_array_equal(files.outputs()["holdout"].sum(0)[:7, :7], table)


def test_images_of_several_sizes_are_trained_and_scored(tmp_path: Path) -> None:
    """One by one where they are judged, the last of them too."""
    draw = np.random.default_rng(0)
    sizes_of = {"train": [(48, 40), (40, 56), (64, 48), (33, 47), (50, 50)], "validation": [(40, 41)] * 3 + [(37, 60)]}
    for part, sizes in sizes_of.items():
        (tmp_path / "data" / part).mkdir(parents=True)
        for i, size in enumerate(sizes):
            ids = draw.choice([0, 4], size).astype(np.uint8)
            ids[: size[0] // 2] = 1
            image, base = draw.integers(0, 255, (*size, 3)).astype(np.uint8), tmp_path / "data" / part / f"{i:04}"
            Image.fromarray(image).save(f"{base}_sat.jpg")
            Image.fromarray(paint(ids, TABLE)).save(f"{base}_mask.png")
    for batch_size in (1, 2):
        bench = Bench(tmp_path / str(batch_size), tmp_path / "data")
        files = bench.fit(recipe(train={"epochs": 1, "batch_size": batch_size}, data={"size": 64, "holdout": 0.5}))
        counts = files.outputs()["val"].sum((1, 2)).tolist()
        assert counts == [40 * 41] * 3 + [37 * 60]


def test_training_twice_gives_the_same_bytes(bench: Bench) -> None:
    made = recipe(augment={"hflip": 0.5, "scale": [0.8, 1.4]}, train={"epochs": 1})
    assert bench.fit(made).weights.read_bytes() == bench.fit(made).weights.read_bytes()


def test_it_learns(segmented: RunFolder) -> None:
    rows = [{k: float(v) for k, v in row.items()} for row in segmented.member("segmenter").history()]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    best = max(row["holdout_miou"] for row in rows)
    counts = segmented.member("segmenter").outputs()["holdout"].sum(0)[:7, :7].astype(float)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    kept = np.nanmean(counts.diagonal() / np.where(union, union, np.nan))
    assert kept == pytest.approx(best, abs=1e-2)  # keep = "best": the weights of the best epoch


def test_a_loss_at_ln_c_is_said(bench: Bench, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.engine.watch.ENOUGH", 2)  # two epochs of few steps
    lines: list[str] = []
    made = recipe(train={"epochs": 2, "lr": 1e-12})
    train(made, bench.data, (), Options(out=bench.folder / "run", device="cpu"), say=lines.append)
    assert sum("is still that of guessing (ln C = 1.946)" in line for line in lines) == 1
