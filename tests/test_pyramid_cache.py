"""A frozen segmenter on a cached pyramid is the frozen segmenter on its images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import segmenter_folder
from octavo.engine.checkpoint import Stop
from octavo.engine.engine import train_member
from octavo.engine.hardware import Hardware
from octavo.engine.job import Job
from octavo.engine.member_folder import MemberFolder
from octavo.errors import UserError
from octavo.networks.build import build_segmenter
from octavo.networks.pyramid import Pyramid
from octavo.networks.segmenter import SegmenterNet
from octavo.progress import silent
from octavo.recipe import SegmentRecipe
from octavo.tasks.segmentation.data import prepare as prepare_scenes
from octavo.tasks.segmentation.pyramid_cache import PyramidHead, PyramidInputs, _views
from octavo.tasks.segmentation.task import TASK
from octavo.tasks.segmentation.training import inputs_of, prepare

AUGMENT = {"hflip": 0.5, "rotation": 20, "scale": [1.0, 1.4]}


def recipe(train: dict[str, Any] | None = None, segmenter: dict[str, Any] | None = None, **rest: Any) -> SegmentRecipe:
    return SegmentRecipe.model_validate(
        {
            "name": "t",
            "task": "segment",
            "data": {"size": 48, "classes": "course", "normalize": "none", "holdout": 0.25} | rest.pop("data", {}),
            "train": {"mode": "frozen", "epochs": 3, "batch_size": 3, "lr": 0.05} | (train or {}),
            "stages": {"at": [2, "best"], "count": 2},
            "segmenter": {"backbone": "shufflenet_v2_x0_5", "weights": "none", "hidden": [{"width": 8}]}
            | (segmenter or {}),
        }
        | rest
    )


def job_of(recipe: SegmentRecipe, data: Path, folder: Path) -> Job:
    found = prepare_scenes(recipe, str(data), None, folder / "cache", False, progress=silent)
    return Job(
        recipe, recipe.segmenter, len(found.classes), found.labels, found.parts, found.pixels, None, folder / "cache",
        Hardware("cpu"), None, found.samples.files, found.names, found.table,
    )  # fmt: skip


def trained(recipe: SegmentRecipe, data: Path, folder: Path, name: str) -> MemberFolder:
    files = segmenter_folder(folder / name)
    files.folder.mkdir(parents=True)
    train_member(TASK, job_of(recipe, data, folder), files, silent, Stop())
    return files


@pytest.mark.parametrize(
    ("train", "rest"),
    [
        ({}, {}),
        ({"ema": 0.5, "keep": "best"}, {}),
        ({"optimizer": "adam", "lr": 0.01}, {"data": {"scale": 0.5, "size": 24}}),
    ],
)
def test_cached_is_uncached(tmp_path: Path, scenes_folder: Path, train: dict[str, Any], rest: dict[str, Any]) -> None:
    found = {}
    for cache in (True, False):
        made = recipe(train | {"cache": cache}, {"zero_scores": True}, **rest)
        found[cache] = trained(made, scenes_folder, tmp_path, str(cache))
    ours, other = load_file(found[True].weights), load_file(found[False].weights)
    assert ours.keys() == other.keys()
    torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-5)
    start = build_segmenter(made.segmenter, made, 7).state_dict()
    assert any(not torch.equal(ours[name], start[name]) for name in ours if name.startswith("head."))
    assert all(torch.equal(ours[name], start[name]) for name in ours if name.startswith("backbone."))
    for a, b in zip(found[True].history(), found[False].history(), strict=True):
        assert {k: float(v) for k, v in a.items()} == pytest.approx({k: float(v) for k, v in b.items()}, abs=2e-3)
    for part, counts in found[True].outputs().items():
        assert np.abs(counts - found[False].outputs()[part]).sum() <= 0.01 * counts.sum()


def test_flat_maps_decode_to_the_networks_own_scores(tmp_path: Path, scenes_folder: Path) -> None:
    made = recipe()
    net = build_segmenter(made.segmenter, made, 5).eval()
    x = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    maps = net.features(x)
    head = PyramidHead(net, [tuple(m.shape[1:]) for m in maps], (40, 56))
    torch.testing.assert_close(head(torch.cat([m.flatten(1) for m in maps], 1)), net(x))
    assert [name for name, _ in head.named_parameters()] == [f"head.{name}" for name, _ in net.head.named_parameters()]


def test_views_are_the_maps_of_crops_with_their_masks(tmp_path: Path, scenes_folder: Path) -> None:
    job = job_of(recipe({"views": 3}, augment=AUGMENT), scenes_folder, tmp_path)
    prepared = prepare(job, silent)
    ways, net = prepared.ways, prepared.net
    assert isinstance(ways, PyramidInputs) and isinstance(net, SegmenterNet)
    assert ways.features.views.shape[:2] == (3, len(job.pixels))
    seen = set()
    for epoch in range(4):
        batch = next(iter(prepared.in_order(job.parts["fit"][:4])))
        rows = ways.features.rows(batch.indices, epoch)[0]
        x, y = ways.training(dataclasses.replace(batch, inputs=torch.from_numpy(rows), epoch=epoch))
        pixels, sizes = job.pixels.batch(batch.indices)
        scene = dataclasses.replace(batch, inputs=torch.from_numpy(pixels), sizes=sizes.astype(np.int64))
        views = _views(inputs_of(job), scene, ways.features.view_of(batch.indices, epoch), (48, 48))
        with torch.no_grad():
            expected = net.eval().features(inputs_of(job).shown(scene, views, (48, 48)))
        torch.testing.assert_close(x, torch.cat([m.flatten(1) for m in expected], 1), rtol=1e-3, atol=1e-4)
        assert torch.equal(y, inputs_of(job).targets(scene, views, (48, 48)))
        seen |= set(ways.features.view_of(batch.indices, epoch).tolist())
        plain = torch.from_numpy(ways.features.view_of(batch.indices, epoch) == 0)
        assert torch.equal(y[plain], batch.labels.long()[plain])
    assert seen == {0, 1, 2}


def test_the_pyramid_is_computed_once(tmp_path: Path, scenes_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = Pyramid.forward
    job = job_of(recipe(), scenes_folder, tmp_path)
    monkeypatch.setattr(Pyramid, "forward", lambda self, x: seen.append(len(x)) or forward(self, x))
    prepare(job, silent)
    assert sum(seen) == len(job.pixels) + 1  # one image of zeros tells the shapes
    prepare(job, silent)
    assert sum(seen) == len(job.pixels) + 2


def test_what_changes_a_map_changes_its_name(tmp_path: Path, scenes_folder: Path) -> None:
    own: dict[str, Any] = {"backbone": "resnet18", "stride": 8}
    made = [
        recipe(segmenter=own),
        recipe(segmenter=own, data={"scale": 0.5}),
        recipe(segmenter=own | {"stride": 32}),
        recipe(segmenter=own, seed=1),
        recipe(segmenter=own, data={"normalize": "weights"}),
        recipe({"views": 2}, own, augment=AUGMENT),
        recipe({"precision": "bf16"}, own),
    ]
    for count, one in enumerate(made, 1):
        prepare(job_of(one, scenes_folder, tmp_path), silent)
        assert len(list((tmp_path / "cache/features").iterdir())) == count


def test_two_networks_on_one_backbone_have_maps_of_their_own(
    tmp_path: Path, scenes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dilated backbone has the same tensors as a plain one, and other maps."""
    monkeypatch.setattr("octavo.tasks.segmentation.pyramid_cache.digest", lambda net: "the same weights")
    for own in ({"backbone": "mobilenet_v3_large"}, {"network": "lraspp_mobilenet_v3_large"}):
        given = {"name": "t", "task": "segment", "segmenter": own | {"weights": "none"}, "train": {"mode": "frozen"}}
        given["data"] = {"size": 48, "classes": "course", "normalize": "none"}
        job = job_of(SegmentRecipe.model_validate(given), scenes_folder, tmp_path)
        prepare(job, silent)
    assert len(list((tmp_path / "cache/features").iterdir())) == 2


def test_images_of_several_sizes_are_refused(
    tmp_path: Path, scenes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(recipe(), scenes_folder, tmp_path)
    monkeypatch.setattr(job.pixels, "sizes", np.concatenate([[(40, 48)], job.pixels.sizes[1:]]))
    with pytest.raises(UserError, match=r"these have 2, such as 48×40 and 48×48; set train.cache = false"):
        prepare(job, silent)


def test_statistics_of_a_frozen_pyramid_are_kept() -> None:
    assert recipe({"reestimate_norm": True}).train.reestimate_norm  # of the head, on the cached maps
    with pytest.raises(ValueError, match=r"train.reestimate_norm: a frozen pyramid keeps its statistics"):
        recipe({"cache": False, "reestimate_norm": True})
