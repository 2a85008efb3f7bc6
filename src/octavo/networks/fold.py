"""Pooling that repeats: the first layer of a head, with one column for all the places that show the same.

VGG and AlexNet pool to a fixed grid (7×7, 6×6). Where an image is so small that fewer places come in, those that go out
are copies and means of them: below 64 px VGG's 49 are one value, and the 25,088 columns of the first Linear behind
it are a layer of 512 in disguise. What is kept of such an image are the places that came in (`Pooling.spread` makes
the others of them), and the first Linear is trained as `FoldedLinear`: one column W' = Σ W for the m columns whose
places show the same. They get the same gradient g, so that of their sum is trained exactly as they would be, by

    learning rate m η, weight decay λ / m, and a gradient of √m times the norm where norms are bounded.

SGD: ΔW' = Σ -η (g + λ W) = -m η (g + (λ / m) W'). AdamW: its step of g is the same for all, and its decay is apart.
Adam's step has the decay within and differs from column to column, so that its heads fold only without decay. What the
m columns differ by only decays; `FoldedLinear` counts how much is left of it, and `unfolded` gives each its own back.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG, AlexNet

from octavo.networks.backbone import TIMM, Backbone, weightless
from octavo.recipe import Train

POOLED = (VGG, AlexNet)
"""Networks whose features are a grid of fixed size."""


@dataclass(frozen=True)
class Pooling:
    """What an adaptive pooling makes of fewer places than it gives.

    Attributes:
        channels: C.
        weights: float32 [K,G], the share of each of the G places that come in, in each of the K that go out.
    """

    channels: int
    weights: Tensor

    @property
    def width(self) -> int:
        """Numbers an image that come in: C × G."""
        return self.channels * self.weights.shape[1]

    def spread(self, x: Tensor) -> Tensor:
        """Return the features [B,C×K] of places [B,C×G]."""
        weights = self.weights.to(x.device, x.dtype, non_blocking=x.is_cuda)
        return (x.unflatten(1, (self.channels, -1)) @ weights.mT).flatten(1)

    @property
    def repeats(self) -> bool:
        """Whether several of the places that go out show the same."""
        return any(rows.shape[1] > 1 for rows in self.alike)

    @functools.cached_property
    def alike(self) -> list[Tensor]:
        """Places that go out, int64 [D,m] each: those that show the same in a row, rows of one length together."""
        same = torch.unique(self.weights, dim=0, return_inverse=True)[1]
        rows = [torch.nonzero(same == number)[:, 0] for number in range(int(same.max()) + 1)]
        lengths = sorted({len(row) for row in rows})
        return [torch.stack([row for row in rows if len(row) == length]) for length in lengths]


class Places(nn.Module):
    """A backbone up to its pooling: images [B,3,S,S] to places [B,C×G]."""

    def __init__(self, backbone: Backbone) -> None:
        """Share the layers of `backbone`, one for which `pooling_of` isn't None."""
        super().__init__()
        self.body = backbone.net.get_submodule("features")

    def forward(self, x: Tensor) -> Tensor:
        """Return what comes into the pooling, flattened."""
        return self.body(x).flatten(1)


@functools.lru_cache(maxsize=64)
def pooling_of(name: str, size: int, pool: str = "native") -> Pooling | None:
    """Return how the pooling of the backbone `name` repeats for images of `size` pixels; None where it doesn't."""
    if pool != "native" or name.startswith(TIMM):
        return None
    with weightless():
        net = Backbone(name, size).net.to("meta").eval()
    if not isinstance(net, POOLED):
        return None
    with torch.no_grad():
        channels, *sides = net.features(torch.empty(1, 3, size, size, device="meta")).shape[1:]
        shares = net.avgpool(torch.eye(places := sides[0] * sides[1]).view(places, 1, *sides)).flatten(1)
    if places >= shares.shape[1]:
        return None
    return Pooling(channels, shares.T.contiguous())


