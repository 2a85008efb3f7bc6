"""Segmenters: the reference's and the paper's networks, any size in and out, and nothing shifted on the way."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from octavo.errors import UserError
from octavo.networks.backbone import parameters, weightless, whole
from octavo.networks.fcn import FCN, bilinear_kernel, crops, enlargements
from octavo.networks.segmenter import SegmenterNet, classifier_part, make_segmenter, own_networks
from octavo.recipe import Segmenter

SMALL: dict[str, Any] = {"backbone": "resnet18", "hidden": [{"width": 8}]}
PAPER = [{"width": 4096, "kernel": 7, "dropout": 0.5}, {"width": 4096, "kernel": 1, "dropout": 0.5}]
UPSAMPLES, BORDERS, STRIDES = ("transposed", "bilinear", "bilinear-fixed"), ("same", "pad100"), (32, 16, 8)
VARIANTS = list(itertools.product(BORDERS, UPSAMPLES, STRIDES))
SIZES = [(1, 1), (1, 301), (301, 1), (31, 33), (32, 64), (97, 250), (500, 375)]


def spec(**keys: Any) -> Segmenter:
    return Segmenter.model_validate(keys)


def on_meta(made: Segmenter, classes: int = 7) -> SegmenterNet:
    with weightless():
        return make_segmenter(made, classes).to("meta")


def leaves(net: nn.Module) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    found = []
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            found.append((type(layer).__name__, tuple(layer.weight.shape), tuple(layer.stride)))
    return found


VGG16 = [(64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (256, 256), (512, 256), *[(512, 512)] * 5]


@pytest.mark.parametrize(
    ("keys", "count", "layers"),
    [
        ({"stride": 32, "score": False, "hidden": [{"width": 1024}] * 3}, 45_650_759, [
            ("Conv2d", (1024, 512, 3, 3), (1, 1)), ("Conv2d", (1024, 1024, 3, 3), (1, 1)),
            ("Conv2d", (1024, 1024, 3, 3), (1, 1)), ("ConvTranspose2d", (1024, 7, 32, 32), (32, 32)),
        ]),
        ({}, 28_888_626, [
            ("Conv2d", (1024, 512, 3, 3), (1, 1)), ("Conv2d", (1024, 1024, 3, 3), (1, 1)),
            ("Conv2d", (7, 1024, 1, 1), (1, 1)), ("ConvTranspose2d", (7, 7, 2, 2), (2, 2)),
            ("Conv2d", (7, 512, 1, 1), (1, 1)), ("ConvTranspose2d", (7, 7, 2, 2), (2, 2)),
            ("Conv2d", (7, 256, 1, 1), (1, 1)), ("ConvTranspose2d", (7, 7, 8, 8), (8, 8)),
        ]),
    ],
    ids=["fcn32s", "fcn8s"],
)  # fmt: skip
def test_the_references_networks_layer_by_layer(keys: dict[str, Any], count: int, layers: list[Any]) -> None:
    net = on_meta(spec(**keys))
    assert parameters(net) == count
    features = [("Conv2d", (out, into, 3, 3), (1, 1)) for out, into in VGG16]
    assert leaves(net) == [*features, *layers]
    assert all(layer.bias is not None for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d))
    paddings = {
        layer.padding[0] for layer in net.head.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size[0] == 3
    }
    assert paddings == {1}


@pytest.mark.parametrize(
    ("stride", "kernels", "expected"),
    [(32, [64], (19,)), (16, [4, 32], (5, 27)), (8, [4, 4, 16], (5, 9, 31))],
)
def test_the_papers_kernels_and_crops(stride: int, kernels: list[int], expected: tuple[int, ...]) -> None:
    made = spec(stride=stride, hidden=PAPER, border="pad100", upsample="bilinear", zero_scores=True)
    assert crops(made) == expected
    net = on_meta(made, 21)
    convs = [layer for layer in net.head.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [c.kernel_size[0] for c in convs] == kernels
    assert all(c.weight.shape[:2] == (21, 21) and c.bias is None for c in convs)
    first, second = (layer for layer in net.head.get_submodule("top") if isinstance(layer, nn.Conv2d))
    assert (first.weight.shape, second.weight.shape) == ((4096, 512, 7, 7), (4096, 4096, 1, 1))
    assert [d.p for d in net.head.modules() if isinstance(d, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize(("border", "upsample", "stride"), VARIANTS)
def test_any_size_in_the_same_size_out(border: str, upsample: str, stride: int) -> None:
    net = on_meta(
        spec(backbone="vgg11", border=border, upsample=upsample, stride=stride, hidden=[{"width": 8, "kernel": 7}])
    )
    for height, width in SIZES:
        assert net(torch.empty(2, 3, height, width, device="meta")).shape == (2, 7, height, width)


@pytest.mark.parametrize("side", [1, 63])
@pytest.mark.parametrize("name", ["fcn", "lraspp_mobilenet_v3_large"])
def test_real_scores_of_odd_sizes(name: str, side: int) -> None:
    torch.manual_seed(0)
    net = make_segmenter(spec(**SMALL) if name == "fcn" else spec(network=name), 3).eval()
    out = net(torch.randn(1, 3, side, 2 * side + 1))
    assert out.shape == (1, 3, side, 2 * side + 1)
    assert torch.isfinite(out).all()


# Nothing is shifted: an image of one channel, average poolings for taps, and a decoder that passes the channel through.


class Pools(nn.Module):
    """Cells that are the mean of the pixels that they stand for, as VGG's poolings lie."""

    def __init__(self, finest: int) -> None:
        super().__init__()
        self.finest = finest

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(F.avg_pool2d(x, s, ceil_mode=True) for s in (8, 16, 32) if s >= self.finest)


