"""Grad-CAM: where in an image a network finds what speaks for a class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from octavo.engine.restore import Trained, batch_of
from octavo.networks.member import MemberNet

BATCH = 8
"""Images that go through a network at once."""
_EARLY = 0.25  # a map made by fewer of the layers with weights is that of a stem, such as a transformer's patches
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@dataclass(frozen=True, eq=False)
class Heat:
    """What a member looked at in B images.

    Attributes:
        layer: where the maps were taken, a name of the member's `named_modules()`; empty where it has no spatial map.
        seen: the images as the network got them, uint8 [B,S,S,3].
        maps: float32 [B,h,w], at least 0, in units of the class's logit; None where there is no spatial map.
    """

    layer: str
    seen: np.ndarray
    maps: np.ndarray | None


def gradcam(trained: Trained, images: Sequence[np.ndarray], targets: Sequence[int]) -> Heat:
    """Return where a member finds what speaks for a class (Selvaraju et al., Grad-CAM, ICCV 2017, section 3).

    Each channel of the last spatial map is weighted with the mean gradient of the class's logit, the channels are
    summed, and what is below zero is cut off. The network is put into eval mode; float32 throughout.

    Args:
        trained: the member; frozen or not.
        images: decoded, uint8 [H,W,3] each; at least one.
        targets: class id of each image.

    Raises:
        ValueError: no images, or another number of targets.
    """
    if not images or len(images) != len(targets):
        raise ValueError(f"expected images with a target each, got {len(images)} and {len(targets)}")
    trained.one.eval()
    with _still(trained.one), torch.autocast(trained.device.type, enabled=False):
        layer = spatial_layer(trained.one, _input(trained, images[:1]))
        seen, maps = [], []
        for start in range(0, len(images), BATCH):
            x = _input(trained, images[start : start + BATCH])
            seen.append(_visible(trained, x))
            if layer:
                maps.append(_maps(trained.one, layer, x, targets[start : start + BATCH]))
    return Heat(layer, np.concatenate(seen), np.concatenate(maps) if layer else None)


def spatial_layer(net: MemberNet, x: Tensor) -> str:
    """Return the last layer with a spatial map, a name of `net.named_modules()`, or nothing if there is none.

    It is found by running the network: the last layer of the extractor that gives a square map [1,F,h,w] of more than
    one pixel and through which everything passes that reaches the features (a layer beside a shortcut sees a part
    only). Poolings don't count, for the map before one is the finer. Nor do the first layers, where at least three
    quarters of the layers with weights follow: such is a transformer's map of patches.

    Args:
        net: in eval mode, no parameter requiring a gradient.
        x: one image's input, float [1,3,S,S].
    """
    names = {module: name for name, module in net.named_modules()}
    for module in reversed(_candidates(net.backbone, x)):
        if _all_passes(net.backbone, module, x):
            return names[module]
    return ""


def _candidates(backbone: nn.Module, x: Tensor) -> list[nn.Module]:
    """Return the layers with a spatial map in the order in which they end, without poolings and the first layers."""
    found: list[tuple[nn.Module, int]] = []  # and the layers with weights that had ended by then
    ended: list[nn.Module] = []
    pooled: list[Any] = []  # kept, so that no other tensor takes their place in memory

    def watch(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(module, _POOLS):
            pooled.append(output)
        ended.append(module)
        if _spatial(output) and not any(output is tensor for tensor in pooled):
            found.append((module, sum(map(_weighted, ended))))

    hooks = [module.register_forward_hook(watch) for module in backbone.modules() if module is not backbone]
    try:
        with torch.no_grad():
            backbone(x)
    finally:
        for hook in hooks:
            hook.remove()
    total = sum(map(_weighted, ended))
    return [module for module, before in found if before >= _EARLY * total and ended.count(module) == 1]


def _spatial(output: Any) -> bool:
    return (
        isinstance(output, Tensor) and output.ndim == 4 and len(output) == 1 and 1 < output.shape[2] == output.shape[3]
    )


def _weighted(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def _all_passes(backbone: nn.Module, layer: nn.Module, x: Tensor) -> bool:
    """Return whether the features depend on the image through a layer alone: cut there, no gradient reaches them."""
    hook = layer.register_forward_hook(lambda module, given, output: output.detach())
    try:
        with torch.enable_grad():
            return not backbone(x.detach().requires_grad_().clone()).requires_grad
    finally:
        hook.remove()


def _maps(net: MemberNet, layer: str, x: Tensor, targets: Sequence[int]) -> np.ndarray:
    """Return maps float32 [B,h,w]."""
    # Imported here: only this function needs it.
    from captum.attr import LayerGradCam

    classes = torch.tensor(list(targets), device=x.device)
    found = LayerGradCam(net, net.get_submodule(layer)).attribute(x, classes, relu_attributions=True)
    assert isinstance(found, Tensor)
    return found.detach()[:, 0].float().cpu().numpy()


def _input(trained: Trained, images: Sequence[np.ndarray]) -> Tensor:
    return trained.inputs.plain(batch_of(list(images)).to(trained.device))


def _visible(trained: Trained, x: Tensor) -> np.ndarray:
    """Return what the network gets as images uint8 [B,S,S,3]."""
    mean, std = (torch.tensor(v, device=x.device).view(3, 1, 1) for v in (trained.inputs.mean, trained.inputs.std))
    return ((x * std + mean) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


@contextmanager
def _still(net: nn.Module) -> Iterator[None]:
    """A context in which no parameter requires a gradient, so that nothing is kept of the layers before the map."""
    wanted = [p.requires_grad for p in net.parameters()]
    net.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, was in zip(net.parameters(), wanted, strict=True):
            parameter.requires_grad_(was)
