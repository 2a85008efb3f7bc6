"""From a recipe to its networks; what can't be built fails here, before anything runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from octavo.errors import UserError
from octavo.networks.backbone import Backbone, weightless, width
from octavo.networks.head import make_head
from octavo.networks.loading import Extractor, LoadReport, load_into, load_matching, read_weights
from octavo.networks.member import MemberNet
from octavo.networks.segmenter import SegmenterNet, classifier_part, make_segmenter
from octavo.networks.weights import check_name, entry, load_pretrained, locate, source
from octavo.recipe import EnsembleRecipe, Member, Segmenter, SegmentRecipe, is_file

Net = TypeVar("Net", bound=nn.Module)


def init_key(seed: int, name: str) -> int:
    """Return the 63-bit key of a member's initialisation: the same on every machine and in every Python."""
    return int.from_bytes(hashlib.sha256(f"init/{seed}/{name}".encode()).digest()[:8], "big") >> 1


def build_member(member: Member, recipe: EnsembleRecipe, classes: int, device: str | torch.device = "cpu") -> MemberNet:
    """Return a member's network with random weights that depend on `recipe.seed` and `member.name` alone.

    The weights are drawn on the CPU, so they are the same for every device; no global random state is used or changed.
    On "meta" the network has shapes but takes no memory.

    Raises:
        UserError: the recipe's backbone or its options can't be built.
    """
    return _drawn(lambda: _joined(member, recipe, classes), recipe.seed, member.name, device)


def start_member(
    member: Member,
    recipe: EnsembleRecipe,
    classes: int,
    weights_dir: Path | None = None,
    download: bool = True,
    progress: bool = False,
    fold: int | None = None,
) -> tuple[MemberNet, LoadReport | None]:
    """Return a member's network as its training starts, on the CPU: `member.weights` loaded, the head random.

    The report says which file the weights came from; it is None for `weights = "none"`. In each `fold` what is trained
    starts from random weights of its own: the head alone of a frozen member, whose folds share one extractor.

    Raises:
        UserError: as `build_member`, or the weights can't be had or don't fit.
    """
    net = build_member(member, recipe, classes) if fold is None else _of_fold(member, recipe, classes, fold)
    try:
        return net, load_pretrained(net.backbone, member.weights, weights_dir, download, progress)
    except UserError as error:
        raise UserError(f"{member.name}: {error}") from error


def _of_fold(member: Member, recipe: EnsembleRecipe, classes: int, fold: int) -> MemberNet:
    name = f"{member.name}/fold {fold}"
    if recipe.train_of(member).mode == "finetune":
        return _drawn(lambda: _joined(member, recipe, classes), recipe.seed, name, "cpu")
    net = build_member(member, recipe, classes)
    net.head = _drawn(lambda: make_head(member.head, net.backbone.features, classes), recipe.seed, name, "cpu")
    return net


def check_recipe(recipe: EnsembleRecipe, classes: int = 2) -> dict[str, int]:
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


def build_segmenter(
    spec: Segmenter, recipe: SegmentRecipe, classes: int, device: str | torch.device = "cpu"
) -> SegmenterNet:
    """Return a segmenter with random weights that depend on `recipe.seed` and `spec.name` alone; see `build_member`.

    Raises:
        UserError: the network or its options can't be built.
    """
    with _at("segmenter"):
        return _drawn(lambda: make_segmenter(spec, classes), recipe.seed, spec.name, device)


def start_segmenter(
    spec: Segmenter,
    recipe: SegmentRecipe,
    classes: int,
    weights_dir: Path | None = None,
    download: bool = True,
    progress: bool = False,
) -> tuple[SegmenterNet, LoadReport | None]:
    """Return a segmenter as its training starts, on the CPU: `spec.weights` loaded, then all that `spec.start` has.

    The report says which file the backbone's weights came from, and its notes what else was taken from where; it is
    `spec.start`'s with `weights = "none"`, and None where both are unset.

    Raises:
        UserError: as `build_segmenter`, or the weights can't be had or don't fit.
    """
    net = build_segmenter(spec, recipe, classes)
    try:
        report = load_pretrained(net.backbone, spec.weights, weights_dir, download, progress)
    except UserError as error:
        raise UserError(f"{spec.name}: {error}") from error
    if report is not None and spec.uses_classifier:
        report = replace(report, notes=(_fill_top(spec, net, report.path),))
    if spec.start is None:
        return net, report
    started = load_matching(net, start_file(spec.start))
    return net, started if report is None else replace(report, notes=report.notes + started.notes)


