"""Pyramids: the maps are torchvision's own, found and not written down, and published files fit."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from octavo.errors import UserError
from octavo.networks.backbone import weightless, whole
from octavo.networks.loading import load_into
from octavo.networks.pyramid import STRIDES, Pyramid, find_cut

SHARED = Path(__file__).parents[2] / "shared" / "weights"
RUN = ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "googlenet", "densenet121", "vgg11_bn")
RUN_SLOWLY = ("regnet_y_400mf", "efficientnet_b0", "convnext_tiny", "mobilenet_v2", "resnext50_32x4d")
SHAPED = ("vgg13", "vgg16", "vgg19_bn", "resnet152", "densenet161", "resnext101_32x8d", "wide_resnet50_2")
REFUSED = ("alexnet", "squeezenet1_1", "inception_v3", "swin_t", "vit_b_16")


@pytest.mark.parametrize("name", [*RUN, *(pytest.param(n, marks=pytest.mark.slow) for n in RUN_SLOWLY)])
def test_maps_are_those_of_torchvisions_own_forward(name: str) -> None:
    torch.manual_seed(0)
    pyramid = Pyramid(name).eval()
    options = {"aux_logits": False, "transform_input": True, "init_weights": False} if name == "googlenet" else {}
    original = torchvision.models.get_model(name, weights=None, **options).eval()
    missing = original.load_state_dict(pyramid.net.state_dict(), strict=False).missing_keys
    assert {key.split(".")[0] for key in missing} <= {"classifier", "fc"}
    seen: list[Tensor] = []
    for tap in find_cut(name).taps:
        original.get_submodule(tap).register_forward_hook(lambda m, i, out: seen.append(out.clone()))
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = pyramid(x)
        original(x)
    for stride, width, found, expected in zip(STRIDES, pyramid.widths, maps, seen, strict=True):
        assert found.shape == (2, width, 64 // stride, 96 // stride)
        torch.testing.assert_close(found, expected)
    assert len({float(m.std()) for m in maps}) == 3


@pytest.mark.parametrize("name", SHAPED)
def test_shapes_and_published_names(name: str) -> None:
    with weightless():
        pyramid = Pyramid(name).to("meta")
    maps = pyramid(torch.empty(2, 3, 96, 32, device="meta"))
    assert [m.shape for m in maps] == [(2, w, 96 // s, 32 // s) for w, s in zip(pyramid.widths, STRIDES, strict=True)]
    published = {key: tensor.shape for key, tensor in whole(name).state_dict().items()}
    kept = {key: tensor.shape for key, tensor in pyramid.net.state_dict().items()}
    assert kept.items() <= published.items()
    assert {key.split(".")[0] for key in published.keys() - kept.keys()} <= {"classifier", "fc"}


@pytest.mark.parametrize(("name", "layers"), [("vgg16", (16, 23, 30)), ("vgg16_bn", (23, 33, 43))])
def test_vggs_are_cut_behind_their_poolings(name: str, layers: tuple[int, ...]) -> None:
    # By torchvision's configuration D: poolings at 4, 9, 16, 23, 30, and with batch norm at 6, 13, 23, 33, 43.
    assert find_cut(name).taps == tuple(f"features.{i}" for i in layers)
    assert find_cut(name).widths == (256, 512, 512)
    with weightless():
        net = Pyramid(name).net
    assert all(isinstance(net.get_submodule(f"features.{i}"), nn.MaxPool2d) for i in layers)
    assert [key for key, _ in net.named_children()] == ["features"]


@pytest.mark.parametrize(("finest", "strides"), [(8, [8, 16, 32]), (16, [16, 32]), (32, [32])])
def test_finest_map(finest: int, strides: list[int]) -> None:
    with weightless():
        pyramid = Pyramid("resnet18", finest).to("meta")
    assert [64 // m.shape[-1] for m in pyramid(torch.empty(1, 3, 64, 64, device="meta"))] == strides
    assert len(pyramid.widths) == len(strides)


def test_ceil_rounds_up() -> None:
    with weightless():
        pyramid = Pyramid("vgg11", ceil=True).to("meta")
    # Caffe's poolings: 250 → 125 → 63 → 32 → 16 → 8.
    assert [m.shape[-1] for m in pyramid(torch.empty(1, 3, 250, 250, device="meta"))] == [32, 16, 8]


def test_copies_and_channels_last_give_the_same() -> None:
    torch.manual_seed(0)
    pyramid = Pyramid("mobilenet_v3_small").eval()
    twin = copy.deepcopy(pyramid).to(memory_format=torch.channels_last)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(pyramid(x), twin(x.to(memory_format=torch.channels_last)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert all(p is not q for p, q in zip(pyramid.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("name", REFUSED)
def test_networks_without_these_maps(name: str) -> None:
    with pytest.raises(
        UserError, match=rf'^backbone: "{name}" has no maps of stride 8, 16 and 32 to predict from; VGGs'
    ):
        Pyramid(name)


def test_unknown_names() -> None:
    with pytest.raises(UserError, match=r'^backbone: unknown "vgg61"; did you mean "vgg1[69]"\?$'):
        Pyramid("vgg61")
    with pytest.raises(UserError, match=r'^backbone: "timm:resnet50": a pyramid is cut from torchvision\'s networks'):
        Pyramid("timm:resnet50")


@pytest.mark.skipif(not (SHARED / "vgg16.safetensors").is_file(), reason="needs ../shared/weights")
def test_the_shared_vgg16_fills_a_pyramid() -> None:
    pyramid = Pyramid("vgg16")
    report = load_into(pyramid, SHARED / "vgg16.safetensors")
    assert (report.loaded, report.unused) == (26, 0)
    maps = pyramid.eval()(torch.zeros(1, 3, 32, 32))
    assert all(torch.isfinite(m).all() and m.max() > 1 for m in maps)
