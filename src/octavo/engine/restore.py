"""A trained member from its run folder, ready to be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from octavo.data.batches import Batch
from octavo.data.inputs import Inputs
from octavo.engine.folder import RunFolder
from octavo.engine.infer import ready
from octavo.errors import UserError, lookup
from octavo.networks.build import build_member
from octavo.networks.loading import load_member
from octavo.networks.member import MemberNet
from octavo.recipe import Augment, ClassifyRecipe, Member


@dataclass(frozen=True)
class Trained:
    """A trained network and how images become its input.

    Attributes:
        name: of the member.
        net: the network, in eval mode, on `device`.
        inputs: from a batch of stored pixels to the network's input.
        device: where it computes.
        bf16: whether it computes in bfloat16, as it was trained.
    """

    name: str
    net: MemberNet
    inputs: Inputs
    device: torch.device
    bf16: bool

    @torch.inference_mode()
    def logits(self, batch: Batch) -> np.ndarray:
        """Return logits float32 [B,C]."""
        return self._run(batch, self.net)

    @torch.inference_mode()
    def layer(self, batch: Batch, layer: str) -> np.ndarray:
        """Return the output of one layer, flattened, float32 [B,·]."""
        return self._run(batch, lambda x: self.net.features_at(x, layer))

    def _run(self, batch: Batch, function: Callable[[Tensor], Tensor]) -> np.ndarray:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            out = function(self.inputs.plain(batch.to(self.device)))
        return out.float().cpu().numpy()


def restore(run: RunFolder, name: str, device: torch.device) -> Trained:
    """Return the trained member `name` of a run.

    Raises:
        UserError: no such member, or it isn't trained yet.
    """
    recipe = run.recipe_as(ClassifyRecipe)
    member = lookup({m.name: m for m in recipe.members}, name, f"{run.path}: member")
    files = run.member(name)
    if not files.finished:
        raise UserError(
            f'{run.path}: member "{name}" is not trained yet; go on with `octavo train --resume --out {run.path}`'
        )
    facts, train = files.facts(), recipe.train_of(member)
    net = _unfilled(member, recipe, facts["classes"])
    load_member(net, files.weights)
    inputs = Inputs(
        facts["size"],
        facts["resize"],
        tuple(facts["mean"]),
        tuple(facts["std"]),
        Augment(),
        0,
        facts["classes"],
        train.channels_last,
    )
    ready(net, device, train.channels_last)
    return Trained(name, net, inputs, device, train.precision == "bf16")


def _unfilled(member: Member, recipe: ClassifyRecipe, classes: int) -> MemberNet:
    """Return the member's network on the CPU, for a weights file to fill; random weights are drawn only where needed.

    Buffers that no file holds (timm's tables of relative positions, for one) have their values from the building.
    """
    net = build_member(member, recipe, classes, "meta")
    if dict(net.named_buffers()).keys() <= net.state_dict().keys():
        return net.to_empty(device="cpu")
    return build_member(member, recipe, classes)


def batch_of(images: list[np.ndarray]) -> Batch:
    """Return a batch of decoded images, uint8 [H,W,3] each, in one zero-padded canvas."""
    sizes = np.array([image.shape[:2] for image in images], np.int64)
    canvas = np.zeros((len(images), 3, *sizes.max(axis=0)), np.uint8)
    for place, image in zip(canvas, images, strict=True):
        place[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    count = len(images)
    return Batch(torch.from_numpy(canvas), sizes, torch.zeros(count, dtype=torch.int64), np.arange(count), -1, 0)