def check_weights(backbone: Extractor, name: str, path: Path) -> str:
    """Return the SHA-256 of the file that the network called `name` starts from, after trying it on its backbone.

    `backbone` may be on the meta device, without memory.

    Raises:
        UserError: it can't be read, is damaged or doesn't fit.
    """
    try:
        return load_into(backbone, path).sha256
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def check_segmenter(recipe: SegmentRecipe, classes: int) -> None:
    """Build a recipe's segmenter on the meta device, and take a training step's forward pass there.

    Raises:
        UserError: the first mistake in the network, its weights' name, its start or its class weights, with its path.
    """
    spec, train = recipe.segmenter, recipe.train
    given = train.class_weights
    if isinstance(given, tuple) and len(given) != classes:
        raise UserError(f"train.class_weights: {len(given)} weights for {classes} classes")
    net = build_segmenter(spec, recipe, classes, "meta")
    with _at("segmenter"):
        check_name(spec.extractor, spec.weights)
    if spec.start is not None:
        load_matching(net, start_file(spec.start))
    if not fits_norm(net, train.batch_size, recipe.data.size, frozen=train.mode == "frozen"):
        raise UserError(
            f"train.batch_size: {train.batch_size} is too small for {spec.network}, whose batch norm needs more than "
            "one value a channel; use 2 or more, or larger crops"
        )


def fits_norm(net: SegmenterNet, images: int, size: tuple[int, int], *, frozen: bool = False) -> bool:
    """Tell whether a network on the meta device can be trained on `images` of (height, width) `size` at a time.

    Batch norm refuses to normalise one value a channel. With `frozen` that of the backbone isn't trained.
    """
    net.train()
    net.backbone.train(not frozen)
    try:
        net(torch.empty(images, 3, *size, device="meta"))
    except ValueError:
        return False
    return True


def notes(spec: Segmenter, weights_dir: Path | None = None) -> tuple[str, ...]:
    """Return plain sentences on what a segmenter's layers start from, before any file is downloaded.

    Raises:
        UserError: an unknown set of weights, or no such folder or file.
    """
    told = []
    if spec.weights != "none" and spec.uses_classifier:
        path = source(spec.extractor, spec.weights) if is_file(spec.weights) else None
        path = path or locate(entry(spec.extractor, spec.weights), weights_dir)
        if path is None:
            told.append("fc6 and fc7 start from VGG's ImageNet classifier, if the file that is downloaded holds it")
        else:
            told.append(_top_note(path, bool(classifier_part(spec, read_weights(path)[0]))))
    if spec.start is not None:
        told.append(f"every tensor of equal name and shape starts from {start_file(spec.start)}")
    return tuple(told)


def start_file(start: str) -> Path:
    """Return the weights file that `segmenter.start` means: a file, or the one segmenter of a run folder.

    Raises:
        UserError: no such file, or not one network in the folder.
    """
    path = Path(start).expanduser()
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f'segmenter.start: "{start}": no such run folder or weights file')
        return path
    found = sorted(path.glob("members/*/weights.safetensors"))
    if len(found) != 1:
        raise UserError(f"segmenter.start: {start}: expected a run with one trained network, found {len(found)}")
    return found[0]


def _fill_top(spec: Segmenter, net: SegmenterNet, path: Path) -> str:
    found = classifier_part(spec, read_weights(path)[0])
    with torch.no_grad():
        for name, tensor in found.items():
            net.head.get_parameter(name).copy_(tensor)
    return _top_note(path, bool(found))


def _top_note(path: Path, filled: bool) -> str:
    if filled:
        return f"fc6 and fc7 start from VGG's ImageNet classifier in {path}"
    return f"fc6 and fc7 start from random weights: {path} doesn't hold VGG's ImageNet classifier"


def _drawn(make: Callable[[], Net], seed: int, name: str, device: str | torch.device) -> Net:
    """Return the network that `make` builds, its random weights drawn on the CPU by key."""
    if str(device) == "meta":
        with weightless():
            return make().to("meta")
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would also reseed the GPUs' generators.
        torch.default_generator.manual_seed(init_key(seed, name))
        net = make()
    return net.to(device)


def _joined(member: Member, recipe: EnsembleRecipe, classes: int) -> MemberNet:
    where = f"members[{recipe.members.index(member)}]" if member in recipe.members else "member"
    with _at(where):
        backbone = Backbone(member.backbone, recipe.size_of(member), member.pool, member.zero_init_residual)
    return MemberNet(backbone, make_head(member.head, backbone.features, classes))


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Put the network's path in the recipe before the message of a user's mistake."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}.{error}") from error
