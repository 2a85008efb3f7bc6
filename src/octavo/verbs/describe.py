"""A recipe's networks, layer by layer, as PyTorch prints a module, with output shapes and parameters beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from octavo.errors import lookup
from octavo.networks import weights
from octavo.networks.backbone import parameters
from octavo.networks.build import build_member
from octavo.networks.member import MemberNet
from octavo.recipe import Member, Recipe

_LINE = re.compile(r"^(?P<indent> *)\((?P<name>[^):]+)\): ")
_EQUAL = re.compile(r"^ *\(\d+-\d+\): \d+ x ")
_INDENT = 2


def describe(recipe: Recipe, member: str | None = None, classes: int = 50) -> str:
    """Return the networks of a recipe as text: all members, or the one called `member`.

    Each network is PyTorch's own nested print, every layer with its constructor arguments. Beside each layer stands its
    output shape without the batch (channels×height×width), and behind a dot its number of parameters, those of the
    layers inside it included; – is a layer that isn't called itself. Totals of extractor, head and sum close the text.
    Nothing is loaded; it takes no memory.

    Args:
        recipe: the recipe.
        member: name of one member.
        classes: number of classes that the heads end in.

    Raises:
        UserError: unknown member, or a network that can't be built.
    """
    chosen = recipe.members
    if member is not None:
        chosen = (lookup({m.name: m for m in recipe.members}, member, "member"),)
    nets = {m.name: build_member(m, recipe, classes, "meta") for m in chosen}
    texts = [_heading(m, recipe) + "\n" + annotated(nets[m.name], recipe.size_of(m)) for m in chosen]
    return "\n\n".join([*texts, _totals(nets, classes)]) + "\n"


def annotated(net: MemberNet, size: int) -> str:
    """Return PyTorch's print of a network on the meta device, with output shapes and parameters beside each layer.

    Cut off the column (from two spaces and an arrow on) and `repr(net)` is left.
    """
    shapes = output_shapes(net, size)
    layers = dict(net.named_modules())
    lines = repr(net).splitlines()
    notes = [_note(name, layers, shapes) for name in _layer_names(lines, layers)]
    notes = [note + " each" if _EQUAL.match(line) else note for line, note in zip(lines, notes, strict=True)]
    column = max(len(line) for line in lines)
    return "\n".join(f"{line:<{column}}  {note}".rstrip() for line, note in zip(lines, notes, strict=True))


def output_shapes(net: MemberNet, size: int) -> dict[str, tuple[int, ...]]:
    """Return the output shape, without the batch, of each layer that runs, by its name, for images of `size` pixels.

    Of a layer that runs several times it is the last output, of one with several outputs the first. `net` is on the
    meta device and is put into eval mode.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str, output: Any) -> None:
        first = output[0] if isinstance(output, tuple | list) and output else output
        if isinstance(first, Tensor):
            shapes[name] = tuple(first.shape[1:])

    hooks = [m.register_forward_hook(lambda _m, _i, out, name=n: keep(name, out)) for n, m in net.named_modules()]
    try:
        with torch.no_grad():
            net.eval()(torch.empty(2, 3, size, size, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _layer_names(lines: list[str], layers: Mapping[str, nn.Module]) -> Iterator[str | None]:
    """Yield for each printed line the layer that begins on it: "" is the whole network, None a line without one."""
    path: list[str] = []
    for number, line in enumerate(lines):
        found = _LINE.match(line)
        if not found:
            yield "" if number == 0 else None
            continue
        # Equal neighbours in a ModuleList are printed as one, "(0-3): 4 x …": the first of them speaks for all.
        own = found["name"]
        depth = len(found["indent"]) // _INDENT
        del path[depth - 1 :]
        if ".".join([*path, own]) not in layers:
            own = own.split("-")[0]
        path.append(own)
        name = ".".join(path)
        yield name if name in layers else None


def _note(name: str | None, layers: Mapping[str, nn.Module], shapes: Mapping[str, tuple[int, ...]]) -> str:
    if name is None:
        return ""
    count = parameters(layers[name])
    shape = "×".join(str(n) for n in shapes[name]) if name in shapes else "–"
    return f"→ {shape}" + (f" · {count:,}" if count else "")


def _heading(member: Member, recipe: Recipe) -> str:
    size = recipe.size_of(member)
    tag = member.weights
    if tag != "none" and not weights.is_file(tag):
        tag = weights.entry(member.backbone, tag).tag
    return f"{member.name}: {member.backbone}, weights {tag}, input 3×{size}×{size}"


def _totals(nets: Mapping[str, MemberNet], classes: int) -> str:
    counts = {
        name: (net.backbone.features, parameters(net.backbone), parameters(net.head)) for name, net in nets.items()
    }
    rows = [(name, f"{f:,}", f"{b:,}", f"{h:,}", f"{b + h:,}") for name, (f, b, h) in counts.items()]
    if len(rows) > 1:
        backbones, heads = (sum(c[k] for c in counts.values()) for k in (1, 2))
        rows.append(("sum", "", f"{backbones:,}", f"{heads:,}", f"{backbones + heads:,}"))
    table = [("member", "features", "extractor", f"head ({classes} classes)", "parameters"), *rows]
    widths = [max(len(row[k]) for row in table) for k in range(5)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  " + "  ".join(f"{row[k]:>{widths[k]}}" for k in range(1, 5)) for row in table
    )
