"""A trained member from its run folder, ready to be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from octavo.data.batches import Batch
from octavo.data.inputs import Inputs
from octavo.engine.features import extractor_facts, key_of
from octavo.engine.folder import RunFolder
from octavo.engine.graphs import Replayed
from octavo.engine.infer import Part, in_parts, on_all, ready
from octavo.engine.member_folder import MemberFolder
from octavo.errors import UserError, lookup
from octavo.networks.build import build_member
from octavo.networks.fold import answering
from octavo.networks.loading import load_member
from octavo.networks.member import Bag, MemberNet
from octavo.progress import Progress, silent
from octavo.recipe import Augment, EnsembleRecipe, Member, Train


@dataclass(frozen=True)
class Trained:
    """A trained network and how images become its input.

    Attributes:
        name: of the member.
        net: the network, in eval mode, on `device`; with folds all of the member's networks.
        inputs: from a batch of stored pixels to the network's input.
        device: where it computes.
        bf16: whether it computes in bfloat16.
        halves: extractor and head of the network, or of all of them, that say the same with less work; none: there is
            no work to spare.
    """

    name: str
    net: MemberNet | Bag
    inputs: Inputs
    device: torch.device
    bf16: bool
    halves: tuple[tuple[Part, Part], ...] = ()

    def __post_init__(self) -> None:
        """Take the network whole where it has no halves."""
        if not self.halves:
            object.__setattr__(self, "halves", ((self.net, nn.Identity()),))

    def logits(self, batch: Batch) -> np.ndarray:
        """Return logits float32 [B,C]."""
        return together([self], batch)[0]

    def answer(self, x: Tensor) -> Tensor:
        """Return logits float32 [B,C] for the network's input [B,3,S,S]; gradients and precision are the caller's."""
        features = {body: body(x) for body, _ in self.halves}
        return torch.stack([head(features[body]).float() for body, head in self.halves]).mean(0)

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


class Shared:
    """A batch as several members see it; what they have in common is computed once.

    That is the input where it is made alike, and the features of an extractor that `restore_all` found them to share.
    """

    def __init__(self, batch: Batch) -> None:
        """Begin with a batch of stored pixels."""
        self.batch = batch
        self._inputs: dict[object, Tensor] = {}
        self._features: dict[Part, Tensor] = {}

    @torch.inference_mode()
    def logits(self, member: Trained) -> np.ndarray:
        """Return what a member says, float32 [B,C]."""
        own = member.inputs
        look = (own.size, own.resize, own.mean, own.std, own.channels_last)
        with torch.autocast(member.device.type, torch.bfloat16, enabled=member.bf16):
            logits = []
            for body, head in member.halves:
                if body not in self._features:
                    if look not in self._inputs:
                        self._inputs[look] = own.plain(self.batch.to(member.device))
                    self._features[body] = in_parts(body, self._inputs[look])
                logits.append(in_parts(head, self._features[body]).float())
        return torch.stack(logits).mean(0).cpu().numpy()

    @torch.inference_mode()
    def some(self, rows: np.ndarray) -> Shared:
        """Return the same of some images alone, `rows` int [b] places in the batch."""
        chosen = Shared(self.batch.some(rows))
        place = torch.from_numpy(rows)
        chosen._inputs = {look: x[place.to(x.device)] for look, x in self._inputs.items()}
        chosen._features = {body: x[place.to(x.device)] for body, x in self._features.items()}
        return chosen


def together(members: Sequence[Trained], batch: Batch) -> np.ndarray:
    """Return the logits of several members, float32 [M,B,C]; what they have in common is computed once."""
    shared = Shared(batch)
    return np.stack([shared.logits(member) for member in members])


def answers(
    members: Sequence[Trained], batches: Iterable[Batch], *, progress: Progress = silent, what: str = "predict"
) -> np.ndarray:
    """Return the logits of several members on all images of `batches`, in their order, float32 [M,n,C].

    Raises:
        UserError: there isn't the memory for a single image; a batch that memory doesn't bear is computed in parts.
    """
    rows = on_all(lambda part: together(members, part).swapaxes(0, 1), batches, progress=progress, what=what)
    return rows.swapaxes(0, 1)


def restore_all(run: RunFolder, names: Sequence[str], device: torch.device) -> list[Trained]:
    """Return several trained members of a run; those with one and the same frozen extractor share it.

    Raises:
        UserError: as `restore`.
    """
    first: dict[str, Trained] = {}
    found = []
    for name in names:
        trained, key = _fitted(run, name, device), _extractor(run, name, device)
        if key in first:
            shared = first[key].halves[0][0]
            trained = replace(trained, halves=tuple((shared, head) for _, head in trained.halves))
        first.setdefault(key, trained)
        found.append(trained)
    return found


def _fitted(run: RunFolder, name: str, device: torch.device) -> Trained:
    try:
        return restore(run, name, device)
    except torch.OutOfMemoryError:
        raise UserError(f"{run.path}: out of {device.type} memory while {name} is loaded; take --device cpu") from None


def sharing(run: RunFolder, names: Sequence[str], device: torch.device) -> list[list[str]]:
    """Return the members in groups that have one extractor on a device, in the order of the first of each group."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_extractor(run, name, device), []).append(name)
    return list(groups.values())


