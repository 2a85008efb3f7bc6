"""Look for images that two parts of the data share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from octavo.data.store import Pixels
from octavo.leaks.candidates import Squares, guesses, nearest
from octavo.leaks.detail import levels_of
from octavo.leaks.kinds import kind_of
from octavo.leaks.leak import Leak
from octavo.leaks.limit import residual_limit
from octavo.leaks.register import register
from octavo.leaks.thumbs import LARGE, SMALL, Thumbs, thumbs_of
from octavo.leaks.views import Frame, corners, crops, quarters, whole
from octavo.progress import Progress, silent

ORDER = ("val", "test", "validation", "holdout", "fit", "train")
"""Parts in the order in which one is looked for in those behind it; others come first, by name."""
SIMILAR = {SMALL: (0.81, 0.81), LARGE: (0.6, 0.75)}
"""Side of the squares → similarity of near-duplicates at least: of whole images, and of those that share a part."""
DIFFERENT = {SMALL: 0.42, LARGE: 0.35}
"""Side of the squares → residual of near-duplicates at most: see `Fits.residual`."""
LEAST = 32
"""Pixels of the shorter side below which images, most of them, show too little to tell copies from what looks alike."""
_TEXTURED = 0.01  # mean square of texture below which a pair is too flat to be told from others
_WHOLE = 0.75  # share of an image's area from which it counts as shown whole: it may be cut to 80 %
_BATCH = 256
_NEIGHBOURS = 4  # by the features that are given
RULE = (
    "Images that are one picture: every image of one part is compared with every image of another as it is, mirrored "
    "and cut to 80 % or more, in coarse cosine waves of its grey values; likely pairs are laid over each other, and "
    f"count if their texture has a similarity of {SIMILAR[SMALL][0]} or more ({SIMILAR[LARGE][0]} for images of "
    f"{LARGE} pixels or more, {SIMILAR[LARGE][1]} if they share a part) and if at most {DIFFERENT[LARGE]:.0%} "
    f"({DIFFERENT[SMALL]:.0%} below {LARGE} pixels) of the amplitude of their detail differs by more than noise, less "
    "where unrelated images of the data look alike. Images of "
    f"{LARGE} pixels or more that are all of one size are also compared as tiles that share half of their area. "
    f"Images without texture, and all of data that are mostly below {LEAST} pixels a side, count only if equal."
)
"""How leaks are found, in a few sentences."""


@dataclass(frozen=True)
class _Way:
    """A way to search.

    Attributes:
        frames: views of the first images, and of the second.
        most: likely near-duplicates of an image that are looked at closely.
        likely: likeness of views from which they are.
        guesses: places from which two are laid over each other.
        mirror: whether it is another way with the images changed over, which finds nothing more in one part.
        sided: whether a pair found from its first image needn't be looked at from its second one.
    """

    frames: tuple[Frame, Frame]
    most: int = 4
    likely: float = 0.7
    guesses: int = 1
    mirror: bool = False
    sided: bool = False


@dataclass(frozen=True, eq=False)
class _Found:
    """The best fit of one pair so far."""

    similarity: float
    residual: float
    flips: int
    scale: tuple[float, float]
    shift: tuple[float, float]


def find_leaks(
    pixels: Pixels,
    parts: Mapping[str, np.ndarray],
    *,
    features: np.ndarray | None = None,
    within: bool = False,
    progress: Progress = silent,
) -> tuple[Leak, ...]:
    """Return pairs of images of different parts that are one picture, the most similar first.

    Of an image that has many near-duplicates, at least the most similar is returned. Time grows with the product of
    the parts' sizes, memory with their sum.

    Args:
        pixels: the decoded images of all files.
        parts: name → places among them, int [n]; broken images are passed over.
        features: float [N,F] of all files, if a frozen network gave some: its nearest neighbours are looked at too.
        within: whether those in one part are returned as well.
        progress: told how far it is.
    """
    places = {name: _sound(pixels, index) for name, index in parts.items()}
    places = {name: index for name, index in places.items() if len(index)}
    chosen = np.unique(np.concatenate(list(places.values()))) if places else np.empty(0, np.int64)
    if len(chosen) < 2:
        return ()
    thumbs = thumbs_of(pixels, chosen, progress)
    names = sorted(places, key=lambda name: (ORDER.index(name) if name in ORDER else -1, name))
    rows = {name: np.searchsorted(chosen, places[name]) for name in names}
    known = None if features is None else np.asarray(features)[chosen]
    found = dict.fromkeys(_exact(thumbs, rows, within))
    pairs = [(rows[name], np.concatenate([rows[n] for n in names[i + 1 :]]), False)
             for i, name in enumerate(names[:-1])]  # fmt: skip
    pairs += [(rows[name], rows[name], True) for name in names] if within else []
    if np.median(pixels.sizes[chosen].min(1)) < LEAST:
        pairs = []
    near = _near(thumbs, pairs, _searches(pixels, chosen, thumbs), known, progress)
    leaks = [Leak(int(chosen[a]), int(chosen[b]), "exact", 1.0) for a, b in found]
    leaks += [
        Leak(
            int(chosen[a]),
            int(chosen[b]),
            kind_of(pixels.image(int(chosen[a])), pixels.image(int(chosen[b])), fit.flips, fit.scale, fit.shift),
            round(fit.similarity, 4),
        )
        for (a, b), fit in near.items()
        if thumbs.names[a] != thumbs.names[b] and not _better(near.get((b, a)), fit, a < b)
    ]
    return tuple(sorted(leaks, key=lambda leak: (-leak.similarity, leak.first, leak.second)))


def _better(other: _Found | None, fit: _Found, first: bool) -> bool:
    """Whether a pair that was found from either of its images has a better fit from the other one."""
    return other is not None and (other.similarity, not first) > (fit.similarity, first)


def _sound(pixels: Pixels, index: np.ndarray) -> np.ndarray:
    index = np.unique(np.asarray(index, np.int64))
    return index[~np.isin(index, np.array(sorted(pixels.broken), np.int64))]


def _exact(thumbs: Thumbs, rows: Mapping[str, np.ndarray], within: bool) -> Iterator[tuple[int, int]]:
    """Give every image with its first equal one in each of the parts behind its own."""
    first: dict[str, dict[bytes, int]] = {
        name: {thumbs.names[i]: int(i) for i in index[::-1]} for name, index in rows.items()
    }
    for name, other in combinations(rows, 2):
        for i in rows[name].tolist():
            if (same := first[other].get(thumbs.names[i])) is not None:
                yield i, same
    for name in rows if within else ():
        for i in rows[name].tolist():
            if (same := first[name][thumbs.names[i]]) < i:
                yield same, i


def _searches(pixels: Pixels, chosen: np.ndarray, thumbs: Thumbs) -> list[_Way]:
    """Return the ways to search: one cut out of the other, either way, and tiles that overlap."""
    ways = [_Way((whole(), crops())), _Way((crops(), whole()), mirror=True)]
    tiles = len(np.unique(pixels.sizes[chosen], axis=0)) == 1 and thumbs.side == LARGE
    return [*ways, _Way((quarters(), corners()), most=8, likely=0.5, guesses=4, sided=True)] if tiles else ways


def _near(
    thumbs: Thumbs,
    pairs: list[tuple[np.ndarray, np.ndarray, bool]],
    ways: list[_Way],
    features: np.ndarray | None,
    progress: Progress,
) -> dict[tuple[int, int], _Found]:
    """Return the best fit of each pair that is similar enough, by the rows of its images."""
    total = len(ways) * sum(len(a) + len(b) for a, b, _ in pairs)
    found: dict[tuple[int, int], _Found] = {}
    done = 0

    def tick(more: int) -> None:
        nonlocal done
        done += more
        progress("look for leaks: compare", min(done, total), total)

    for a, b, same in pairs:
        likely = np.empty((0, 2), np.int64) if features is None else _neighbours(features, a, b, same)
        for way in ways:
            if same and way.mirror:
                continue
            best = nearest(_squares(thumbs, a), _squares(thumbs, b), way.frames, way.most, same=same, tick=tick)
            one, rank = np.nonzero(best.score >= way.likely)
            own = np.concatenate([np.stack([a[one], b[best.place[one, rank]]], axis=1), likely])
            if same and way.sided:
                own = np.unique(np.sort(own, axis=1), axis=0)
            _look_closely(thumbs, own, way, found)
    limit = residual_limit(np.array([fit.residual for fit in found.values()]), DIFFERENT[thumbs.side])
    return {pair: fit for pair, fit in found.items() if fit.residual <= limit}


def _neighbours(features: np.ndarray, a: np.ndarray, b: np.ndarray, same: bool) -> np.ndarray:
    """Return pairs of rows, int [p,2]: each image of `a` and its nearest of `b` by the angle between features."""
    count = min(_NEIGHBOURS + same, len(b))
    near = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(features[b])
    others = b[near.kneighbors(features[a], return_distance=False)]
    pairs = np.stack([np.repeat(a, count), others.ravel()], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def _look_closely(thumbs: Thumbs, pairs: np.ndarray, way: _Way, found: dict[tuple[int, int], _Found]) -> None:
    """Lay the images of each pair, int [p,2], over each other and keep those that agree, the best fit of each."""
    for start in range(0, len(pairs), _BATCH):
        sides = [np.unique(rows, return_inverse=True) for rows in pairs[start : start + _BATCH].T]
        one, two = (_squares(thumbs, rows) for rows, _ in sides)
        levels = levels_of(*one), levels_of(*two)
        for guess in guesses(one, two, (sides[0][1], sides[1][1]), way.frames, way.guesses):
            kept, fits = register(*levels, guess)
            least = np.where(fits.shared >= _WHOLE, *SIMILAR[thumbs.side])
            good = (fits.similarity >= least) & (fits.weight >= _TEXTURED)
            for k in np.flatnonzero(good).tolist():
                at = kept[k]
                pair = int(sides[0][0][guess.first[at]]), int(sides[1][0][guess.second[at]])
                fit = _Found(
                    float(fits.similarity[k]),
                    float(fits.residual[k]),
                    int(guess.flips[at]),
                    tuple(fits.scale[k]),
                    tuple(fits.shift[k]),
                )
                if pair not in found or found[pair].residual > fit.residual:
                    found[pair] = fit


def _squares(thumbs: Thumbs, rows: np.ndarray) -> Squares:
    return thumbs.grey[rows], thumbs.noise[rows]
