"""Heads: the layers from a network's features to logits."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from octavo.errors import lookup
from octavo.recipe import Head

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "none": nn.Identity,
}
"""The recipe's names for what follows a hidden Linear layer."""


def make_head(spec: Head, features: int, classes: int) -> nn.Sequential:
    """Return the flat stack of layers that `spec` describes: features [B,F] to logits [B,C].

    In order: batch norm without scale and shift (`norm = "batch"`), dropout on the features, for each hidden layer
    Linear, activation and dropout, and the last Linear. Dropout layers of rate 0 are left out, so without norm and
    dropout layer `0` is the first Linear, as in the reference.

    Raises:
        UserError: unknown activation.
    """
    layers: list[nn.Module] = []
    if spec.norm == "batch":
        layers.append(nn.BatchNorm1d(features, affine=False))
    if spec.dropout:
        layers.append(nn.Dropout(spec.dropout))
    width = features
    for hidden in spec.hidden:
        # Not in place: the output of the Linear before it can be asked for (the reference's t-SNE does).
        layers += [nn.Linear(width, hidden.width), lookup(ACTIVATIONS, hidden.activation, "head.hidden.activation")()]
        if hidden.dropout:
            layers.append(nn.Dropout(hidden.dropout))
        width = hidden.width
    return nn.Sequential(*layers, nn.Linear(width, classes))
