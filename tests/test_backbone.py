"""Extractors: every torchvision network gives the features that its own classifier would have been given."""

from __future__ import annotations

import sys

import pytest
import torch
import torchvision
from torch import Tensor, nn

from octavo.errors import UserError
from octavo.networks.backbone import Backbone, names, parameters, weightless, whole, width

ONE_PER_FAMILY = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg19_bn", "vit_b_32", "wide_resnet50_2",
)  # fmt: skip
RUN = ("alexnet", "densenet121", "googlenet", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1")
RUN_SLOWLY = (
    "convnext_tiny", "efficientnet_b0", "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "regnet_y_400mf",
    "swin_t", "vgg11", "vit_b_32",
)  # fmt: skip
CLASSIFIERS = ("classifier", "fc", "heads", "head")


def first_classifying_layer(net: nn.Module) -> tuple[nn.Module, int]:
    """The layer of torchvision's own network that features go into, and their number, as it declares it."""
    child = next(getattr(net, name) for name in CLASSIFIERS if hasattr(net, name))
    for layer in child.modules():
        if isinstance(layer, nn.Linear):
            return layer, layer.in_features
        if isinstance(layer, nn.Conv2d):
            return layer, layer.in_channels
    raise AssertionError("no classifying layer")


def marked(chosen: tuple[str, ...]) -> list:
    return [n if n in chosen else pytest.param(n, marks=pytest.mark.slow) for n in names()]


@pytest.mark.parametrize("name", marked(ONE_PER_FAMILY))
def test_every_network_gives_features(name: str) -> None:
    size = 299 if name == "inception_v3" else 224
    original = whole(name, size)
    layer, expected = first_classifying_layer(original)
    with weightless():
        backbone = Backbone(name, size).to("meta").eval()
    features = backbone(torch.empty(2, 3, size, size, device="meta"))
    assert features.shape == (2, expected)
    assert width(name, size) == backbone.features == expected
    shapes = {key: tensor.shape for key, tensor in original.state_dict().items()}
    kept = {key: tensor.shape for key, tensor in backbone.net.state_dict().items()}
    assert kept.items() <= shapes.items(), "published files wouldn't fit"
    dropped = {key.split(".")[0] for key in shapes.keys() - kept.keys()}
    assert dropped <= {*CLASSIFIERS, "AuxLogits", "aux1", "aux2"}
    assert not any(module is layer for module in backbone.modules())


@pytest.mark.parametrize("name", [*RUN, *(pytest.param(n, marks=pytest.mark.slow) for n in RUN_SLOWLY)])
def test_features_are_what_the_classifier_is_given(name: str) -> None:
    size = {"inception_v3": 96, "maxvit_t": 224}.get(name, 64)
    torch.manual_seed(0)
    options = (
        {"aux_logits": False, "init_weights": True, "transform_input": True}
        if name in ("googlenet", "inception_v3")
        else {}
    )
    options |= {"image_size": size} if name == "vit_b_32" else {}
    original = torchvision.models.get_model(name, weights=None, **options).eval()
    backbone = Backbone(name, size).eval()
    with torch.no_grad():
        for key, value in backbone.net.state_dict().items():
            value.copy_(original.state_dict()[key])
    given: list[Tensor] = []
    layer, _ = first_classifying_layer(original)
    layer.register_forward_pre_hook(lambda module, args: given.append(args[0].clone()))
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        original(x)
        features = backbone(x)
    expected = given[0].mean((2, 3)) if given[0].ndim == 4 else given[0]
    torch.testing.assert_close(features, expected)


def test_average_pooling_is_the_mean_of_the_convolutional_part() -> None:
    backbone = Backbone("vgg11", 96, pool="avg").eval()
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), backbone.net.features(x).mean((2, 3)))
    assert backbone.features == 512


def test_average_pooling_changes_nothing_where_it_is_the_networks_own() -> None:
    assert width("resnet18", 64, "avg") == width("resnet18", 64, "native") == 512


def test_class_token_has_nothing_to_average() -> None:
    with pytest.raises(UserError, match=r'^pool: "vit_b_32" .*use "native"$'):
        Backbone("vit_b_32", 64, pool="avg")


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_dropout_of_the_classifier_is_gone(name: str) -> None:
    with weightless():
        backbone = Backbone(name, 96)
    assert not [m for m in backbone.modules() if isinstance(m, nn.Dropout)]


def test_zero_init_residual_starts_blocks_as_identity() -> None:
    def last_norms(net: Backbone) -> list[Tensor]:
        return [m.bn2.weight for m in net.modules() if isinstance(m, torchvision.models.resnet.BasicBlock)]

    assert all((w == 0).all() for w in last_norms(Backbone("resnet18", 32, zero_init_residual=True)))
    assert all((w == 1).all() for w in last_norms(Backbone("resnet18", 32)))


@pytest.mark.parametrize("name", ["vgg11", "googlenet", "vit_b_32"])
def test_zero_init_residual_is_refused_where_it_means_nothing(name: str) -> None:
    with pytest.raises(UserError, match=f'^zero_init_residual: "{name}"'):
        Backbone(name, 96, zero_init_residual=True)


def test_unknown_network_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r'^backbone: unknown "resnet15"; did you mean "resnet152"\?$'):
        width("resnet15")


@pytest.mark.parametrize(("name", "size", "works"), [("inception_v3", 40, 75), ("vgg16", 8, 32), ("vit_b_16", 40, 48)])
def test_size_too_small_names_the_next_that_works(name: str, size: int, works: int) -> None:
    with pytest.raises(UserError, match=rf'^backbone: "{name}" can\'t take {size} px images; .* is {works} px$'):
        width(name, size)
    assert width(name, works) > 0
    with pytest.raises(UserError):
        width(name, works - 1)


def test_weightless_networks_take_no_memory_and_draw_no_numbers() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with weightless():
        backbone = Backbone("regnet_y_400mf", 64)
    assert all(p.is_meta for p in backbone.parameters())
    width("swin_t", 72)
    assert torch.equal(torch.get_rng_state(), before)


def test_parameters_leave_out_statistics() -> None:
    assert parameters(nn.BatchNorm1d(7)) == 14
    assert parameters(nn.Linear(3, 5)) == 20


def test_timm_network() -> None:
    timm = pytest.importorskip("timm")
    backbone = Backbone("timm:resnet18", 64).eval()
    expected = timm.create_model("resnet18", num_classes=0).eval()
    expected.load_state_dict(backbone.net.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), expected(x))
    assert backbone.features == 512
    assert width("timm:vit_tiny_patch16_224", 64) == 192
    with pytest.raises(UserError, match=r'^backbone: unknown "timm:resnet19"; did you mean "timm:resnet1'):
        width("timm:resnet19")
    with pytest.raises(UserError, match=r"^zero_init_residual: "):
        width("timm:resnet18", 64, zero_init_residual=True)


def test_timm_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r'^backbone: "timm:resnet26" needs timm; install octavo\[timm\]$'):
        width("timm:resnet26")
