"""From a recipe's member to a network; what can't be built fails here, before anything runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from octavo.errors import UserError
from octavo.networks.backbone import Backbone, weightless, width
from octavo.networks.head import make_head
from octavo.networks.loading import LoadReport
from octavo.networks.member import MemberNet
from octavo.networks.weights import check_name, load_pretrained
from octavo.recipe import Member, Recipe


def init_key(seed: int, name: str) -> int:
    """Return the 63-bit key of a member's initialisation: the same on every machine and in every Python."""
    return int.from_bytes(hashlib.sha256(f"init/{seed}/{name}".encode()).digest()[:8], "big") >> 1


def build_member(member: Member, recipe: Recipe, classes: int, device: str | torch.device = "cpu") -> MemberNet:
    """Return a member's network with random weights that depend on `recipe.seed` and `member.name` alone.

    The weights are drawn on the CPU, so they are the same for every device; no global random state is used or changed.
    On "meta" the network has shapes but takes no memory.

    Raises:
        UserError: the recipe's backbone or its options can't be built.
    """
    if str(device) == "meta":
        with weightless():
            return _joined(member, recipe, classes).to("meta")
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would also reseed the GPUs' generators.
        torch.default_generator.manual_seed(init_key(recipe.seed, member.name))
        net = _joined(member, recipe, classes)
    return net.to(device)


def start_member(
    member: Member,
    recipe: Recipe,
    classes: int,
    weights_dir: Path | None = None,
    download: bool = True,
    progress: bool = False,
) -> tuple[MemberNet, LoadReport | None]:
    """Return a member's network as its training starts, on the CPU: `member.weights` loaded, the head random.

    The report says which file the weights came from; it is None for `weights = "none"`.

    Raises:
        UserError: as `build_member`, or the weights can't be had or don't fit.
    """
    net = build_member(member, recipe, classes)
    try:
        return net, load_pretrained(net.backbone, member.weights, weights_dir, download, progress)
    except UserError as error:
        raise UserError(f"{member.name}: {error}") from error


def check_recipe(recipe: Recipe, classes: int = 2) -> dict[str, int]:
    """Return the feature width of each member, by name, after building all of them on the meta device.

    Raises:
        UserError: the first member that can't be built, with its path in the recipe.
    """
    widths = {}
    for i, member in enumerate(recipe.members):
        with _at(f"members[{i}]"):
            if member.zero_init_residual and member.weights != "none":
                raise UserError(
                    f'zero_init_residual: weights = "{member.weights}" would overwrite it; set weights = "none"'
                )
            check_name(member.backbone, member.weights)
            found = width(member.backbone, recipe.size_of(member), member.pool, member.zero_init_residual)
        with weightless():
            make_head(member.head, found, classes)
        widths[member.name] = found
    return widths


def _joined(member: Member, recipe: Recipe, classes: int) -> MemberNet:
    where = f"members[{recipe.members.index(member)}]" if member in recipe.members else "member"
    with _at(where):
        backbone = Backbone(member.backbone, recipe.size_of(member), member.pool, member.zero_init_residual)
    return MemberNet(backbone, make_head(member.head, backbone.features, classes))


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Put the member's path in the recipe before the message of a user's mistake."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}.{error}") from error
