"""A trained member from its run folder, ready to be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octavo.data.batches import Batch
from octavo.data.inputs import Inputs
from octavo.engine.folder import MemberFolder, RunFolder
from octavo.engine.infer import ready
from octavo.errors import UserError, lookup
from octavo.networks.build import build_member
from octavo.networks.loading import load_member
from octavo.networks.member import Bag, MemberNet
from octavo.recipe import Augment, ClassifyRecipe, Member, Train


@dataclass(frozen=True)
class Trained:
    """A trained network and how images become its input.

    Attributes:
        name: of the member.
        net: the network, in eval mode, on `device`; with folds all of the member's networks.
        inputs: from a batch of stored pixels to the network's input.
        device: where it computes.
        bf16: whether it computes in bfloat16, as it was trained.
    """

    name: str
    net: MemberNet | Bag
    inputs: Inputs
    device: torch.device
    bf16: bool

    @torch.inference_mode()
    def logits(self, batch: Batch) -> np.ndarray:
        """Return logits float32 [B,C]."""
        return self._run(batch, self.net)

    @property
    def one(self) -> MemberNet:
        """The network; with folds the first fold's, as layers of different networks can't be compared."""
        return self.net.first if isinstance(self.net, Bag) else self.net

    @torch.inference_mode()
    def layer(self, batch: Batch, layer: str) -> np.ndarray:
        """Return the output of one layer of `one`, flattened, float32 [B,·]."""
        return self._run(batch, lambda x: self.one.features_at(x, layer))

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
        raise UserError(f'{run.path}: member "{name}" is not trained yet; go on with `{run.resume}`')
    facts, train = files.facts(), recipe.train_of(member)
    net = _filled(member, recipe, files)
    inputs = inputs_of(facts, train)
    ready(net, device, train.channels_last)
    return Trained(name, net, inputs, device, train.precision == "bf16")


def inputs_of(facts: Mapping[str, Any], train: Train) -> Inputs:
    """Return how images become the input of a trained member, from its facts, without any random change."""
    mean, std = tuple(facts["mean"]), tuple(facts["std"])
    return Inputs(facts["size"], facts["resize"], mean, std, Augment(), 0, facts["classes"], train.channels_last)


def _filled(member: Member, recipe: ClassifyRecipe, files: MemberFolder) -> MemberNet | Bag:
    """Return the member's network with its weights, or those of all folds."""
    facts = files.facts()
    nets: list[MemberNet] = []
    for fold in range(facts.get("folds", 1)):
        of_fold = files.fold(fold) if "folds" in facts else files
        net = _unfilled(member, recipe, facts["classes"])
        if nets and recipe.train_of(member).mode == "frozen":
            net.backbone = nets[0].backbone
            load_member(net.head, of_fold.weights)
        else:
            load_member(net, of_fold.weights)
        nets.append(net)
    return Bag(nets) if "folds" in facts else nets[0]


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
