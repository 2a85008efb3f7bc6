"""Heads: layers in the recipe's order, with the arithmetic checked in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from octavo.networks.head import ACTIVATIONS, make_head
from octavo.recipe import Head, Hidden

NUMPY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "none": lambda x: x,
}


def test_every_activation_of_the_recipe_is_there() -> None:
    assert set(ACTIVATIONS) == set(get_args(Hidden.model_fields["activation"].annotation))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_head_computes_what_it_says(name: str) -> None:
    spec = Head.model_validate({"hidden": [{"width": 5, "activation": name}]})
    head = make_head(spec, 4, 3).double()
    x = torch.randn(6, 4, dtype=torch.double)
    first, last = head[0], head[2]
    hidden = NUMPY[name](x.numpy() @ first.weight.detach().numpy().T + first.bias.detach().numpy())
    expected = hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(head(x).detach().numpy(), expected, rtol=1e-9)


def test_layers_have_the_references_indices() -> None:
    head = make_head(Head(hidden=(Hidden(width=256),)), 512, 50)
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear]
    assert head[0].out_features == 256


def test_no_hidden_layer_is_one_linear() -> None:
    head = make_head(Head(), 2048, 50)
    assert [(layer.in_features, layer.out_features) for layer in head] == [(2048, 50)]


def test_norm_and_dropout_come_first_and_in_this_order() -> None:
    spec = Head(norm="batch", dropout=0.2, hidden=(Hidden(width=8, dropout=0.5), Hidden(width=6)))
    head = make_head(spec, 16, 2)
    assert [type(layer) for layer in head] == [
        nn.BatchNorm1d, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Linear,
    ]  # fmt: skip
    assert (head[1].p, head[4].p) == (0.2, 0.5)


def test_batch_norm_standardises_and_has_no_parameters() -> None:
    norm = make_head(Head(norm="batch"), 3, 2)[0]
    assert not list(norm.parameters())
    x = torch.tensor([[1.0, 10, 100], [3, 30, 500], [5, 20, 300]])
    expected = (x.numpy() - x.numpy().mean(0)) / x.numpy().std(0)
    np.testing.assert_allclose(norm(x).numpy(), expected, rtol=1e-4, atol=1e-6)


def test_activations_leave_the_layer_before_as_it_was() -> None:
    head = make_head(Head(hidden=(Hidden(width=64),)), 8, 2)
    before = head[0](torch.randn(4, 8))
    kept = before.clone()
    head[1](before)
    assert torch.equal(before, kept)
    assert (kept < 0).any()
