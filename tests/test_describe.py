"""Networks as text: PyTorch's own print, with shapes and parameters that the running network confirms."""

from __future__ import annotations

import re
import time

import pytest
import torch
from torch import nn

from octavo import recipe
from octavo.errors import UserError
from octavo.networks.build import build_member, build_segmenter
from octavo.networks.layers import annotated, output_shapes
from octavo.recipe import ClassifyRecipe, SegmentRecipe
from octavo.verbs.describe import describe


def made(name: str, size: int = 64, **rest: object) -> ClassifyRecipe:
    member = {"name": "one", "backbone": name, "weights": "none", **rest}
    return ClassifyRecipe.model_validate({"name": "test", "data": {"size": size}, "members": [member]})


@pytest.mark.parametrize(
    "name", ["vgg16", "resnet18", "densenet121", "vit_b_32", "swin_t", "convnext_tiny", "googlenet"]
)
def test_without_the_column_it_is_pytorchs_print(name: str) -> None:
    spec = made(name)
    net = build_member(spec.members[0], spec, 5, "meta")
    lines = [re.sub(r"\s+→ .*$", "", line) for line in annotated(net, 64, 64).splitlines()]
    assert "\n".join(lines) == repr(net)


def test_every_layer_with_parameters_is_counted() -> None:
    spec = made("densenet121")
    net = build_member(spec.members[0], spec, 5, "meta")
    leaves = [
        line for line in annotated(net, 64, 64).splitlines() if re.search(r"\): (Conv2d|Linear|BatchNorm2d)\(", line)
    ]
    counts = [int(line.rsplit("· ", 1)[1].replace(",", "")) for line in leaves]
    assert sum(counts) == sum(p.numel() for p in net.parameters())


def test_shapes_are_those_of_a_real_pass() -> None:
    spec = made("shufflenet_v2_x0_5", 48)
    real = build_member(spec.members[0], spec, 5).eval()
    shapes = output_shapes(build_member(spec.members[0], spec, 5, "meta"), 48, 48)
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
    text = annotated(net, 64, 64)
    assert re.search(r"\(0-2\): 3 x Linear\(in_features=5, out_features=5, bias=True\) +→ – · 30 each\n", text)
    assert re.search(r"\(1\): Linear\(in_features=512, out_features=5, bias=True\) +→ 5 · 2,565\n", text)


def test_octet_in_seconds_with_the_references_sums() -> None:
    octet = recipe.load("octet")
    start = time.perf_counter()
    text = describe(octet)
    assert time.perf_counter() - start < 5
    assert re.search(r"^sum +258,663,488 +351,301,840 +609,965,328$", text, re.MULTILINE)
    assert re.match(r"member +features +extractor +head \(50 classes\) +parameters\nvgg16 +512 ", text)
    assert "\n\nvgg16: vgg16, weights IMAGENET1K_V1, input 3×40×40\nMemberNet(" in text
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
    assert "\none: squeezenet1_1, weights none, input 3×64×64\n" in describe(made("squeezenet1_1"))
    own = made("squeezenet1_1", weights="my/own.pth")
    assert "\none: squeezenet1_1, weights my/own.pth, input 3×64×64\n" in describe(own)


