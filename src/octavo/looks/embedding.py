"""The validation images as points in a plane, by what a layer says of them, with numbers on what can be read off it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from octavo.engine.embedding import default_layer, digest_of, kept, layer_outputs, layer_seconds
from octavo.errors import UserError
from octavo.looks.look import Drawing, Look, Points, Shown, Table
from octavo.looks.subject import ClassifySubject
from octavo.numbers.neighbours import Neighbourhoods, mean_share, nearest, neighbourhoods, trusted
from octavo.numbers.projection import LEAST, Plane, check, project, sample
from octavo.pictures.embedding import GROUP, NAMED, Cloud, ten_at_a_time, whole_plane
from octavo.pictures.thumbs import Sheet, thumb_sheet
from octavo.words import counted

THUMBS = "thumbs.jpg"


@dataclass(frozen=True, eq=False)
class Layer:
    """What a layer says of the validation images; n of them, or of a sample.

    Attributes:
        name: `MEMBER.LAYER`.
        rows: int64 [n], which of the validation images.
        features: float32 [n,F].
        labels: int64 [n], true class ids.
        near: int64 [n,k], each image's nearest others in this layer's space.
        lie: how the classes lie among one another there.
    """

    name: str
    rows: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    near: np.ndarray
    lie: Neighbourhoods

    @property
    def flat(self) -> bool:
        """Whether it says the same of every image."""
        return bool((self.features == self.features[0]).all())


def layer_of(subject: ClassifySubject, layer: str | None) -> Layer:
    """Return what a layer says of the validation images: the reference's by default, see `default_layer`.

    Raises:
        UserError: no such layer, or one whose outputs are too large or not finite; the data are gone, or others.
    """
    name = layer or default_layer(subject.run)
    rows = sample(subject.labels)
    features = layer_outputs(
        subject.run,
        name,
        lambda: subject.pixels,
        subject.places[rows],
        cache=subject.cache,
        device=subject.device,
        progress=subject.progress,
    )
    if not np.isfinite(features).all():
        raise UserError(f'layer: "{name}" gives numbers that aren\'t finite; choose another layer')
    labels = subject.labels[rows]
    near = nearest(features)
    return Layer(name, rows, features, labels, near, neighbourhoods(near, labels, len(subject.classes)))


def network_seconds(subject: ClassifySubject) -> float:
    """Return about how long a network would run for the layer that is taken by itself; 0 where nothing is computed."""
    rows = subject.places[sample(subject.labels)]
    return layer_seconds(subject.run, default_layer(subject.run), rows, cache=subject.cache, device=subject.device)


@dataclass(frozen=True, eq=False)
class Laid(Plane):
    """A plane, its trustworthiness (0–1, not a number of fewer than three images), and the k that was taken at."""

    trust: float
    k: int


def plane_of(subject: ClassifySubject, layer: Layer, method: str, seed: int, *, anywhere: bool = False) -> Laid:
    """Return the layer's images in a plane, see `project`; made once and kept in the run.

    Raises:
        UserError: the layer says the same of every image.
    """
    way = check(method)
    words = way.words(len(layer.rows))
    facts = {"layer": layer.name, "images": digest_of(layer.rows), "seed": str(seed), "settings": words}
    name = f"{method}-{seed}{'-anywhere' if anywhere else ''}-{layer.name}"
    subject.progress(f"{way.title}, seed {seed}", 0, 1)
    points = kept(subject.run, name, facts, lambda: project(layer.features, method, seed, anywhere=anywhere).points)
    trust = kept(subject.run, f"{name}-trust", facts, lambda: np.array(trusted(layer.features, points)))
    subject.progress(f"{way.title}, seed {seed}", 1, 1)
    return Laid(points, way.title, words, seed, trust=float(trust[0]), k=int(trust[1]))


def embedding(
    subject: ClassifySubject, layer: str | None = None, method: str = "tsne", seed: int = 0
) -> Drawing | None:
    """Draw the validation images in a plane, and say which classes are scattered and which overlap.

    None, with a word on why, where there are too few images, or where the layer that is taken by itself says the same
    of all of them.

    Args:
        subject: the run.
        layer: `MEMBER.LAYER`; by default the reference's, see `octavo.engine.embedding.default_layer`.
        method: `tsne`, `umap` or `pacmap`.
        seed: of the method.

    Raises:
        UserError: an unknown layer or method, or one that isn't installed; the data are gone, or others.
    """
    title = check(method).title
    if len(subject.labels) < LEAST:
        subject.say(f"{title} needs at least {LEAST} validation images; this run has {len(subject.labels)}")
        return None
    own = layer_of(subject, layer)
    if layer is None and own.flat:
        subject.say(f"{title}: {own.name} gives the same numbers for every image; choose another layer by --layer")
        return None
    return _drawn(subject, own, plane_of(subject, own, method, seed))


def _drawn(subject: ClassifySubject, own: Layer, plane: Laid) -> Drawing:
    cloud = Cloud(plane.points, own.labels, subject.classes, _title(own, plane), plane.title)
    figures = {"embedding.png": whole_plane(cloud)}
    if len(subject.classes) > GROUP:
        figures |= {f"embedding_{i}.png": figure for i, figure in enumerate(ten_at_a_time(cloud), 1)}
    sheet = thumb_sheet((subject.picture(int(i)) for i in own.rows), len(own.rows))
    look = Look(
        name="embedding",
        title=f"The images in a plane ({plane.title})",
        sees=_sees(subject, own, plane),
        source="explained/embedding.json",
        shown=tuple(_shown(figures, plane, len(np.unique(own.labels)))),
        tables=tuple(_tables(subject, own, plane)),
        points=_points(subject, own, plane, sheet),
        warnings=_warnings(subject, own),
    )
    return Drawing(look, figures, {THUMBS: sheet.content})


def _title(layer: Layer, plane: Plane) -> str:
    count, width = layer.features.shape
    return (
        f"{plane.title} of {layer.name} · {counted(count, 'image')}, {counted(width, 'number')} each · "
        f"{plane.settings} · seed {plane.seed}"
    )


def _sees(subject: ClassifySubject, layer: Layer, plane: Laid) -> str:
    count, width = layer.features.shape
    which = f"{counted(count, 'validation image')}"
    if count < len(subject.labels):
        which = f"A sample of {which} (of {len(subject.labels):,}; every class gave the same share)"
    near = 100 * mean_share(layer.lie.purity)
    pure = (
        "" if np.isnan(near) else f" In the layer's own space {near:.0f} % of an image's neighbours are of its class."
    )
    return (
        f"{which} by the {counted(width, 'number')} that {layer.name} gives of each, laid into a plane by "
        f"{plane.title} so that near neighbours stay near: trustworthiness {plane.trust:.3f} of 1.{pure} Only who lies "
        "beside whom can be read off the plane, not how far apart groups are or how large."
    )


def _warnings(subject: ClassifySubject, layer: Layer) -> tuple[str, ...]:
    if lonely := [subject.classes[c] for c in np.flatnonzero(layer.lie.counts < 2)]:
        names = ", ".join(lonely[:5]) + (" …" if len(lonely) > 5 else "")
        return (f"{counted(len(lonely), 'class')} of fewer than two images can't be said to be scattered: {names}",)
    return ()


def _shown(figures: Mapping[str, object], plane: Plane, classes: int) -> list[Shown]:
    first, *others = figures
    caption = "A class in one place is one that the layer tells apart; one that lies all over is scattered."
    if others:
        named = "Each name" if classes <= NAMED else f"The names of the {NAMED} classes that keep together most: each"
        caption += f" {named} stands at the median of its class."
    shown = [Shown(file=first, caption=caption, alt=f"{plane.title} of the validation images, all classes")]
    for number, file in enumerate(others, 1):
        part = f", part {number} of {len(others)}" if len(others) > 1 else ""
        shown.append(
            Shown(
                file=file,
                caption="The same plane, ten classes a panel and the others in grey: look for colours that lie in one "
                f"another, and for single points far from their own{part}.",
                alt=f"{plane.title} of the validation images, ten classes a panel{part}",
            )
        )
    return shown


def _tables(subject: ClassifySubject, layer: Layer, plane: Laid) -> list[Table]:
    tables = [_trust_table(layer, plane)]
    if layer.lie.scattered():
        tables.append(_scattered_table(subject, layer))
    if layer.lie.overlapping():
        tables.append(_pairs_table(subject, layer))
    return tables


def _trust_table(layer: Layer, plane: Laid) -> Table:
    flat = neighbourhoods(nearest(plane.points), layer.labels, len(layer.lie.counts))
    rows = [(f"trustworthiness of the plane (its {plane.k} nearest neighbours)", plane.trust)]
    places = (("in the layer's own space", layer.lie.purity), ("in the plane", flat.purity))
    rows += [(f"neighbours of the same class {where}", mean_share(share)) for where, share in places]
    rows.append(("neighbours of the same class by chance", mean_share(layer.lie.chance)))
    return Table(
        title="How far the plane can be trusted",
        columns=("what", "0–1"),
        rows=tuple((what, None if not np.isfinite(value) else value) for what, value in rows),
        kinds=("text", "number"),
        caption=f"Neighbours are the {layer.lie.k} nearest images by Euclidean distance, fewer for a class of fewer "
        "images; shares are averaged over classes. "
        "Trustworthiness is 1 where neighbours in the plane are neighbours in the layer's space too.",
    )


def _scattered_table(subject: ClassifySubject, layer: Layer) -> Table:
    lie, names, rows = layer.lie, subject.classes, []
    for c in lie.scattered():
        others = np.where(np.arange(len(names)) == c, -1, lie.crossing[c])
        most = int(others.argmax())
        own = subject.labels == c
        right = float((subject.predicted[own] == c).mean())
        away = names[most] if others[most] > 0 else None
        rows.append((names[c], int(lie.counts[c]), float(lie.purity[c]), away, float(max(others[most], 0)), right))
    first = rows[0]
    return Table(
        title="The ten most scattered classes" if len(names) > 10 == len(rows) else "Classes, the most scattered first",
        columns=("class", "images", "neighbours of its own", "most others are of", "share of these", "accuracy"),
        rows=tuple(rows),
        kinds=("text", "count", "share", "text", "share", "share"),
        caption=f"Of the {counted(lie.looked_at(lie.scattered()[0]), 'nearest neighbour')} of each image of class "
        f"{first[0]}, {100 * first[2]:.0f} % are of its own class. Taken in the layer's own space, so that it doesn't "
        "depend on the plane or its seed.",
    )


def _pairs_table(subject: ClassifySubject, layer: Layer) -> Table:
    lie, names, rows = layer.lie, subject.classes, []
    for a, b in lie.overlapping():
        taken = int(((subject.labels == a) & (subject.predicted == b)).sum())
        back = int(((subject.labels == b) & (subject.predicted == a)).sum())
        there, here = float(lie.crossing[a, b]), float(lie.crossing[b, a])
        rows.append((names[a], names[b], float(lie.overlap[a, b]), there, here, taken + back))
    first, near = rows[0], dict.fromkeys(map(lie.looked_at, lie.overlapping()[0]))
    return Table(
        title="The ten pairs of classes that overlap most" if len(rows) == 10 else "Pairs of classes that overlap",
        columns=("first class", "second class", "overlap", "first's in second", "second's in first", "mistakes"),
        rows=tuple(rows),
        kinds=("text", "text", "share", "share", "share", "count"),
        caption=f"{100 * first[2]:.0f} % of the nearest neighbours of {first[0]} and {first[1]} are of the other one: "
        f"the mean of both ways, with {' and '.join(map(str, near))} neighbours of each image. Mistakes "
        "are images of one that the ensemble takes for the other.",
    )


def _points(subject: ClassifySubject, layer: Layer, plane: Plane, sheet: Sheet) -> Points:
    rows = layer.rows
    return Points(
        title=_title(layer, plane),
        x=tuple(np.round(plane.points[:, 0].astype(float), 3).tolist()),
        y=tuple(np.round(plane.points[:, 1].astype(float), 3).tolist()),
        truth=tuple(layer.labels.tolist()),
        predicted=tuple(subject.predicted[rows].tolist()),
        confidence=tuple(np.round(subject.probabilities[rows].max(1), 4).tolist()),
        names=tuple(subject.names[i] for i in rows.tolist()),
        classes=subject.classes,
        thumbs=THUMBS,
        side=sheet.side,
        across=sheet.across,
    )
