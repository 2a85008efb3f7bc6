"""One network of an ensemble: a feature extractor and a head of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from octavo.errors import UserError, lookup
from octavo.networks.backbone import Backbone


class MemberNet(nn.Module):
    """A backbone and a head: images [B,3,S,S] to logits [B,C]."""

    def __init__(self, backbone: Backbone, head: nn.Sequential) -> None:
        """Join an extractor and the head that takes its features."""
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B,C] for images `x` [B,3,S,S], float, normalised as the weights expect."""
        return self.head(self.backbone(x))

    def features_at(self, x: Tensor, layer: str) -> Tensor:
        """Return the output of any layer, flattened to [B,·], for images `x` [B,3,S,S].

        `layer` is a name of `named_modules()`: `backbone` gives the features [B,F], `head` the logits [B,C], and
        `head.0` of the reference's vgg16 its 256 numbers before the ReLU. A layer that runs several times in one pass
        gives its last output. Train or eval mode and gradients are the caller's.

        Raises:
            UserError: no such layer, or one whose output isn't one tensor with a row per image.
        """
        layers = {name: module for name, module in self.named_modules() if name}
        outputs: list[Any] = []

        def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            # A copy: the next layer may work in place (torchvision's ReLUs do).
            outputs[:] = [output.clone() if isinstance(output, Tensor) else output]

        hook = lookup(layers, layer, "layer").register_forward_hook(keep)
        try:
            self(x)
        finally:
            hook.remove()
        if not outputs or not isinstance(outputs[0], Tensor) or outputs[0].shape[:1] != x.shape[:1]:
            raise UserError(f'layer: "{layer}" doesn\'t give one tensor with a row per image; choose a layer around it')
        return outputs[0].flatten(1)


class Bag(nn.Module):
    """One member trained several times, each time with another fold held out: the mean of the networks' logits.

    Breiman, "Bagging predictors", Machine Learning 24 (1996), with folds in the place of resamples.
    """

    def __init__(self, nets: Sequence[MemberNet]) -> None:
        """Join networks of one architecture; those that share their `backbone` object run it once."""
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.first = nets[0]
        self._shared = all(net.backbone is nets[0].backbone for net in nets)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean logits float32 [B,C] for images `x` [B,3,S,S], float, normalised as the weights expect."""
        if self._shared:
            features = self.first.backbone(x)
            logits = [net.get_submodule("head")(features) for net in self.nets]
        else:
            logits = [net(x) for net in self.nets]
        return torch.stack([each.float() for each in logits]).mean(0)
