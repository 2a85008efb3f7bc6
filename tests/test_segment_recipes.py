"""The shipped recipes of segmenters: what the reference and the paper say, and all of them buildable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.data.classes import load_table
from octavo.errors import UserError
from octavo.networks.backbone import parameters
from octavo.networks.build import build_segmenter, check_segmenter, notes
from octavo.networks.pack import pack, table
from octavo.networks.pyramid import Pyramid
from octavo.networks.weights import check_name, gather, normalization
from octavo.numbers.rules import headline_rule
from octavo.recipe import SegmentRecipe, dumps, load, shipped

NAMES = [name for name in shipped() if isinstance(load(name), SegmentRecipe)]
PAPERS = {"fcn32s-paper": 32, "fcn16s-paper": 16, "fcn8s-paper": 8}


def shown(name: str, *changes: str) -> SegmentRecipe:
    recipe = load(name, changes)
    assert isinstance(recipe, SegmentRecipe)
    return recipe


def test_all_are_there() -> None:
    assert {"fcn32s", "fcn8s", "fcn8s-plus", *PAPERS} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_can_be_built_and_written_out(name: str) -> None:
    recipe = shown(name)
    check_segmenter(recipe, 7)
    check_name(recipe.segmenter.extractor, recipe.segmenter.weights)
    assert recipe.name == name
    assert recipe.description
    assert dumps(recipe).count("[segmenter]") == 1
    if recipe.data.classes is not None:
        assert load_table(recipe.data.classes).trained


@pytest.mark.parametrize(("name", "count"), [("fcn32s", 45_650_759), ("fcn8s", 28_888_626)])
def test_the_references_recipes(name: str, count: int) -> None:
    recipe = shown(name)
    assert parameters(build_segmenter(recipe.segmenter, recipe, 7, "meta")) == count
    train, data = recipe.train, recipe.data
    assert (train.optimizer, train.lr, train.batch_size, train.epochs, train.keep) == ("adam", 2e-4, 4, 75, "best")
    assert train.class_weights == (2, 1, 2, 2, 2, 2, 2)
    assert (data.normalize, data.classes, data.size) == ("none", "course", (512, 512))
    assert (recipe.augment.hflip, recipe.augment.vflip) == (0.5, 0.5)
    assert recipe.augment.model_copy(update={"hflip": 0.0, "vflip": 0.0}).random is False
    assert recipe.stages.at == (15, 30, "best")
    assert headline_rule(recipe.measure.rule, load_table("course").scored) == "course"
    assert recipe.loss.model_dump() == {"cross_entropy": 1, "focal": 0, "focal_gamma": 2, "dice": 0, "lovasz": 0}


@pytest.mark.parametrize(("name", "stride"), PAPERS.items())
def test_the_papers_recipes(name: str, stride: int) -> None:
    recipe = shown(name)
    spec, train = recipe.segmenter, recipe.train
    assert [(c.width, c.kernel, c.dropout) for c in spec.hidden] == [(4096, 7, 0.5), (4096, 1, 0.5)]
    assert (spec.stride, spec.upsample, spec.border, spec.zero_scores) == (stride, "bilinear", "pad100", True)
    assert spec.skip_scales == {32: (1, 1), 16: (0.01, 1), 8: (0.01, 0.0001)}[stride]
    assert (train.optimizer, train.momentum, train.weight_decay, train.batch_size) == ("sgd", 0.99, 5e-4, 1)
    assert train.lr == pytest.approx(1e-10 * 512 * 512, rel=0.01)
    assert train.epochs * 2000 == 100_000 and recipe.data.holdout == 0
    # The paper's other ways: without a wasted border, fixed upsampling, and in stages by what the file says.
    check_segmenter(shown(name, 'segmenter.border="same"', 'segmenter.upsample="bilinear-fixed"'), 21)


@pytest.mark.parametrize(("finer", "coarser", "lr"), [(16, 32, 1e-12), (8, 16, 1e-14)])
def test_stages_as_the_files_say(finer: int, coarser: int, lr: float) -> None:
    name, before = f"fcn{finer}s-paper", f"fcn{coarser}s-paper"
    text = shipped()[name].read_text()
    changes = re.findall(r"--set (\S+)", text)
    assert changes[0] == f"segmenter.start=runs/{before}"
    stage = shown(name, *changes[1:])
    assert stage.segmenter.skip_scales == (1, 1)
    assert stage.train.lr == pytest.approx(lr * 512 * 512, rel=0.01)


def test_class_weights_fit_the_courses_classes_alone() -> None:
    with pytest.raises(UserError, match=r"^train\.class_weights: 7 weights for 21 classes$"):
        check_segmenter(shown("fcn8s"), 21)
    for name in ("fcn32s", "fcn8s"):
        assert "course's seven classes" in shown(name).description


def test_weights_are_listed_gathered_and_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("OCTAVO_WEIGHTS", raising=False)
    own, out = tmp_path / "own", tmp_path / "out"
    own.mkdir()
    state = {k: v.half() for k, v in Pyramid("vgg11").net.state_dict().items()}
    state |= {f"classifier.{k}.weight": torch.zeros(4096, 49 if k == 0 else 1) for k in (0, 3)}
    state |= {f"classifier.{k}.bias": torch.zeros(4096) for k in (0, 3)}
    save_file(state, own / "vgg11.safetensors")
    plain = shown("fcn8s", "segmenter.backbone=vgg11")
    paper = shown("fcn8s-paper", "segmenter.backbone=vgg11")
    (row,) = table(plain, own)
    assert (row.member, row.backbone, row.tag, row.state) == ("segmenter", "vgg11", "IMAGENET1K_V1", "found")
    assert gather(plain, own) == {"segmenter": own / "vgg11.safetensors"}
    (path,) = pack(plain, out, own)
    assert not any("classifier" in key for key in load_file(path))
    assert notes(plain.segmenter, out) == ()
    assert notes(paper.segmenter, out) == (
        f"fc6 and fc7 start from random weights: {path} doesn't hold VGG's ImageNet classifier",
    )
    (path,) = pack(paper, out, own)
    assert {k for k in load_file(path) if "classifier" in k} == {k for k in state if "classifier" in k}
    assert notes(paper.segmenter, out) == (f"fc6 and fc7 start from VGG's ImageNet classifier in {path}",)
    assert "is downloaded" in notes(shown("fcn8s-paper").segmenter, out)[0]


def test_rivals_weights_are_their_backbones(tmp_path: Path) -> None:
    rival = shown(
        "fcn8s", "segmenter.network=lraspp_mobilenet_v3_large", "segmenter.hidden=[{width=1024},{width=1024}]"
    )
    check_segmenter(rival, 7)
    (row,) = table(rival, tmp_path)
    assert (row.backbone, row.tag) == ("mobilenet_v3_large", "IMAGENET1K_V1")
    assert normalization(rival.segmenter)[0] == (0.485, 0.456, 0.406)
    with pytest.raises(
        UserError, match=r"^segmenter\.weights: IMAGENET1K_V1 of mobilenet_v3_large are not on this machine"
    ):
        gather(rival, tmp_path, download=False)
