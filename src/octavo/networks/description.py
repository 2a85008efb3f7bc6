"""A recipe's networks described: totals, heading, and the text of their layers. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octavo.networks import weights
from octavo.networks.backbone import parameters
from octavo.networks.build import build_member, build_segmenter
from octavo.networks.fcn import FCN
from octavo.networks.layers import annotated, output_shapes, written
from octavo.networks.pyramid import Pyramid
from octavo.networks.segmenter import SegmenterNet
from octavo.recipe import EnsembleRecipe, Member, Network, SegmentRecipe, is_file

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


@dataclass(frozen=True)
class Description:
    """What a network consists of.

    Attributes:
        name: of the member or segmenter.
        heading: what it is, its weights and its input, in a line.
        features: numbers that a classifier's head takes; None for a segmenter.
        extractor: parameters of the backbone.
        head: parameters of the head.
        diagram: which layers of an FCN are which part of the paper's diagram; empty for others.
        layers: PyTorch's print of the network, with output shapes and parameters beside each layer.
    """

    name: str
    heading: str
    features: int | None
    extractor: int
    head: int
    diagram: str
    layers: str

    @property
    def parameters(self) -> int:
        """Parameters of the whole network."""
        return self.extractor + self.head

    @property
    def text(self) -> str:
        """Diagram, heading and layers."""
        return "\n\n".join(filter(None, (self.diagram, f"{self.heading}\n{self.layers}")))


def describe_member(member: Member, recipe: EnsembleRecipe, classes: int, depth: int | None = None) -> Description:
    """Return what a member consists of whose head ends in `classes`; `depth` as in `annotated`.

    Raises:
        UserError: it can't be built.
    """
    net, size = build_member(member, recipe, classes, "meta"), recipe.size_of(member)
    return Description(
        name=member.name,
        heading=_heading(member, member.backbone, size, size),
        features=net.backbone.features,
        extractor=parameters(net.backbone),
        head=parameters(net.head),
        diagram="",
        layers=annotated(net, size, size, depth),
    )


def describe_segmenter(recipe: SegmentRecipe, classes: int, depth: int | None = None) -> Description:
    """Return what a recipe's segmenter of so many classes consists of; `depth` as in `annotated`.

    Raises:
        UserError: it can't be built.
    """
    spec, (height, width) = recipe.segmenter, recipe.data.size
    net = build_segmenter(spec, recipe, classes, "meta")
    what = f"FCN-{spec.stride}s on {spec.backbone}" if spec.network == "fcn" else spec.network
    return Description(
        name=spec.name,
        heading=_heading(spec, what, height, width),
        features=None,
        extractor=parameters(net.backbone),
        head=parameters(net.head),
        diagram=_diagram(net, height, width) if isinstance(net.head, FCN) else "",
        layers=annotated(net, height, width, depth),
    )


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
            rows.append((f"to {pool}", layers, written(shapes[f"backbone.net.{name}"])))
            first, stride = "", stride * 2
    hidden = len(list(head.get_submodule("top").children()))
    if hidden:
        rows.append(("conv6-7 (fc6, fc7)", "head.top", written(shapes["head.top"])))
    for name, part in _PARTS.items():
        if f"head.{name}" in shapes:
            rows.append((part.format(top="pool5"), f"head.{name}", written(shapes[f"head.{name}"])))
    return aligned(rows, left=2)


def _heading(network: Network, what: str, height: int, width: int) -> str:
    tag = network.weights
    if tag != "none" and not is_file(tag):
        tag = weights.entry(network.extractor, tag).tag
    return f"{network.name}: {what}, weights {tag}, input 3×{height}×{width}"


def aligned(rows: Sequence[tuple[str, ...]], left: int = 1) -> str:
    """Return rows as lines, the first `left` columns flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{'<' if k < left else '>'}{widths[k]}}" for k, cell in enumerate(row)).rstrip()
        for row in rows
    )
