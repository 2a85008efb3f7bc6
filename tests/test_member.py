"""A member: features and head joined, and every layer's output to be had by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from octavo.errors import UserError
from octavo.networks.backbone import Backbone
from octavo.networks.head import make_head
from octavo.networks.member import MemberNet
from octavo.recipe import Head, Hidden


@pytest.fixture(scope="module")
def net() -> MemberNet:
    torch.manual_seed(0)
    return MemberNet(Backbone("squeezenet1_1", 64), make_head(Head(hidden=(Hidden(width=16),)), 512, 5)).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64)


def test_logits_are_the_head_of_the_features(net: MemberNet, images: torch.Tensor) -> None:
    logits = net(images)
    assert logits.shape == (3, 5)
    assert torch.equal(logits, net.head(net.backbone(images)))
    assert torch.equal(net.features_at(images, "head"), logits)
    assert torch.equal(net.features_at(images, "backbone"), net.backbone(images))


def test_layer_before_the_activation(net: MemberNet, images: torch.Tensor) -> None:
    features = net.features_at(images, "head.0")
    linear = net.head[0]
    assert isinstance(linear, nn.Linear)
    assert torch.equal(features, linear(net.backbone(images)))
    assert features.shape == (3, 16)
    assert (features < 0).any()


def test_output_is_taken_before_a_layer_that_works_in_place(net: MemberNet, images: torch.Tensor) -> None:
    features = net.features_at(images, "backbone.net.features.0")
    assert torch.equal(features, net.backbone.net.features[0](images).flatten(1))
    assert (features < 0).any()


def test_no_hook_is_left(net: MemberNet, images: torch.Tensor) -> None:
    net.features_at(images, "head.0")
    assert not any(module._forward_hooks for module in net.modules())


def test_unknown_layer_names_the_nearest(net: MemberNet, images: torch.Tensor) -> None:
    with pytest.raises(UserError, match=r'^layer: unknown "hed.0"; did you mean "head.0"\?$'):
        net.features_at(images, "hed.0")


def test_layer_without_a_row_per_image_is_refused(images: torch.Tensor) -> None:
    net = MemberNet(Backbone("vit_b_32", 64), make_head(Head(), 768, 2)).eval()
    attention = "backbone.net.encoder.layers.encoder_layer_0.self_attention"
    with pytest.raises(UserError, match="doesn't give one tensor"):
        net.features_at(images, attention)
    with pytest.raises(UserError, match="doesn't give one tensor"):
        net.features_at(images, attention + ".out_proj")
