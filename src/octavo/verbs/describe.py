"""A recipe's networks: totals first, then layer by layer as PyTorch prints a module, with shapes and parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from octavo.data.classes import load_table
from octavo.errors import UserError, lookup
from octavo.networks import weights
from octavo.networks.backbone import parameters
from octavo.networks.build import build_member, build_segmenter
from octavo.networks.fcn import FCN
from octavo.networks.member import MemberNet
from octavo.networks.pyramid import Pyramid
from octavo.networks.segmenter import SegmenterNet
from octavo.recipe import ClassifyRecipe, Member, Network, Recipe, SegmentRecipe

CLASSES = 50
"""Number of classes that classifiers are shown with, as the reference's have."""
CLASSES_UNKNOWN = 7
"""Number of classes that a segmenter is shown with whose recipe names no table: the reference's."""

_LINE = re.compile(r"^(?P<indent> *)\((?P<name>[^):]+)\): ")
_EQUAL = re.compile(r"^ *\(\d+-\d+\): \d+ x ")
_INDENT = 2
_COLUMN = 100
_PARTS = {
    "score": "{top} prediction",
    "upscore2": "2× upsampled prediction",
    "score_pool4": "pool4 prediction",
    "upscore_pool4": "2× upsampled prediction of the sum",
    "score_pool3": "pool3 prediction",
    "upscore32": "32× upsampled prediction (FCN-32s)",
    "upscore16": "fused 16× upsampling (FCN-16s)",
    "upscore8": "fused 8× upsampling (FCN-8s)",
}


def describe(recipe: Recipe, member: str | None = None, classes: int | None = None, depth: int | None = None) -> str:
    """Return the networks of a recipe as text: all of them, or the one called `member`.

    Totals of extractor and head come first; for an FCN then the layers that the parts of the paper's diagram are. Each
    network follows as PyTorch's own nested print, every layer with its constructor arguments. Beside each layer stands
    its output shape without the batch (channels×height×width), and behind a dot its number of parameters, those of the
    layers inside it included; – is a layer that isn't called itself. Nothing is loaded; it takes no memory.

    Args:
        recipe: the recipe.
        member: name of one network.
        classes: number of classes that the heads end in; by default 50 for classifiers, and for segmenters as many as
            the recipe's own table has, or else 7.
        depth: how many levels of layers are shown, 1 for backbone and head alone; by default all.

    Raises:
        UserError: unknown member, a depth below 1, or a network that can't be built.
    """
    if depth is not None and depth < 1:
        raise UserError(f"depth: expected 1 or more, got {depth}")
    chosen = recipe.networks
    if member is not None:
        chosen = (lookup({m.name: m for m in chosen}, member, "member"),)
    if isinstance(recipe, SegmentRecipe):
        return _segmenter(recipe, classes, depth)
    assert isinstance(recipe, ClassifyRecipe)
    classes = classes or CLASSES
    members = [m for m in chosen if isinstance(m, Member)]
    nets = {m.name: build_member(m, recipe, classes, "meta") for m in members}
    texts = []
    for m in members:
        size = recipe.size_of(m)
        texts.append(_heading(m, m.backbone, size, size) + "\n" + annotated(nets[m.name], size, size, depth))
    return "\n\n".join([_totals(nets, classes), *texts]) + "\n"


def annotated(net: nn.Module, height: int, width: int, depth: int | None = None) -> str:
    """Return PyTorch's print of a network on the meta device, with output shapes and parameters beside each layer.

    Cut off the column (from two spaces and an arrow on) and `repr(net)` is left. With a `depth`, layers that lie deeper
    are left out, and … stands in their place.
    """
    shapes = output_shapes(net, height, width)
    layers = dict(net.named_modules())
    lines = repr(net).splitlines()
    notes = [_note(name, layers, shapes) for name in _layer_names(lines, layers)]
    notes = [note + " each" if _EQUAL.match(line) else note for line, note in zip(lines, notes, strict=True)]
    rows = list(_folded(zip(lines, notes, strict=True), depth))
    column = max((len(line) for line, _ in rows if len(line) <= _COLUMN), default=_COLUMN)
    return "\n".join(f"{line:<{column}}  {note}".rstrip() for line, note in rows)