def passing(border: str, upsample: str, stride: int, scales: tuple[float, float] = (1.0, 1.0)) -> SegmenterNet:
    """A network whose second class is the mean of what its strides show of the image."""
    hidden = [{"width": 1, "kernel": 7}, {"width": 1, "kernel": 1}]
    made = spec(border=border, upsample=upsample, stride=stride, hidden=hidden, skip_scales=scales)
    maps = len(enlargements(stride))
    head = FCN(made, [1] * maps, 2)
    weights = {"score": 1.0, "score_pool4": 1 / scales[0], "score_pool3": 1 / scales[1]}
    with torch.no_grad():
        for name, layer in head.named_modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_()
                middle = layer.kernel_size[0] // 2
                layer.weight[-1, 0, middle, middle] = weights.get(name, 1.0) / (1 if name.startswith("top") else maps)
            if isinstance(layer, nn.ConvTranspose2d) and upsample == "transposed":
                layer.weight.copy_(torch.eye(2)[:, :, None, None].expand_as(layer.weight))
            bias = getattr(layer, "bias", None)
            if isinstance(bias, Tensor):
                bias.zero_()
    return SegmenterNet(Pools(stride), head)  # type: ignore[arg-type]


@pytest.mark.parametrize(("border", "upsample", "stride"), VARIANTS)
def test_a_centred_square_stays_where_it_is(border: str, upsample: str, stride: int) -> None:
    # Sides at which the cells lie symmetrically in the image, and squares whose edges are edges of the coarsest cells:
    # those of `pad100` begin at -99, so 250 pixels reach from the middle of one to the middle of another.
    side, low, high = (256, 64, 192) if border == "same" else (250, 61, 189)
    image = torch.zeros(1, 1, side, side)
    image[..., low:high, low:high] = 1
    with torch.no_grad():
        out = passing(border, upsample, stride)(image)[0, 1]
    assert (out > 0.5)[side // 2].nonzero().flatten().tolist() == list(range(low, high))
    assert (out > 0.5)[:, side // 2].nonzero().flatten().tolist() == list(range(low, high))
    for turned in (out.flip(0), out.flip(1), out.T):
        torch.testing.assert_close(out, turned)


@pytest.mark.parametrize(("border", "upsample", "stride"), VARIANTS)
@pytest.mark.parametrize("size", [(203, 230), (256, 289)])
def test_a_ramp_comes_out_at_its_own_height(border: str, upsample: str, stride: int, size: tuple[int, int]) -> None:
    # Means of cells and interpolation between them leave a ramp as it is; a shift by a pixel would be a change by one.
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    image = (2.0 * x + y)[None, None] + 1
    with torch.no_grad():
        out = passing(border, upsample, stride, (0.01, 1.0) if stride == 16 else (1.0, 1.0))(image)[0, 1]
    inside = (slice(66, 130), slice(66, 162))  # multiples of 32 wide: steps between cells average out there
    wrong = (out - image[0, 0])[inside]
    if upsample == "transposed":
        assert wrong.mean().item() == pytest.approx(0, abs=1e-2)
    else:
        torch.testing.assert_close(wrong, torch.zeros_like(wrong), rtol=0, atol=2e-2)


@pytest.mark.parametrize("upsample", ["bilinear", "bilinear-fixed"])
@pytest.mark.parametrize("stride", STRIDES)
def test_bilinear_is_torchs_interpolation_up_to_the_border(upsample: str, stride: int) -> None:
    torch.manual_seed(0)
    head = FCN(spec(hidden=[], stride=stride, upsample=upsample), [4] * len(enlargements(stride)), 3)
    maps = [torch.randn(2, 4, 96 // s, 160 // s) for s in (8, 16, 32) if s >= stride]
    names = ["score", "score_pool4", "score_pool3"]
    expected = torch.zeros(())
    for name, x in zip(names, reversed(maps), strict=False):
        score = head.get_submodule(name)(x)
        if expected.ndim:
            score = score + F.interpolate(expected, scale_factor=2, mode="bilinear", align_corners=False)
        expected = score
    expected = F.interpolate(expected, scale_factor=stride, mode="bilinear", align_corners=False)
    torch.testing.assert_close(head(maps, (96, 160)), expected)
    assert any("upscore" in name for name, _ in head.named_parameters()) == (upsample == "bilinear")


def test_bilinear_kernel_is_the_papers() -> None:
    # The filler of the paper's code, for a kernel of side k: 1 - |i / f - c| with f = ⌈k/2⌉, c = (2f - 1 - f % 2) / 2f.
    for k in (4, 16, 32, 64):
        f = math.ceil(k / 2)
        row = torch.tensor([1 - abs(i / f - (2 * f - 1 - f % 2) / (2 * f)) for i in range(k)])
        torch.testing.assert_close(bilinear_kernel(k // 2), row[:, None] * row)


def test_padding_of_100_is_vggs_first_layer_padded_by_100() -> None:
    net = on_meta(spec(backbone="vgg11", hidden=PAPER[:1], border="pad100"))
    assert net.head.margins(50, 60) == (99, 99, 99, 99)
    x, weight = torch.randn(1, 3, 9, 7), torch.randn(4, 3, 3, 3)
    torch.testing.assert_close(F.conv2d(F.pad(x, (99,) * 4), weight, padding=1), F.conv2d(x, weight, padding=100))


def test_margins_reach_the_next_multiple_of_32_on_both_sides() -> None:
    head = FCN(spec(hidden=[]), [1, 1, 1], 2)
    assert head.margins(32, 64) == (0, 0, 0, 0)
    assert head.margins(1, 33) == (15, 16, 15, 16)


def test_skip_scales_multiply_the_maps() -> None:
    torch.manual_seed(0)
    plain = FCN(spec(hidden=[]), [2, 3, 4], 3)
    scaled = FCN(spec(hidden=[], skip_scales=(0.5, 0.25)), [2, 3, 4], 3)
    scaled.load_state_dict(plain.state_dict())
    pool3, pool4, pool5 = torch.randn(1, 2, 8, 8), torch.randn(1, 3, 4, 4), torch.randn(1, 4, 2, 2)
    expected = plain([pool3 * 0.25, pool4 * 0.5, pool5], (64, 64))
    torch.testing.assert_close(scaled([pool3, pool4, pool5], (64, 64)), expected)
    assert not torch.allclose(plain([pool3, pool4, pool5], (64, 64)), expected)


@pytest.mark.parametrize(
    "keys",
    [
        {**SMALL, "upsample": "transposed"},
        {**SMALL, "upsample": "bilinear"},
        {**SMALL, "stride": 32, "score": False},
        {"network": "lraspp_mobilenet_v3_large"},
        {"network": "fcn_resnet50"},
    ],
)
def test_zero_scores_start_at_ln_c_and_learn(keys: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = make_segmenter(spec(**keys, zero_scores=True), 5).eval()
    x, y = torch.randn(2, 3, 32, 32), torch.randint(0, 5, (2, 32, 32))
    loss = F.cross_entropy(net(x), y)
    assert loss.item() == pytest.approx(math.log(5), 1e-6)
    loss.backward()
    slopes = [(p, p.grad) for p in net.parameters() if p.grad is not None]
    length = torch.stack([grad.norm() for _, grad in slopes]).norm()
    with torch.no_grad():
        for p, grad in slopes:
            p -= 1e-4 * grad / length
    assert F.cross_entropy(net(x), y).item() < loss.item()
    torch.manual_seed(0)
    other = make_segmenter(spec(**keys), 5).eval()
    assert F.cross_entropy(other(x), y).item() != pytest.approx(math.log(5), 1e-6)


def test_features_and_decode_are_the_forward() -> None:
    torch.manual_seed(0)
    net = make_segmenter(spec(**SMALL), 3).eval()
    x = torch.randn(2, 3, 45, 70)
    maps = net.features(x)
    assert [m.shape[-2:] for m in maps] == [(8, 12), (4, 6), (2, 3)]
    assert torch.equal(net.decode(maps, (45, 70)), net(x))


def test_channels_last_and_copies_give_the_same() -> None:
    torch.manual_seed(0)
    net = make_segmenter(spec(**SMALL, upsample="bilinear-fixed"), 3).eval()
    twin = copy.deepcopy(net).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 40, 33)
    with torch.no_grad():
        torch.testing.assert_close(net(x), twin(x.to(memory_format=torch.channels_last)), rtol=1e-4, atol=1e-5)
    assert not any(key.startswith("head.up") for key, _ in net.named_parameters())
    assert "head.upscore8.weight" in net.state_dict()


@pytest.mark.parametrize("name", own_networks())
def test_torchvisions_networks_take_imagenet_files_by_name(name: str) -> None:
    net = on_meta(spec(network=name))
    published = {k: v.shape for k, v in whole(name.partition("_")[2]).state_dict().items()}
    assert {k: v.shape for k, v in net.backbone.net.state_dict().items()}.items() <= published.items()
    assert net(torch.empty(2, 3, 65, 40, device="meta")).shape == (2, 7, 65, 40)


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "fcn_resnet50"])
def test_torchvisions_networks_score_as_torchvisions(name: str) -> None:
    torch.manual_seed(0)
    net = make_segmenter(spec(network=name), 4).eval()
    original = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=4).eval()
    state = {
        k.replace("backbone.net.features.", "backbone.").replace("backbone.net.", "backbone.").replace("head.", ""): v
        for k, v in net.state_dict().items()
    }
    original.load_state_dict(state)
    x = torch.randn(1, 3, 49, 66)
    with torch.no_grad():
        torch.testing.assert_close(net(x), original(x)["out"])


@pytest.mark.parametrize("border", BORDERS)
def test_fc6_and_fc7_are_the_classifier_on_every_seven_by_seven_cells(border: str) -> None:
    torch.manual_seed(0)
    # The right widths, on a map of two channels instead of 512, so that the test fits into memory.
    linear = nn.Sequential(nn.Linear(2 * 49, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU())
    made = spec(stride=32, hidden=PAPER, border=border)
    tensors = {f"classifier.{k}": v.detach() for k, v in linear.state_dict().items()}
    head = FCN(made, [2], 3).eval()
    found = classifier_part(made, tensors)
    assert sorted(found) == ["top.0.bias", "top.0.weight", "top.3.bias", "top.3.weight"]
    head.load_state_dict(head.state_dict() | found)
    pool5 = torch.randn(1, 2, 9, 8)
    out = head.get_submodule("top")(pool5)
    expected = linear.eval()(pool5[..., 1:8, 1:8].flatten(1))
    at = (1, 1) if border == "pad100" else (4, 4)
    torch.testing.assert_close(out[..., at[0], at[1]], expected, rtol=1e-4, atol=1e-5)
    broken = {k: torch.full_like(v, math.nan) for k, v in tensors.items()}
    assert classifier_part(made, broken) == {}
    assert classifier_part(made, {}) == {}
    assert not spec().uses_classifier and not spec(hidden=PAPER, backbone="resnet18").uses_classifier


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"network": "fcn_resnet5"}, r'network: unknown "fcn_resnet5"; did you mean "fcn_resnet50"\?'),
        ({"backbone": "vgg61"}, r'backbone: unknown "vgg61"; did you mean "vgg1[69]"\?'),
        ({"backbone": "vit_b_16"}, r'backbone: "vit_b_16" has no maps'),
        ({"stride": 32, "score": False, "upsample": "bilinear"}, r"score: false lets the enlarging layer score, which"),
        ({"stride": 32, "skip_scales": (0.1, 1)}, r"skip_scales: stride = 32 doesn't use pool4"),
        ({"stride": 16, "skip_scales": (0.1, 0.1)}, r"skip_scales: stride = 16 doesn't use pool3"),
        ({"backbone": "resnet18", "border": "pad100"}, r'border: "pad100" and its crops are made for VGGs; "resnet18"'),
        ({"border": "pad100", "hidden": [{"width": 4, "kernel": 9}]}, r'border: "pad100" has room for hidden kernels'),
        ({"network": "fcn_resnet50", "stride": 16}, r'stride: network = "fcn_resnet50" brings its own; remove it'),
        ({"network": "fcn_resnet50", "backbone": "resnet18"}, r'backbone: network = "fcn_resnet50" brings its own'),
    ],
)  # fmt: skip
def test_what_contradicts_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        make_segmenter(spec(**keys), 7)