def _extractor(run: RunFolder, name: str, device: torch.device) -> str:
    """Return what members must have in common to share an extractor; a member's own name where nothing is shared."""
    recipe, facts = run.ensemble_recipe, run.member(name).facts()
    member = next(m for m in recipe.members if m.name == name)
    train, start = recipe.train_of(member), facts.get("weights")
    if train.mode == "finetune" or not start:
        return name
    own = extractor_facts(member, recipe.seed, facts["size"], facts["resize"], start["sha256"])
    bf16 = train.precision == "bf16" or run.in_bf16(name, device.type)
    return key_of(**own, mean=facts["mean"], std=facts["std"], bf16=bf16, head=_begins(member, recipe))


def _begins(member: Member, recipe: EnsembleRecipe) -> bool:
    """Tell whether a head takes what comes before a pooling: extractors differ by that, see `networks.fold`."""
    net = build_member(member, recipe, 2, "meta")
    return answering(net.backbone, net.head, member.pool)[0] is net.backbone


def restore(run: RunFolder, name: str, device: torch.device, *, bf16: bool | None = None) -> Trained:
    """Return the trained member `name` of a run.

    It computes as it was trained, or in bfloat16 where `octavo ensemble precision` found the run to bear it on such a
    device; `bf16` says otherwise.

    Raises:
        UserError: no such member, or it isn't trained yet.
    """
    recipe = run.ensemble_recipe
    member = lookup({m.name: m for m in recipe.members}, name, f"{run.path}: member")
    files = run.member(name)
    if not files.finished:
        raise UserError(f'{run.path}: member "{name}" is not trained yet; go on with `{run.resume}`')
    facts, train = files.facts(), recipe.train_of(member)
    if bf16 is None:
        bf16 = train.precision == "bf16" or run.in_bf16(name, device.type)
    channels_last = train.channels_last or (bf16 and train.precision != "bf16")
    net = ready(_filled(member, recipe, files), device, channels_last)
    assert isinstance(net, MemberNet | Bag)
    nets = [each for each in net.modules() if isinstance(each, MemberNet)]
    halves = [answering(each.backbone, each.head, member.pool) for each in nets]
    if all(each.backbone is nets[0].backbone for each in nets):
        halves = [(halves[0][0], head) for _, head in halves]
    inputs = replace(inputs_of(facts, train), channels_last=channels_last)
    replayed = {part: Replayed(part) for half in halves for part in half}
    return Trained(name, net, inputs, device, bf16, tuple((replayed[body], replayed[head]) for body, head in halves))


def inputs_of(facts: Mapping[str, Any], train: Train) -> Inputs:
    """Return how images become the input of a trained member, from its facts, without any random change."""
    mean, std = tuple(facts["mean"]), tuple(facts["std"])
    return Inputs(facts["size"], facts["resize"], mean, std, Augment(), 0, facts["classes"], train.channels_last)


def _filled(member: Member, recipe: EnsembleRecipe, files: MemberFolder) -> MemberNet | Bag:
    """Return the member's network with its weights, or those of all folds."""
    facts = files.facts()
    nets: list[MemberNet] = []
    for fold in range(facts.get("folds", 1)):
        of_fold = files.fold(fold) if "folds" in facts else files
        net = _unfilled(member, recipe, facts["classes"])
        if nets and recipe.train_of(member).mode == "frozen":
            net.backbone = nets[0].backbone
            load_member(net.head, of_fold.weights, of_fold.sha256(of_fold.weights), of_fold.remedy)
        else:
            load_member(net, of_fold.weights, of_fold.sha256(of_fold.weights), of_fold.remedy)
        nets.append(net)
    return Bag(nets) if "folds" in facts else nets[0]


def _unfilled(member: Member, recipe: EnsembleRecipe, classes: int) -> MemberNet:
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