@pytest.mark.parametrize("name", ["vgg16", "densenet121", "vit_b_32"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_depth_folds_what_lies_below(name: str, depth: int) -> None:
    spec = made(name)
    net = build_member(spec.members[0], spec, 5, "meta")
    whole, folded = annotated(net, 64, 64).splitlines(), annotated(net, 64, 64, depth).splitlines()
    names = [n for n, _ in net.named_modules() if n and n.count(".") < depth]
    assert sum(bool(re.match(r" *\(\S+\): ", line)) for line in folded) == len(names)
    assert all((len(line) - len(line.lstrip())) // 2 <= depth for line in folded)
    assert any("(…)" in line for line in folded)
    # What is left stands as it stood, with the same shapes and counts.
    cut = {re.sub(r"\(…\)", "(", re.sub(r"  +→", " →", line)) for line in folded}
    assert cut <= {re.sub(r"  +→", " →", line) for line in whole}


def test_long_lines_do_not_move_the_column() -> None:
    spec = made("efficientnet_b0")
    text = annotated(build_member(spec.members[0], spec, 5, "meta"), 64, 64)
    assert max(len(line) for line in text.splitlines()) > 130
    assert max(line.index("→") for line in text.splitlines() if "ReLU" in line or "SiLU" in line) <= 102


def test_no_depth_below_one() -> None:
    with pytest.raises(UserError, match=r"^depth: expected 1 or more, got 0$"):
        describe(recipe.load("octet"), depth=0)


def segmenter(name: str, *changes: str) -> SegmentRecipe:
    found = recipe.load(name, changes)
    assert isinstance(found, SegmentRecipe)
    return found


def test_fcn8s_with_the_papers_diagram() -> None:
    text = describe(segmenter("fcn8s"))
    totals, diagram, network = text.rstrip("\n").split("\n\n")
    assert re.search(r"^segmenter +14,714,688 +14,173,938 +28,888,626$", totals, re.MULTILINE)
    rows = [re.split(r"  +", line) for line in diagram.splitlines()[1:]]
    # Figure 3 of the paper, with the sizes that a 512×512 image has at strides 8, 16 and 32.
    assert rows == [
        ["to pool3", "backbone.net.features.0 … features.16", "256×64×64"],
        ["to pool4", "backbone.net.features.17 … features.23", "512×32×32"],
        ["to pool5", "backbone.net.features.24 … features.30", "512×16×16"],
        ["conv6-7 (fc6, fc7)", "head.top", "1024×16×16"],
        ["pool5 prediction", "head.score", "7×16×16"],
        ["2× upsampled prediction", "head.upscore2", "7×32×32"],
        ["pool4 prediction", "head.score_pool4", "7×32×32"],
        ["2× upsampled prediction of the sum", "head.upscore_pool4", "7×64×64"],
        ["pool3 prediction", "head.score_pool3", "7×64×64"],
        ["fused 8× upsampling (FCN-8s)", "head.upscore8", "7×512×512"],
    ]
    assert network.startswith("segmenter: FCN-8s on vgg16, weights IMAGENET1K_V1, input 3×512×512\nSegmenterNet(")
    lines = [re.sub(r"\s+→ .*$", "", line) for line in network.splitlines()[1:]]
    net = build_segmenter(segmenter("fcn8s").segmenter, segmenter("fcn8s"), 7, "meta")
    assert "\n".join(lines) == repr(net)
    named = {name for name, _ in net.named_modules()}
    assert {row[1] for row in rows if row[1].startswith("head")} <= named


def test_other_segmenters() -> None:
    coarse = describe(segmenter("fcn32s"))
    assert "7×512×512 · 45,650,759" in coarse
    assert re.search(r"^32× upsampled prediction \(FCN-32s\) +head.upscore32 +7×512×512$", coarse, re.MULTILINE)
    resnet = segmenter("fcn8s-plus", "segmenter.backbone=resnet18", "data.size=[64,96]")
    text = describe(resnet, depth=2)
    assert re.search(r"^to pool4 +backbone\.net\.layer3 +256×4×6$", text, re.MULTILINE)
    assert "input 3×64×96" in text
    rival = describe(segmenter("fcn8s", "segmenter.network=lraspp_mobilenet_v3_large"), classes=3, depth=1)
    assert "paper's diagram" not in rival
    assert "head (3 classes)" in rival
    assert "segmenter: lraspp_mobilenet_v3_large, weights IMAGENET1K_V1" in rival
    with pytest.raises(UserError, match=r'^member: unknown "segmentr"; did you mean "segmenter"\?$'):
        describe(segmenter("fcn8s"), member="segmentr")


def test_classes_come_from_the_recipes_own_table() -> None:
    assert "head (11 classes)" in describe(segmenter("fcn8s-plus", "data.classes=camvid"), depth=1)
