"""Segmenters: FCNs on a pyramid, and torchvision's own segmentation networks, from images to a score per pixel."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from octavo.errors import UserError, lookup
from octavo.networks.backbone import Backbone, weightless
from octavo.networks.fcn import FCN, Margins, Size, check_fcn
from octavo.networks.pyramid import Pyramid
from octavo.recipe import Segmenter

CLASSIFIER = ("classifier.0.", "classifier.3.")
"""The layers of torchvision's VGGs that fc6 and fc7 of the paper are."""


class SegmenterNet(nn.Module):
    """A backbone and a head: images [B,3,H,W] of any size to logits [B,C,H,W]."""

    def __init__(self, backbone: Pyramid | OwnBackbone, head: FCN | OwnHead) -> None:
        """Join a backbone that gives maps and the head that takes them."""
        super().__init__()
        self.backbone = backbone
        self.head = head

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the backbone's maps, the finest first, of images `x` [B,3,H,W], float, with the head's margins."""
        margins = self.head.margins(x.shape[-2], x.shape[-1])
        return self.backbone(F.pad(x, margins) if any(margins) else x)

    def decode(self, maps: Sequence[Tensor], size: Size) -> Tensor:
        """Return logits [B,C,H,W] from the maps of images of `size` (H, W)."""
        return self.head(maps, size)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B,C,H,W] for images `x` [B,3,H,W], float, normalised as the weights expect."""
        return self.decode(self.features(x), (x.shape[-2], x.shape[-1]))


class OwnHead(nn.Module):
    """The head of one of torchvision's segmentation networks; bilinear enlargement to the image's size follows."""

    def __init__(self, classifier: nn.Module, keys: tuple[str, ...]) -> None:
        """`keys` are the names under which `classifier` takes the maps; `out` alone is the map itself."""
        super().__init__()
        self.classifier = classifier
        self.keys = keys

    def margins(self, height: int, width: int) -> Margins:
        """Return nothing: torchvision's networks take images as they are."""
        return 0, 0, 0, 0

    def forward(self, maps: Sequence[Tensor], size: Size) -> Tensor:
        """Return logits [B,C,H,W] from the backbone's maps."""
        x = self.classifier(maps[0] if self.keys == ("out",) else dict(zip(self.keys, maps, strict=True)))
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class OwnBackbone(nn.Module):
    """The backbone of one of torchvision's segmentation networks; its parameters keep their names below `net`."""

    def __init__(self, name: str, net: nn.Module) -> None:
        """`name` is the classification network that it was made of, `net` torchvision's IntermediateLayerGetter."""
        super().__init__()
        self.name = name
        with weightless():
            published = Backbone(name).net.state_dict().keys()
        self.nested = not net.state_dict().keys() <= published
        # MobileNets are cut from inside `features`: published names have that before them.
        self.net = nn.Sequential(OrderedDict(features=net)) if self.nested else net

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps that the head takes."""
        return tuple(self.net(x).values())


def own_networks() -> list[str]:
    """Return the names of torchvision's segmentation networks, sorted."""
    return sorted(torchvision.models.list_models(module=torchvision.models.segmentation))


def make_segmenter(spec: Segmenter, classes: int) -> SegmenterNet:
    """Return the network that `spec` describes, randomly initialised from torch's default generator.

    Raises:
        UserError: what can't be built, beginning with its key, as in `backbone: unknown "vgg61"; …`.
    """
    lookup(dict.fromkeys(["fcn", *own_networks()]), spec.network, "network")
    if spec.network != "fcn":
        _check_own(spec)
        return _own(spec, classes)
    check_fcn(spec)
    backbone = Pyramid(spec.backbone, spec.stride, ceil=spec.border == "pad100")
    return SegmenterNet(backbone, FCN(spec, backbone.widths, classes))


def classifier_part(spec: Segmenter, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what of a VGG's ImageNet classifier can become the decoder's hidden layers, by the decoder's names.

    The first Linear, on 7×7 cells, is a 7×7 convolution and the second a 1×1 one (the paper, section 4.1); empty
    where widths or kernels differ or the file has no classifier.
    """
    found: dict[str, Tensor] = {}
    if not spec.uses_classifier:
        return found
    position = 0
    for conv, prefix in zip(spec.hidden, CLASSIFIER, strict=True):
        weight, bias = tensors.get(f"{prefix}weight"), tensors.get(f"{prefix}bias")
        if weight is None or bias is None or weight.ndim != 2 or weight.shape[0] != conv.width:
            return {}
        if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            return {}  # torchvision's IMAGENET1K_FEATURES has NaN in the classifier's place
        found[f"top.{position}.weight"] = weight.unflatten(1, (-1, conv.kernel, conv.kernel))
        found[f"top.{position}.bias"] = bias
        position += 3 if conv.dropout else 2
    return found


def _check_own(spec: Segmenter) -> None:
    plain = Segmenter()
    for key in ("backbone", "stride", "hidden", "score", "upsample", "border", "skip_scales"):
        if getattr(spec, key) != getattr(plain, key):
            raise UserError(f'{key}: network = "{spec.network}" brings its own; remove it')


def _own(spec: Segmenter, classes: int) -> SegmenterNet:
    net: Any = torchvision.models.get_model(
        spec.network, weights=None, weights_backbone=None, num_classes=classes, aux_loss=False
    )
    head = OwnHead(net.classifier, tuple(net.backbone.return_layers.values()))
    if spec.zero_scores:
        with torch.no_grad():
            for layer in net.classifier.modules():
                if isinstance(layer, nn.Conv2d) and layer.bias is not None and layer.out_channels == classes:
                    layer.weight.zero_()
                    layer.bias.zero_()
    return SegmenterNet(OwnBackbone(spec.extractor, net.backbone), head)
