"""Pyramids: a torchvision network cut into maps of stride 8, 16 and 32."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn

from octavo.errors import UserError
from octavo.networks.backbone import TIMM, Backbone, require, weightless

STRIDES = (8, 16, 32)
"""Pixels of the input per cell of the three maps, along each side."""

_PROBE = (256, 320)  # multiples of 32, unequal: a map that is channels last can't pass for one that isn't


@dataclass(frozen=True)
class Cut:
    """Where a network is cut: the layers whose outputs are the maps of stride 8, 16, 32, and their channels."""

    taps: tuple[str, str, str]
    widths: tuple[int, int, int]


class Pyramid(nn.Module):
    """A network without pooling and classifier: images [B,3,H,W] to one map [B,F,H/s,W/s] a stride, the finest first.

    The parameters keep their torchvision names below `net`, so published weights fit. VGGs are cut behind their third,
    fourth and fifth pooling, as in Shelhamer, Long and Darrell (TPAMI 2017, section 4); other networks behind the last
    layer of each stride. H and W are multiples of 32, or the maps are rounded as the network's own layers do.

    The cells of a VGG's maps lie centred on the pixels that they stand for. A network that halves its maps by strided
    3×3 convolutions (ResNets) sees half a cell up and left of them; what follows has to learn that.
    """

    def __init__(self, name: str, finest: int = 8, ceil: bool = False) -> None:
        """Build the network `name`, randomly initialised.

        Args:
            name: a torchvision classification network with maps of stride 8, 16 and 32.
            finest: smallest stride that is given out: 8, 16 or 32.
            ceil: let VGG's poolings round up, as Caffe's do, where a side isn't a multiple of 32.

        Raises:
            UserError: unknown name, or a network without these maps.
        """
        super().__init__()
        cut = find_cut(name)
        first = STRIDES.index(finest)
        self.name = name
        self.widths = cut.widths[first:]
        """Channels of the maps that are given out."""
        self.net = Backbone(name).net
        _prune(self.net, cut)
        self.steps = tuple(_steps(self.net, "", cut.taps[first:]))
        """The layers in the order in which they run, and whether the output of each is given out."""
        if ceil:
            for layer in self.net.modules():
                if isinstance(layer, nn.MaxPool2d):
                    layer.ceil_mode = True

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps [B,F,H/s,W/s], finest first, of images `x` [B,3,H,W], normalised as the weights expect."""
        maps = []
        if isinstance(self.net, torchvision.models.GoogLeNet):
            x = self.net._transform_input(x)  # what its own forward begins with
        for name, tapped in self.steps:
            x = self.net.get_submodule(name)(x)
            if tapped:
                maps.append(x)
        return tuple(maps)


@functools.lru_cache(maxsize=128)
def find_cut(name: str) -> Cut:
    """Return where a network is cut, found by running it layer by layer on the meta device.

    Raises:
        UserError: unknown name, or no such maps (vision transformers, and networks whose sizes aren't whole fractions).
    """
    if name.startswith(TIMM):
        raise UserError(f"backbone: \"{name}\": a pyramid is cut from torchvision's networks, not from timm's")
    require(name)
    with weightless():
        net = Backbone(name).net
    vgg = isinstance(net, torchvision.models.VGG)
    found: dict[int, tuple[str, int]] = {}
    for step, layer, (channels, height, width) in _shapes(net.to("meta").eval()):
        stride = _PROBE[0] // height if height else 0
        whole = (height * stride, width * stride) == _PROBE and not isinstance(layer, nn.Identity | nn.Dropout)
        if whole and (isinstance(layer, nn.MaxPool2d) or not vgg):
            found[stride] = step, channels
    if any(stride not in found for stride in STRIDES):
        raise UserError(
            f'backbone: "{name}" has no maps of stride 8, 16 and 32 to predict from; VGGs, ResNets, ResNeXts, '
            "DenseNets, MobileNets, EfficientNets, RegNets and ConvNeXts have"
        )
    (tap8, w8), (tap16, w16), (tap32, w32) = (found[stride] for stride in STRIDES)
    return Cut((tap8, tap16, tap32), (w8, w16, w32))


def _shapes(net: nn.Module) -> Iterator[tuple[str, nn.Module, tuple[int, int, int]]]:
    """Yield each layer by name with the shape of its output, as far as the layers take one another's outputs."""
    x: Tensor = torch.empty(2, 3, *_PROBE, device="meta")
    for name in _chain(net, ""):
        layer = net.get_submodule(name)
        try:
            with torch.no_grad():
                x = layer(x)
        except (RuntimeError, ValueError, AssertionError, TypeError):
            return  # a transformer's encoder takes tokens: behind here is no map
        if not isinstance(x, Tensor) or x.ndim != 4:
            return
        yield name, layer, (x.shape[1], x.shape[2], x.shape[3])


def _opens(module: nn.Module) -> bool:
    """Return whether a module is nothing but its children in order."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _chain(module: nn.Module, prefix: str) -> Iterator[str]:
    for own, child in module.named_children():
        if _opens(child):
            yield from _chain(child, f"{prefix}{own}.")
        else:
            yield prefix + own


def _prune(net: nn.Module, cut: Cut) -> None:
    """Delete the layers behind the last tap, and what is left empty by that."""
    chain = list(_chain(net, ""))
    for name in chain[chain.index(cut.taps[-1]) + 1 :]:
        while name:
            parent, _, own = name.rpartition(".")
            delattr(net.get_submodule(parent), own)
            name = "" if len(list(net.get_submodule(parent).children())) else parent


def _steps(module: nn.Module, prefix: str, taps: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """Yield the largest layers that have no tap inside, in order, and whether each ends in one."""
    for own, child in module.named_children():
        name = prefix + own
        inside = [tap for tap in taps if f"{tap}.".startswith(f"{name}.")]
        if not _opens(child) or not inside or inside == list(_chain(child, f"{name}."))[-1:]:
            yield name, bool(inside)
        else:
            yield from _steps(child, f"{name}.", taps)
