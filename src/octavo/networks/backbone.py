"""Feature extractors: a torchvision or timm network by name, without its classifier."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from octavo.errors import UserError, lookup, suggest

TIMM = "timm:"
"""Prefix of the names that are looked up in timm instead of torchvision."""

KEPT: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {
    torchvision.models.SqueezeNet: lambda classifier: nn.AdaptiveAvgPool2d(1),
    torchvision.models.ConvNeXt: lambda classifier: classifier[:2],
    torchvision.models.MaxVit: lambda classifier: classifier[:3],
}
"""What stays of a network's classifier where that isn't nothing: a pooling, or pooling and layer norm."""

_CLASSIFIERS = ("classifier", "fc", "heads", "head")
_GRID = (torchvision.models.VGG, torchvision.models.AlexNet)
_OWN_ARGUMENTS: Mapping[str, dict[str, Any]] = {
    # Both rescale ImageNet-normalised input to the -1…1 they were trained with, as their pretrained entries do. It is
    # always on, so that every network here takes the same input, whichever weights it starts from.
    "googlenet": {"aux_logits": False, "init_weights": True, "transform_input": True},
    "inception_v3": {"aux_logits": False, "init_weights": True, "transform_input": True},
}
_SEARCH = 1024


class Weightless(TorchFunctionMode):
    """A context in which new parameters take no memory (meta device), while arithmetic on small tensors still works.

    `torch.device("meta")` as a context isn't enough: RegNet computes its widths with tensors while it is built.
    Move the module that was built to "meta" afterwards, for the buffers.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Allocate on the meta device unless the caller names a device."""
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones) and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def names() -> list[str]:
    """Return the names of all torchvision classification networks, sorted."""
    return sorted(torchvision.models.list_models(module=torchvision.models))


def require(name: str) -> None:
    """Refuse a network that can't be had here.

    Raises:
        UserError: unknown name, with the nearest one, or timm missing.
    """
    if not name.startswith(TIMM):
        lookup(dict.fromkeys(names()), name, "backbone")
        return
    try:
        import timm
    except ImportError:
        raise UserError(f'backbone: "{name}" needs timm; install octavo[timm]') from None
    if not timm.is_model(name.removeprefix(TIMM)):
        raise UserError(f'backbone: unknown "{name}"{suggest(name, (TIMM + n for n in timm.list_models()))}')


class Backbone(nn.Module):
    """A network without its classifier: images [B,3,S,S] to features [B,F].

    The parameters keep their torchvision (or timm) names below `net`, so published weights fit; the parameters of the
    classifier don't exist. What is left is, by family: VGG and AlexNet, the convolutional part and the grid of `pool`;
    SqueezeNet, the convolutional part and global average pooling; MobileNetV3, everything before its two-layer
    classifier; ConvNeXt and MaxViT, up to the layer norm after pooling; all others, everything before the last Linear.
    """

    def __init__(self, name: str, size: int = 224, pool: str = "native", zero_init_residual: bool = False) -> None:
        """Build the network `name` for images of `size` pixels, randomly initialised.

        Args:
            name: a torchvision classification network, or `timm:NAME`.
            size: side of the square input in pixels.
            pool: `native`, the network's own pooling (VGG: a 7×7 grid, AlexNet: 6×6, flattened), or `avg`, global
                average pooling.
            zero_init_residual: start the last batch norm of each residual block at zero (ResNets).

        Raises:
            UserError: unknown name, a size or an option that the network can't take, or timm missing. The message
                begins with the member's key, as in `backbone: unknown "resnet15"; …`.
        """
        super().__init__()
        self.name = name
        self.size = size
        self.features = width(name, size, pool, zero_init_residual)
        self.net = _network(name, size, pool, zero_init_residual)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features [B,F] of images `x` [B,3,S,S], float, normalised as the weights expect."""
        return self.net(x).flatten(1)


@functools.lru_cache(maxsize=256)
def width(name: str, size: int = 224, pool: str = "native", zero_init_residual: bool = False) -> int:
    """Return F, the number of features of a network, found by running it on the meta device.

    Raises:
        UserError: as `Backbone`.
    """
    try:
        return _run(name, size, pool, zero_init_residual)
    except (RuntimeError, ValueError, AssertionError) as error:
        found = _next_size(name, size, pool)
        raise UserError(f'backbone: "{name}" can\'t take {size} px images; {found}') from error


