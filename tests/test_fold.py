"""Heads behind a pooling that repeats: folded, they must train and answer as the full ones do."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from octavo.cache import caches
from octavo.engine.embedding import layer_outputs
from octavo.engine.goals import ClassifyGoal
from octavo.engine.task import FeatureInputs, Task
from octavo.networks.backbone import Backbone
from octavo.networks.fold import FoldedLinear, Places, folded, pooling_of, unfolded
from octavo.recipe import Train
from octavo.verbs.training import train

CLASSES = 3


class Pool(nn.Module):
    """The pooling of VGG, on few channels, for a narrow head."""

    def __init__(self, side: int, channels: int = 4) -> None:
        super().__init__()
        self.side, self.channels = side, channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(x.view(-1, self.channels, self.side, self.side), 7).flatten(1)


def narrow(side: int, channels: int = 4):
    """A Pooling with few channels."""
    wide = pooling_of("vgg16", 32 * side)
    return replace(wide, channels=channels)


@pytest.mark.parametrize("name", ["vgg16", "vgg19_bn", "alexnet"])
@pytest.mark.parametrize("size", [64, 90, 100])
def test_places_spread_to_what_the_network_gives(name: str, size: int) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name, size).eval()
    pooling = pooling_of(name, size)
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(pooling.spread(Places(backbone)(x)), backbone(x), atol=1e-6, rtol=1e-5)
    assert pooling.width < backbone.features


def test_below_64_pixels_one_value_is_repeated() -> None:
    pooling = pooling_of("vgg19_bn", 32)
    assert pooling.width == 512 and pooling_of("vgg19_bn", 63).width == 512
    assert [tuple(alike.shape) for alike in pooling.alike] == [(1, 49)]
    assert pooling_of("vgg19_bn", 64).width == 2048


@pytest.mark.parametrize("name,size,pool", [("vgg16", 224, "native"), ("vgg16", 32, "avg"), ("resnet18", 32, "native")])
def test_nothing_is_folded_where_nothing_repeats(name: str, size: int, pool: str) -> None:
    assert pooling_of(name, size, pool) is None


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_folded_layer_says_the_same(side: int) -> None:
    torch.manual_seed(1)
    full, pooling = nn.Linear(4 * 49, 5), narrow(side)
    x = torch.randn(6, 4 * side * side)
    torch.testing.assert_close(FoldedLinear(full, pooling)(x), full(Pool(side)(x)), atol=1e-5, rtol=1e-5)


def test_a_folded_layer_lies_where_the_layer_did() -> None:
    folded = FoldedLinear(nn.Linear(4 * 49, 5, device="meta"), narrow(2))
    assert {tensor.device.type for tensor in (*folded.parameters(), *folded.buffers())} == {"meta"}


class _Trainer:
    """What a Task needs of Lightning's, without the loop."""

    global_step = 1

    def __init__(self, optimizer) -> None:
        self.optimizers = [optimizer]


CASES = [
    {"optimizer": "sgd", "lr": 0.1},
    {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.1},
    {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.5},
    {"optimizer": "adam", "lr": 0.01},
    {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.5, "clip_norm": 0.05, "schedule": "cosine"},
    {"optimizer": "sgd", "lr": 0.1, "clip_norm": 0.05, "weight_decay": 0.1},
    {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.5, "ema": 0.9},
]


@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_training_the_folded_layer_is_training_the_full_one(case: dict, side: int, monkeypatch) -> None:
    """Every weight of the full layer, after fifteen steps, as PyTorch's own optimiser trains it."""
    monkeypatch.setattr(
        "pytorch_lightning.LightningModule.optimizer_step",
        lambda self, e, b, optimizer, closure: (closure(), optimizer.step()),
    )
    torch.manual_seed(2)
    train = Train(mode="frozen", epochs=15, **case)
    start = nn.Sequential(nn.Linear(4 * 49, 6), nn.ReLU(), nn.Linear(6, CLASSES))
    x, y = torch.randn(20, 4 * side * side), torch.randint(CLASSES, (20,))
    sides = {
        "full": (copy.deepcopy(start), Pool(side)(x)),
        "folded": (folded(start, narrow(side)), x),
    }
    for net, inputs in sides.values():
        task = Task(net, FeatureInputs(), train, ClassifyGoal(CLASSES), steps=1, seed=0)
        made = task.configure_optimizers()
        optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
        task._trainer = _Trainer(optimizer)
        monkeypatch.setattr(Task, "trainer", property(lambda self: self._trainer))
        for _ in range(15):

            def closure(net=net, inputs=inputs, task=task, optimizer=optimizer) -> None:
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(inputs), y).backward()
                task.configure_gradient_clipping(optimizer)

            task.optimizer_step(0, 0, optimizer, closure)
            scheduler.step()
        sides[("full" if net is sides["full"][0] else "folded")] = (task.best_net, inputs)
    found = unfolded(sides["folded"][0], start).state_dict()
    for name, value in sides["full"][0].state_dict().items():
        torch.testing.assert_close(found[name], value, atol=3e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
        assert not torch.allclose(start.state_dict()[name], value, atol=1e-3), "nothing was trained"


def test_even_unfolding_is_wrong_under_decay() -> None:
    """What the issue warns of: the differences between like columns decay with everything else."""
    torch.manual_seed(3)
    start = nn.Linear(4 * 49, 5)
    layer = FoldedLinear(start, narrow(1))
    for _ in range(10):
        layer.decayed(0.1, 0.5)
    assert float(layer.kept[0]) == pytest.approx(0.95**10)
    kept = layer.unfolded(start).weight.view(5, 4, 49)
    before = start.weight.view(5, 4, 49)
    torch.testing.assert_close(kept - kept.mean(2, True), 0.95**10 * (before - before.mean(2, True)))


RECIPE = """\
name = "folds"
data = {{size = {size}, normalize = "none", holdout = 0.25}}
augment = {{hflip = 0}}
train = {{mode = "frozen", epochs = 3, batch_size = 16, optimizer = "adamw", weight_decay = 0.1, cache = {cache}}}
[[members]]
name = "vgg"
backbone = "vgg11"
weights = "none"
head.hidden = [{{width = 8, dropout = 0.2}}]
"""


@pytest.mark.parametrize("size,width", [(40, 512), (64, 2048)])
def test_a_run_is_the_same_with_and_without_kept_places(
    size: int, width: int, tmp_path: Path, digits_folder: Path, cache: Path
) -> None:
    """From images to a run's outputs: places kept and the first layer folded, against the extractor in every step."""
    from octavo.data.store import Pixels
    from octavo.options import Options

    runs = {}
    for kept in ("true", "false"):
        (tmp_path / f"{kept}.toml").write_text(RECIPE.format(size=size, cache=kept))
        runs[kept] = train(tmp_path / f"{kept}.toml", digits_folder, (), Options(out=tmp_path / kept, device="cpu"))
    found = [each for each in caches(cache) if each.kind == "features"]
    assert len(found) == 1 and np.load(found[0].path / "features.npy", mmap_mode="r").shape[2] == width
    outputs = {kept: run.member("vgg").outputs()["val"] for kept, run in runs.items()}
    assert np.abs(outputs["true"] - outputs["false"]).max() < 1e-3 * np.abs(outputs["false"]).max()
    store = Pixels(next(each.path for each in caches(cache) if each.kind == "pixels"))
    layer = {
        name: layer_outputs(runs["true"], "vgg.head.0", lambda: store, np.arange(12), cache=where)
        for name, where in {"kept": cache, "computed": tmp_path / "none"}.items()
    }
    np.testing.assert_allclose(layer["kept"], layer["computed"], atol=1e-4)
