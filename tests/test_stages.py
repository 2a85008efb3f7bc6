"""Predicted masks by stage: which images, after which epochs, and without a trace in the training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from octavo.errors import UserError
from octavo.options import Options
from octavo.recipe import SegmentRecipe, Stages
from octavo.tasks.segmentation.stages import StageMasks, chosen_images
from octavo.verbs.training import train

FILES = ("train/0010_sat.jpg", "val/0010_sat.jpg", "val/0097_sat.jpg", "val/0107_sat.jpg", "val/b.png", "val/c d.png")
VAL = np.arange(1, 6)


@pytest.mark.parametrize("names", [("0010", "b"), ("0010_sat", "b.png"), ("0010_sat.jpg", "val/b.png"), ("b", "0010")])
def test_images_are_named_by_path_name_stem_or_its_first_word(names: tuple[str, ...]) -> None:
    found = chosen_images(Stages(images=names), FILES, VAL)
    assert sorted(found.tolist()) == [1, 4] and found.dtype == np.int64
    assert found.tolist() == ([4, 1] if names[0] == "b" else [1, 4])


def test_an_image_that_is_named_twice_is_kept_once() -> None:
    assert chosen_images(Stages(images=("0097", "b", "0097_sat.jpg")), FILES, VAL).tolist() == [2, 4]


def test_a_first_word_that_two_have_names_none() -> None:
    files = ("val/rome_1.png", "val/rome_2.png", "val/rome.png")
    assert chosen_images(Stages(images=("rome",)), files, np.arange(3)).tolist() == [2]
    with pytest.raises(UserError, match='no validation image "rome"'):
        chosen_images(Stages(images=("rome",)), files[:2], np.arange(2))


@pytest.mark.parametrize(("name", "nearest"), [("0098", "0097"), ("train/0010_sat.jpg", "val/0010_sat.jpg")])
def test_a_name_that_is_no_validation_images_is_refused(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=rf'stages.images: no validation image "{name}"; did you mean "{nearest}"'):
        chosen_images(Stages(images=(name,)), FILES, VAL)


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (1, [1]), (2, [1, 5]), (3, [1, 3, 5]), (5, [1, 2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])]
)
def test_some_are_chosen_evenly(count: int, expected: list[int]) -> None:
    assert chosen_images(Stages(count=count), FILES, VAL).tolist() == expected


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.BatchNorm2d(1), nn.Dropout()


def run(epochs: int, *, frozen: bool, first: bool = True) -> tuple[list[tuple[int, int]], Net, list[bool]]:
    net, written, modes, kept = Net(), [], [], []

    def predict(net: nn.Module) -> Any:
        modes.append(any(m.training for m in net.modules()))
        yield from ((place, np.zeros((2, 2), np.uint8)) for place in (7, 9))

    write = lambda epoch, place, ids: written.append((epoch, place))  # noqa: E731
    stages = StageMasks((2, 4), predict, write, lambda: kept.append(len(written)))
    for epoch in range(epochs):
        net.train()
        net.backbone.train(not frozen)
        module = SimpleNamespace(current_epoch=epoch, best_net=net, thaw=lambda _: net.backbone.train(not frozen))
        stages.on_train_epoch_end(SimpleNamespace(is_global_zero=first), module)  # type: ignore[arg-type]
    assert kept == list(range(2, len(written) + 1, 2))  # after the masks of each stage
    return written, net, modes


@pytest.mark.parametrize("frozen", [False, True])
def test_masks_are_written_after_their_epochs_in_eval_mode(frozen: bool) -> None:
    written, net, modes = run(5, frozen=frozen)
    assert written == [(2, 7), (2, 9), (4, 7), (4, 9)]
    assert modes == [False, False]
    assert net.training and net.head.training and net.backbone.training != frozen


def test_one_process_alone_writes() -> None:
    assert run(5, frozen=False, first=False)[0] == []


def test_predicting_draws_no_random_number() -> None:
    before = torch.random.get_rng_state()
    run(2, frozen=False)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("at", "epochs", "kept", "late"),
    [
        ((15, 30, "best"), 75, (15, 30), ()),
        ((15, 30, "best"), 20, (15,), (30,)),
        ((15, 30, "best"), 12, (2, 5), (15, 30)),
        ((15, "best"), 1, (), (15,)),
        (("best",), 12, (), ()),
        (None, 10, (2, 4), ()),
    ],
)
def test_epochs_after_the_last_are_left_out(at: Any, epochs: int, kept: Any, late: Any) -> None:
    recipe = SegmentRecipe.model_validate(
        {"name": "t", "task": "segment", "train": {"epochs": epochs}, "stages": {} if at is None else {"at": at}}
    )
    assert (recipe.stage_epochs, recipe.late_stages) == (kept, late)


def test_masks_on_the_way_have_the_statistics_that_the_end_has(scenes_folder: Path, tmp_path: Path) -> None:
    """After the last epoch the mask by stage is that of the network that the run ends with, batch norm and all."""
    recipe = SegmentRecipe.model_validate(
        {
            "name": "norm",
            "task": "segment",
            "data": {"size": 48, "classes": "course", "normalize": "none", "holdout": 0.25},
            "train": {"epochs": 2, "batch_size": 3, "optimizer": "adam", "lr": 1e-2, "reestimate_norm": True},
            "stages": {"at": [2, "best"]},
            "segmenter": {"backbone": "resnet18", "weights": "none", "hidden": [], "upsample": "bilinear"},
        }
    )
    run = train(recipe, scenes_folder, (), Options(out=tmp_path / "run", cache=tmp_path / "cache", device="cpu"))
    early, best = ({p.name: p.read_bytes() for p in (run.path / "masks" / n).iterdir()} for n in ("epoch_002", "best"))
    assert early == best and len(early) == 4
