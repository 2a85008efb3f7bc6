"""The networks of a run, layer by layer."""

from __future__ import annotations

from octavo.looks.look import Cell, Drawing, Look, Table
from octavo.looks.subject import ClassifySubject, SegmentSubject
from octavo.networks.description import Description, describe_member, describe_segmenter


def networks(subject: ClassifySubject) -> Drawing:
    """Describe every member: totals, and its layers as text that is folded until it is opened."""
    count = len(subject.classes)
    return _described([describe_member(m, subject.recipe, count) for m in subject.recipe.members], "member")


def segmenter(subject: SegmentSubject) -> Drawing:
    """Describe the segmenter likewise."""
    return _described([describe_segmenter(subject.recipe, len(subject.run.table.trained))], "segmenter")


def _described(nets: list[Description], what: str) -> Drawing:
    rows: list[tuple[Cell, ...]] = [
        (n.name, n.heading.partition(": ")[2], n.extractor, n.head, n.parameters) for n in nets
    ]
    if len(nets) > 1:
        sums = (sum(n.extractor for n in nets), sum(n.head for n in nets), sum(n.parameters for n in nets))
        rows.append(("sum", None, *sums))
    look = Look(
        name="networks",
        title="The networks, layer by layer",
        sees="Every layer with its constructor's arguments, then its output's shape without the batch "
        "(channels×height×width) and, behind a dot, its number of parameters, those of the layers inside it included.",
        source="recipe.toml",
        tables=(
            Table(
                title="Parameters",
                columns=(what, "network", "of the extractor", "of the head", "in all"),
                rows=tuple(rows),
                kinds=("text", "text", "count", "count", "count"),
            ),
        ),
        texts={n.name: n.text for n in nets},
    )
    return Drawing(look)