@contextmanager
def weightless() -> Iterator[None]:
    """A context in which networks are built without memory and without drawing random numbers: see `Weightless`."""
    with torch.random.fork_rng(devices=[]), Weightless():
        yield


def whole(name: str, size: int = 224) -> nn.Module:
    """Return the network with its ImageNet classifier and auxiliary heads, without memory (meta device)."""
    with weightless():
        if name.startswith(TIMM):
            return _timm(name, size, "native", classes=1000).to("meta")
        own = dict(_OWN_ARGUMENTS.get(name, {})) | ({"aux_logits": True} if name in _OWN_ARGUMENTS else {})
        return torchvision.models.get_model(name, weights=None, **own, **_size_arguments(name, size)).to("meta")


def _run(name: str, size: int, pool: str, zero_init_residual: bool) -> int:
    with weightless():
        net = _network(name, size, pool, zero_init_residual)
    net = net.to("meta").eval()
    with torch.no_grad():
        shape = net(torch.empty(2, 3, size, size, device="meta")).flatten(1).shape
    if shape[0] != 2 or shape[1] == 0:
        raise ValueError(f"output of shape {tuple(shape)}")
    return shape[1]


def _next_size(name: str, size: int, pool: str) -> str:
    for larger in range(size + 1, size + _SEARCH):
        try:
            _run(name, larger, pool, False)
        except (RuntimeError, ValueError, AssertionError):
            continue
        return f"the next size that it takes is {larger} px"
    return "use another size or network"


def _network(name: str, size: int, pool: str, zero_init_residual: bool) -> nn.Module:
    require(name)
    if name.startswith(TIMM):
        if zero_init_residual:
            raise UserError(f'zero_init_residual: "{name}" doesn\'t offer it; remove it')
        return _timm(name, size, pool, classes=0)
    options = dict(_OWN_ARGUMENTS.get(name, {})) | _size_arguments(name, size)
    if zero_init_residual:
        if not _offers_zero_init(name):
            raise UserError(f'zero_init_residual: "{name}" doesn\'t offer it (ResNets do); remove it')
        options["zero_init_residual"] = True
    net = torchvision.models.get_model(name, weights=None, **options)
    _remove_classifier(net)
    if pool == "avg":
        _average(net, name)
    return net


def _size_arguments(name: str, size: int) -> dict[str, Any]:
    if name.startswith("vit_"):
        return {"image_size": size}
    return {"input_size": (size, size)} if name.startswith("maxvit") else {}


def _offers_zero_init(name: str) -> bool:
    with weightless():
        net = torchvision.models.get_model(name, weights=None, **_OWN_ARGUMENTS.get(name, {}))
    return "zero_init_residual" in inspect.signature(type(net)).parameters


def _remove_classifier(net: nn.Module) -> None:
    child = next(c for c in _CLASSIFIERS if hasattr(net, c))
    kept = KEPT.get(type(net))
    setattr(net, child, kept(getattr(net, child)) if kept else nn.Identity())
    if isinstance(getattr(net, "dropout", None), nn.Dropout):
        net.dropout = nn.Identity()  # GoogLeNet's and Inception's belongs to the classifier: features don't drop out


def _average(net: nn.Module, name: str) -> None:
    if isinstance(net, torchvision.models.VisionTransformer):
        raise UserError(f'pool: "{name}" gives its class token, there is no grid to average; use "native"')
    if isinstance(net, _GRID):
        net.avgpool = nn.AdaptiveAvgPool2d(1)


def _timm(name: str, size: int, pool: str, classes: int) -> nn.Module:
    import timm

    short = name.removeprefix(TIMM)
    options: dict[str, Any] = {"global_pool": "avg"} if pool == "avg" else {}
    config = timm.get_pretrained_cfg(short)
    if config is not None and config.fixed_input_size:
        options["img_size"] = size
    try:
        return timm.create_model(short, pretrained=False, num_classes=classes, **options)
    except TypeError as error:
        raise UserError(f'pool: "{name}" can\'t be built with pool = "{pool}" ({error})') from error


def parameters(module: nn.Module) -> int:
    """Return the number of parameters of a module; buffers (batch-norm statistics) don't count."""
    return sum(math.prod(p.shape) for p in module.parameters())
