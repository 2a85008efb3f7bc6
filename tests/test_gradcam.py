"""Grad-CAM against one written by hand, and the layer that it is taken from."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import octavo.looks.gradcam as look_at
from octavo.data.inputs import Inputs
from octavo.engine.folder import RunFolder
from octavo.engine.gradcam import gradcam, spatial_layer
from octavo.engine.restore import Trained, restore
from octavo.errors import UserError
from octavo.looks.subject import ClassifySubject
from octavo.networks.backbone import Backbone, weightless
from octavo.networks.member import MemberNet
from octavo.pictures.style import drawn
from octavo.recipe import Augment
from octavo.tasks.classification.sections import SECTIONS as CLASSIFY
from octavo.tasks.known import subject_of

SIDE, CLASSES = 64, 4
LAST = {
    "vgg11": ("features.19", 4),  # the ReLU before the last pooling
    "vgg11_bn": ("features.27", 4),
    "resnet18": ("layer4", 2),
    "densenet121": ("features", 2),
    "squeezenet1_1": ("features", 3),
    "mobilenet_v2": ("features", 2),
    "efficientnet_b0": ("features", 2),
    "shufflenet_v2_x0_5": ("conv5", 2),
}
"""Network → its last spatial map and the cells along it, at 64 px."""
IMAGES = [np.random.default_rng(i).integers(0, 256, (50, 40 + i, 3), np.uint8) for i in range(3)]
TARGETS = (2, 0, 3)


def member(name: str, size: int = SIDE, seed: int = 0) -> Trained:
    torch.manual_seed(seed)
    backbone = Backbone(name, size)
    net = MemberNet(backbone, nn.Sequential(nn.Linear(backbone.features, 16), nn.ReLU(), nn.Linear(16, CLASSES)))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training: not zero and one
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    inputs = Inputs(size, "stretch", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), Augment(), 0, CLASSES)
    return Trained(name, net.eval(), inputs, torch.device("cpu"), False)


def by_hand(net: nn.Module, layer: nn.Module, x: Tensor, targets: Sequence[int]) -> np.ndarray:
    """Grad-CAM image by image, by a hook and a backward pass: equations 1 and 2 of the paper."""
    maps = []
    for image, target in zip(x, targets, strict=True):
        kept: list[Tensor] = []

        def keep(module: nn.Module, given: Any, output: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(output)
            return output.clone()  # what follows may work in place

        hook = layer.register_forward_hook(keep)
        logits = net(image[None].clone().requires_grad_())
        hook.remove()
        (gradient,) = torch.autograd.grad(logits[0, target], kept[0])
        weights = gradient[0].sum((1, 2)) / gradient[0, 0].numel()
        maps.append(sum(w * a for w, a in zip(weights, kept[0][0], strict=True)).clamp(min=0).detach().numpy())
    return np.stack(maps)


@pytest.mark.parametrize("name", LAST)
def test_maps_are_those_of_a_gradcam_by_hand(name: str) -> None:
    trained = member(name)
    found = gradcam(trained, IMAGES, TARGETS)
    layer, cells = LAST[name]
    assert found.layer == f"backbone.net.{layer}" and found.maps is not None
    assert found.maps.shape == (3, cells, cells) and found.maps.dtype == np.float32
    x = torch.cat([trained.inputs.plain(look_at_one(image)) for image in IMAGES])
    expected = by_hand(trained.net, trained.net.get_submodule(found.layer), x, TARGETS)
    assert expected.max() > 0
    np.testing.assert_allclose(found.maps / expected.max(), expected / expected.max(), atol=1e-4)


def look_at_one(image: np.ndarray) -> Any:
    from octavo.engine.restore import batch_of

    return batch_of([image])


def test_a_vggs_map_is_that_of_its_two_halves() -> None:
    trained = member("vgg11")
    found = gradcam(trained, IMAGES[:1], TARGETS[:1])
    net, x = trained.net, trained.inputs.plain(look_at_one(IMAGES[0]))
    maps = nn.Sequential(*net.backbone.net.features[:20])(x).detach().requires_grad_()
    pooled = net.backbone.net.avgpool(nn.functional.max_pool2d(maps, 2, 2)).flatten(1)
    net.head(pooled)[0, TARGETS[0]].backward()
    assert maps.grad is not None and found.maps is not None
    expected = (maps.grad.mean((2, 3), keepdim=True) * maps).sum(1).relu().detach().numpy()
    np.testing.assert_allclose(found.maps / expected.max(), expected / expected.max(), atol=1e-4)


def test_frozen_members_and_bf16_members_have_the_same_maps() -> None:
    trained = member("resnet18")
    expected = gradcam(trained, IMAGES, TARGETS).maps
    assert all(p.requires_grad for p in trained.net.parameters())  # given back as it was
    trained.net.backbone.requires_grad_(False)
    frozen = gradcam(Trained("r", trained.net, trained.inputs, trained.device, True), IMAGES, TARGETS).maps
    np.testing.assert_array_equal(frozen, expected)
    assert [p.requires_grad for p in trained.net.parameters()].count(True) == 4
    assert all(p.grad is None for p in trained.net.parameters())
    assert not any(module._forward_hooks for module in trained.net.modules())
    trained.net.train()
    np.testing.assert_array_equal(gradcam(trained, IMAGES, TARGETS).maps, expected)  # batch norm in eval mode


def test_many_images_go_through_in_parts() -> None:
    trained = member("squeezenet1_1")
    many = gradcam(trained, IMAGES * 4, TARGETS * 4)
    few = gradcam(trained, IMAGES, TARGETS)
    assert many.maps is not None and few.maps is not None and len(many.seen) == 12
    np.testing.assert_allclose(many.maps, np.tile(few.maps, (4, 1, 1)), atol=1e-5 * few.maps.max())


def test_what_the_network_saw_is_given_back() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    assert np.abs(gradcam(member("squeezenet1_1"), [image], [0]).seen[0].astype(int) - image).max() <= 1


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("resnet50", 32, "layer3"),  # layer4 is one pixel; its first convolutions lie beside a shortcut
        ("vgg16", 32, "features.29"),
        ("densenet161", 32, "features.transition3.conv"),
        ("mobilenet_v3_large", 32, "features.13.block.0"),
        ("convnext_tiny", 64, "features"),
        ("swin_t", 64, "permute"),  # its blocks give [B,h,w,F]
        ("googlenet", 224, "inception5b"),
        ("vit_b_16", 64, ""),  # a map of patches only
        ("timm:resnet18", 64, "layer4"),
        ("timm:vit_tiny_patch16_224", 64, ""),
        ("timm:mixer_s16_224", 64, ""),
    ],
)
def test_the_last_spatial_map_is_found_by_running_the_network(name: str, size: int, layer: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    with weightless():
        net = MemberNet(Backbone(name, size), nn.Sequential(nn.Linear(1, 2)))
    net = net.to("meta").eval().requires_grad_(False)
    found = spatial_layer(net, torch.empty(1, 3, size, size, device="meta"))
    assert found.removeprefix("backbone.net.") == layer


def test_a_network_without_a_spatial_map_has_no_heat() -> None:
    pytest.importorskip("timm")
    found = gradcam(member("timm:vit_tiny_patch16_224"), IMAGES, TARGETS)
    assert found.maps is None and found.layer == "" and found.seen.shape == (3, SIDE, SIDE, 3)


def test_images_need_a_target_each() -> None:
    with pytest.raises(ValueError, match="a target each"):
        gradcam(member("squeezenet1_1"), IMAGES, (1, 2))
    with pytest.raises(ValueError, match="a target each"):
        gradcam(member("squeezenet1_1"), [], ())


def subject(run: RunFolder, **told: Any) -> ClassifySubject:
    found = subject_of(run, "cpu", **told)
    assert isinstance(found, ClassifySubject)
    return found


def test_a_runs_members_are_drawn_on_mistakes_and_sure_images(
    trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, alive, said, given = [], [], [], []

    def watched(*args: Any) -> Trained:
        gc.collect()
        assert not any(net() for net in alive)  # one member in memory at a time
        found = restore(*args)
        alive.append(weakref.ref(found.net))
        return found

    def spied(found: Trained, pictures: Any, targets: list[int]) -> Any:
        given.append(targets)
        return gradcam(found, pictures, targets)

    monkeypatch.setattr(look_at, "restore", watched)
    monkeypatch.setattr(look_at, "heat_of", spied)
    run = subject(trained, progress=lambda what, done, total, note="": seen.append((what, done, total, note)))
    drawing = look_at.gradcam(run)
    assert seen == [("gradcam", i, 3, name) for i, name in enumerate(("vgg", "squeeze", "mobile"), 1)]
    images, layers = drawing.look.tables
    places = [run.files.index(row[0]) for row in images.rows]
    assert len(places) == len(set(places)) == 8 and not said
    assert given == [run.predicted[places].tolist()] * 3  # the ensemble's class, for every member
    right = run.predicted[places] == run.labels[places]
    wrong = min(4, int((run.predicted != run.labels).sum()))
    assert right.tolist()[:wrong] == [False] * wrong and right[4:].all()
    assert [row[0] for row in layers.rows] == ["vgg", "squeeze", "mobile"]
    assert [row[2] for row in layers.rows] == ["2×2", "3×3", "2×2"]
    assert "the class that the ensemble predicts" in drawing.look.sees
    assert "vgg, squeeze, mobile" in drawing.look.warnings[0]  # so few cells
    figure = drawing.figures["gradcam.png"]
    assert len(figure.axes) == 8 * 4 + 1 and drawn(figure).startswith(b"\x89PNG")


def test_images_are_named_by_path_or_its_end(trained: RunFolder) -> None:
    run = subject(trained)
    first, second = run.files[3], run.files[7]
    drawing = look_at.gradcam(run, [first, Path(second).name, first])
    assert [row[0] for row in drawing.look.tables[0].rows] == [first, second]
    assert len(drawing.figures["gradcam.png"].axes) == 2 * 4 + 1
    with pytest.raises(UserError, match=r'--image: no validation image "nothing\.png"'):
        look_at.gradcam(run, ["nothing.png"])
    with pytest.raises(UserError, match="no validation image"):
        look_at.gradcam(run, [""])
    with pytest.raises(UserError, match="name at most 16"):
        look_at.gradcam(run, run.files[:17])


def test_an_ambiguous_name_is_refused() -> None:
    files = SimpleNamespace(files=["/x/val/a/1.png", "/x/val/b/1.png", "/x/1.png"])
    files.names = [file.removeprefix("/x/") for file in files.files]
    assert look_at._place(files, "1.png") == look_at._place(files, "/x/1.png") == 2  # type: ignore[arg-type]
    assert look_at._place(files, "b/1.png") == look_at._place(files, "val/b/1.png") == 1  # type: ignore[arg-type]
    files.files, files.names = files.files[:2], files.names[:2]
    with pytest.raises(UserError, match=r'"1\.png" names 2 validation images, such as val/a/1\.png; name a path'):
        look_at._place(files, "1.png")  # type: ignore[arg-type]


def test_a_member_without_a_spatial_map_is_said(
    trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("octavo.engine.gradcam.spatial_layer", lambda net, x: "")
    run = subject(RunFolder.open(shutil.copytree(trained.path, tmp_path / "run")), say=said.append)
    drawing = look_at.gradcam(run, run.files[:1])
    assert said == ["gradcam: no spatial map in vgg, squeeze, mobile"]
    assert "No spatial map, and so no heat, have vgg, squeeze, mobile" in drawing.look.sees
    assert [row[1] for row in drawing.look.tables[1].rows] == ["no spatial map"] * 3
    assert [t.get_text() for t in drawing.figures["gradcam.png"].texts].count("no spatial\nmap") == 3


def test_it_runs_networks_so_that_training_goes_without() -> None:
    assert CLASSIFY["gradcam"].thorough and not CLASSIFY["mistakes"].thorough and not CLASSIFY["suspects"].thorough