def _folded(rows: Iterator[tuple[str, str]], depth: int | None) -> Iterator[tuple[str, str]]:
    for line, note in rows:
        level = (len(line) - len(line.lstrip())) // _INDENT
        if depth is None or level < depth:
            yield line, note
        elif level == depth and line.strip() != ")":
            yield (f"{line}…)" if line.endswith("(") else line), note


def output_shapes(net: nn.Module, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the output shape, without the batch, of each layer that runs, by its name, for images of that size.

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
            net.eval()(torch.empty(2, 3, height, width, device="meta"))
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
    shape = _shape(shapes[name]) if name in shapes else "–"
    return f"→ {shape}" + (f" · {count:,}" if count else "")


def _shape(shape: Sequence[int]) -> str:
    return "×".join(str(n) for n in shape)


def _segmenter(recipe: SegmentRecipe, classes: int | None, depth: int | None) -> str:
    spec, table = recipe.segmenter, recipe.data.classes
    if classes is None:
        classes = CLASSES_UNKNOWN if table is None else len(load_table(table).trained)
    height, width = recipe.data.size
    net = build_segmenter(spec, recipe, classes, "meta")
    counts = parameters(net.backbone), parameters(net.head)
    rows = [
        ("segmenter", "backbone", f"head ({classes} classes)", "parameters"),
        (spec.name, *(f"{n:,}" for n in (*counts, sum(counts)))),
    ]
    what = f"FCN-{spec.stride}s on {spec.backbone}" if spec.network == "fcn" else spec.network
    texts = [_aligned(rows)]
    if isinstance(net.head, FCN):
        texts.append(_diagram(net, height, width))
    texts.append(_heading(spec, what, height, width) + "\n" + annotated(net, height, width, depth))
    return "\n\n".join(texts) + "\n"


def _diagram(net: SegmenterNet, height: int, width: int) -> str:
    """Return which layers are which part of the diagram in Shelhamer et al. (TPAMI 2017), figure 3."""
    shapes = output_shapes(net, height, width)
    rows = [("paper's diagram", "layers", "output")]
    backbone, head = net.backbone, net.head
    assert isinstance(backbone, Pyramid)
    first, stride = "", 32 // 2 ** (len(backbone.widths) - 1)
    for name, tapped in backbone.steps:
        first = first or name
        if tapped:
            pool = {8: "pool3", 16: "pool4", 32: "pool5"}[stride]
            layers = f"backbone.net.{first}" + (f" … {name}" if name != first else "")
            rows.append((f"to {pool}", layers, _shape(shapes[f"backbone.net.{name}"])))
            first, stride = "", stride * 2
    hidden = len(list(head.get_submodule("top").children()))
    if hidden:
        rows.append(("conv6-7 (fc6, fc7)", "head.top", _shape(shapes["head.top"])))
    for name, part in _PARTS.items():
        if f"head.{name}" in shapes:
            rows.append((part.format(top="pool5"), f"head.{name}", _shape(shapes[f"head.{name}"])))
    return _aligned(rows, left=2)


def _heading(network: Network, what: str, height: int, width: int) -> str:
    tag = network.weights
    if tag != "none" and not weights.is_file(tag):
        tag = weights.entry(network.extractor, tag).tag
    return f"{network.name}: {what}, weights {tag}, input 3×{height}×{width}"


def _totals(nets: Mapping[str, MemberNet], classes: int) -> str:
    counts = {
        name: (net.backbone.features, parameters(net.backbone), parameters(net.head)) for name, net in nets.items()
    }
    rows = [(name, f"{f:,}", f"{b:,}", f"{h:,}", f"{b + h:,}") for name, (f, b, h) in counts.items()]
    if len(rows) > 1:
        backbones, heads = (sum(c[k] for c in counts.values()) for k in (1, 2))
        rows.append(("sum", "", f"{backbones:,}", f"{heads:,}", f"{backbones + heads:,}"))
    return _aligned([("member", "features", "extractor", f"head ({classes} classes)", "parameters"), *rows])


def _aligned(rows: Sequence[tuple[str, ...]], left: int = 1) -> str:
    """Return rows as lines, the first `left` columns flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{'<' if k < left else '>'}{widths[k]}}" for k, cell in enumerate(row)).rstrip()
        for row in rows
    )
