"""Networks as text: PyTorch's own print, with shapes and parameters that the running network confirms."""

from __future__ import annotations

import re
import time

import pytest
import torch
from torch import nn

from octavo import recipe
from octavo.errors import UserError
from octavo.networks.build import build_member
from octavo.recipe import ClassifyRecipe
from octavo.verbs.describe import annotated, describe, output_shapes


def made(name: str, size: int = 64, **rest: object) -> ClassifyRecipe:
    member = {"name": "one", "backbone": name, "weights": "none", **rest}
    return ClassifyRecipe.model_validate({"name": "test", "data": {"size": size}, "members": [member]})


@pytest.mark.parametrize(
    "name", ["vgg16", "resnet18", "densenet121", "vit_b_32", "swin_t", "convnext_tiny", "googlenet"]
)
def test_without_the_column_it_is_pytorchs_print(name: str) -> None:
    spec = made(name)
    net = build_member(spec.members[0], spec, 5, "meta")
    lines = [re.sub(r"\s+→ .*$", "", line) for line in annotated(net, 64).splitlines()]
    assert "\n".join(lines) == repr(net)


def test_every_layer_with_parameters_is_counted() -> None:
    spec = made("densenet121")
    net = build_member(spec.members[0], spec, 5, "meta")
    leaves = [line for line in annotated(net, 64).splitlines() if re.search(r"\): (Conv2d|Linear|BatchNorm2d)\(", line)]
    counts = [int(line.rsplit("· ", 1)[1].replace(",", "")) for line in leaves]
    assert sum(counts) == sum(p.numel() for p in net.parameters())


def test_shapes_are_those_of_a_real_pass() -> None:
    spec = made("shufflenet_v2_x0_5", 48)
    real = build_member(spec.members[0], spec, 5).eval()
    shapes = output_shapes(build_member(spec.members[0], spec, 5, "meta"), 48)
    seen: dict[str, tuple[int, ...]] = {}

    def keep(name: str):
        def hook(module: nn.Module, args: tuple, output: torch.Tensor) -> None:
            seen[name] = tuple(output.shape[1:])

        return hook

    for name, module in real.named_modules():
        module.register_forward_hook(keep(name))
    real(torch.randn(2, 3, 48, 48))
    assert shapes == seen


def test_equal_neighbours_that_pytorch_prints_as_one() -> None:
    spec = made("squeezenet1_1")
    net = build_member(spec.members[0], spec, 5, "meta")
    with torch.device("meta"):
        net.head = nn.Sequential(nn.ModuleList([nn.Linear(5, 5) for _ in range(3)]), nn.Linear(512, 5))
    net.head.forward = lambda x: net.head[1](x)  # type: ignore[method-assign]
    text = annotated(net, 64)
    assert re.search(r"\(0-2\): 3 x Linear\(in_features=5, out_features=5, bias=True\) +→ – · 30 each\n", text)
    assert re.search(r"\(1\): Linear\(in_features=512, out_features=5, bias=True\) +→ 5 · 2,565\n", text)


def test_octet_in_seconds_with_the_references_sums() -> None:
    octet = recipe.load("octet")
    start = time.perf_counter()
    text = describe(octet)
    assert time.perf_counter() - start < 5
    assert re.search(r"^sum +258,663,488 +351,301,840 +609,965,328$", text, re.MULTILINE)
    assert text.startswith("vgg16: vgg16, weights IMAGENET1K_V1, input 3×40×40\nMemberNet(")
    line = r"\(0\): Conv2d\(3, 64, kernel_size=\(3, 3\), stride=\(1, 1\), padding=\(1, 1\)\) +→ 64×40×40 · 1,792\n"
    assert re.search(line, text)
    assert re.search(r"^vgg19_bn\S* +25,088 +20,035,392 +128,038,962 +148,074,354$", text, re.MULTILINE)


def test_one_member_of_many() -> None:
    text = describe(recipe.load("octet"), member="densenet161", classes=7)
    assert text.count("MemberNet(") == 1
    assert re.search(r"^densenet161 +2,208 +26,472,000 +15,463 +26,487,463$", text, re.MULTILINE)
    assert "head (7 classes)" in text
    assert "\nsum" not in text


def test_unknown_member_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r'^member: unknown "densenet16"; did you mean "densenet16[19]"\?$'):
        describe(recipe.load("octet"), member="densenet16")


def test_own_weights_are_named_as_given() -> None:
    assert describe(made("squeezenet1_1")).startswith("one: squeezenet1_1, weights none, input 3×64×64\n")
    own = made("squeezenet1_1", weights="my/own.pth")
    assert describe(own).startswith("one: squeezenet1_1, weights my/own.pth, input 3×64×64\n")