class FoldedLinear(nn.Module):
    """A Linear behind a pooling that repeats, with a column for each group of like places: [B,C×G] to [B,O].

    `kept` [2] is what is left of the differences between like columns, as a share of what they were, and the momentum
    of SGD on it.
    """

    kept: Tensor

    def __init__(self, linear: nn.Linear, pooling: Pooling) -> None:
        """Fold `linear`, C×K → O; its weights are copied."""
        super().__init__()
        self.pooling = pooling
        self.columns = nn.ParameterList(_sums(linear, pooling))
        self.bias = nn.Parameter(linear.bias.detach().clone())
        self.register_buffer("kept", torch.tensor([1.0, 0.0]))
        for number, alike in enumerate(pooling.alike):
            self.register_buffer(f"shown{number}", pooling.weights[alike[:, 0]].mT, persistent=False)
        self.to(linear.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the Linear says of places [B,C×G]."""
        x = x.unflatten(1, (self.pooling.channels, -1))
        out = self.bias
        for number, columns in enumerate(self.columns):
            shown = x if x.shape[2] == 1 else x @ self.get_buffer(f"shown{number}").to(x.dtype)
            out = out + F.linear(shown.flatten(1), columns)
        return out

    @property
    def copies(self) -> list[tuple[nn.Parameter, int]]:
        """Each parameter of columns, with the number of columns that one of them stands for."""
        return [(c, alike.shape[1]) for c, alike in zip(self.columns, self.pooling.alike, strict=True)]

    @torch.no_grad()
    def decayed(self, lr: float, decay: float, *, momentum: float = 0.0, nesterov: bool = False) -> None:
        """Count one step of an optimiser that shrinks weights: by `lr` × `decay`, in SGD with its momentum."""
        share, moved = self.kept.tolist()
        pull = decay * share
        moved = momentum * moved + pull
        share -= lr * (pull + momentum * moved if nesterov else moved)
        self.kept.copy_(torch.tensor([share, moved]))

    @torch.no_grad()
    def unfolded(self, start: nn.Linear) -> nn.Linear:
        """Return the Linear that training from `start`, which was folded here, would have led to."""
        out = copy.deepcopy(start).to(self.bias.device)
        share = float(self.kept[0])
        weight = out.weight.unflatten(1, (self.pooling.channels, -1))
        before = _sums(out, self.pooling)
        for (columns, copies), sums, alike in zip(self.copies, before, self.pooling.alike, strict=True):
            change = (columns - share * sums).unflatten(1, (self.pooling.channels, -1)) / copies
            weight[:, :, alike] = share * weight[:, :, alike] + change[..., None]
        out.bias.copy_(self.bias)
        return out


def _sums(linear: nn.Linear, pooling: Pooling) -> list[Tensor]:
    weight = linear.weight.detach().unflatten(1, (pooling.channels, -1))
    return [weight[:, :, alike].sum(-1).flatten(1) for alike in pooling.alike]


@dataclass(frozen=True)
class Halves:
    """A network as it is trained on the kept features of its frozen extractor.

    Attributes:
        body: images [B,3,S,S] to what is kept [B,F].
        width: F.
        places: whether that is what comes into a pooling.
        pooling: makes the head's input of what is kept; None: it is the head's input.
        head: to logits [B,C].
    """

    body: nn.Module
    width: int
    places: bool
    pooling: Pooling | None
    head: nn.Sequential

    def behind(self, kept: Tensor) -> Tensor:
        """Return the logits [B,C] for what is kept of images [B,F]."""
        return self.head(self.pooling.spread(kept) if self.pooling else kept)


def halves(backbone: Backbone, head: nn.Sequential, pool: str, train: Train) -> Halves:
    """Return the halves of a network, its pooling left out and its head folded where that changes nothing."""
    pooling = pooling_of(backbone.name, backbone.size, pool)
    if pooling is None:
        return Halves(backbone, backbone.features, False, None, head)
    exact = _folds(head, pooling) and not (train.optimizer == "adam" and train.weight_decay)
    return Halves(
        Places(backbone), pooling.width, True, None if exact else pooling, folded(head, pooling) if exact else head
    )


def answering(backbone: Backbone, head: nn.Sequential, pool: str) -> tuple[nn.Module, nn.Sequential]:
    """Return a trained network in two halves that say what it says, without work that repeats."""
    pooling = pooling_of(backbone.name, backbone.size, pool)
    if pooling is None or not _folds(head, pooling):
        return backbone, head
    first = head[0]
    assert isinstance(first, nn.Linear)
    return Places(backbone), nn.Sequential(FoldedLinear(first, pooling), *list(head)[1:]).eval()


def _folds(head: nn.Sequential, pooling: Pooling) -> bool:
    return isinstance(head[0], nn.Linear) and pooling.repeats


def folded(head: nn.Sequential, pooling: Pooling) -> nn.Sequential:
    """Return a copy of a head that begins with a Linear, which is folded in it: places [B,C×G] to logits [B,C]."""
    first = head[0]
    assert isinstance(first, nn.Linear)
    return nn.Sequential(FoldedLinear(first, pooling), *copy.deepcopy(list(head)[1:]))


def is_folded(head: nn.Module) -> bool:
    """Tell whether `folded` made a head."""
    return isinstance(head, nn.Sequential) and isinstance(head[0], FoldedLinear)


def unfolded(head: nn.Module, start: nn.Module) -> nn.Sequential:
    """Return a trained head that `folded` made of `start` in the form of `start`."""
    assert isinstance(head, nn.Sequential) and isinstance(start, nn.Sequential)
    first, before = head[0], start[0]
    assert isinstance(first, FoldedLinear) and isinstance(before, nn.Linear)
    return nn.Sequential(first.unfolded(before), *list(head)[1:])
