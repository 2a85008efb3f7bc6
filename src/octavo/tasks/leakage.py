"""Images that training and scoring share: looked for before the first step, and told beside every number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from octavo.engine.folder import RunFolder
from octavo.engine.identity import TRAINED
from octavo.engine.material import Material
from octavo.errors import Damaged
from octavo.leaks.duration import search_seconds
from octavo.leaks.find import RULE
from octavo.leaks.leak import Leak
from octavo.leaks.search import MOST, comparisons, search, searched
from octavo.numbers.results import Interval, WithoutTwins
from octavo.progress import Progress, Say
from octavo.words import counted

_SHOWN = 3


def gate(run: RunFolder, material: Material, cache: Path, asked: bool | None, progress: Progress, say: Say) -> None:
    """Look for images that training and scoring share, say which, and keep them in the run's `leaks.json`.

    Args:
        run: its folder, begun.
        material: what it is trained on.
        cache: folder in which data that were searched before are found.
        asked: whether to look; None: unless that takes long.
        progress: told how far it is.
        say: told what was found, or why nobody looked.

    Raises:
        UserError: the cache can't be written.
    """
    found = _known(run, say)
    if found is None:
        parts = _searched_parts(material)
        if asked is False:
            return
        if asked is None and _pairs(parts) > MOST:
            say(f"note: {_pairs(parts):,} pairs of images are too many to look for leaks in passing; --leaks does")
            return
        found = _found(material, parts, search(material.pixels, material.samples, parts, cache, progress=progress))
        run.leaks = found
    for part in ("val", "test"):
        if twins := _twins(found, part):
            named = [f"{first} = {pair['second']} ({pair['kind']})" for first, pair in twins.items()]
            say(
                f"beware: {len(twins):,} of {counted(len(material.parts[part]), 'image')} of {part} have a twin, or "
                f"what looks like one, among the training images: {', '.join(named[:_SHOWN])}"
                f"{', …' if len(named) > _SHOWN else ''}; scores are told with and without them"
            )


def gate_seconds(material: Material, cache: Path, asked: bool | None) -> float:
    """Return roughly how long `gate` will search: nothing where it won't, or where the cache has the answer."""
    parts = _searched_parts(material)
    if asked is False or (asked is None and _pairs(parts) > MOST):
        return 0.0
    if searched(material.pixels, material.samples, parts, cache):
        return 0.0
    return search_seconds(material.pixels, parts)


def _pairs(parts: Mapping[str, np.ndarray]) -> int:
    return comparisons({name: len(places) for name, places in parts.items()})


def _known(run: RunFolder, say: Say) -> dict[str, Any] | None:
    """Return what was found before; a damaged file is told, and searched for anew."""
    try:
        return run.leaks
    except Damaged as error:
        say(f"note: {error}")
        return None


def _searched_parts(material: Material) -> dict[str, np.ndarray]:
    """Return what is compared with each other: what is scored, and all that training saw."""
    parts = {name: material.parts[name] for name in ("val", "test") if len(material.parts.get(name, ()))}
    return parts | {"train": np.sort(np.concatenate([material.parts[part] for part in TRAINED]))}


def _found(material: Material, parts: Mapping[str, np.ndarray], leaks: Iterable[Leak]) -> dict[str, Any]:
    """Return what `leaks.json` holds."""
    rows = material.rows

    def one(leak: Leak) -> dict[str, Any]:
        first, second = rows[leak.first], rows[leak.second]
        return {
            "first": first["file"],
            "first_part": first["part"],
            "second": second["file"],
            "second_part": second["part"],
            "kind": leak.kind,
            "similarity": leak.similarity,
        }

    searched = {name: len(places) for name, places in parts.items()}
    return {"format": 1, "rule": RULE, "searched": searched, "pairs": [one(leak) for leak in leaks]}


def _twins(found: Mapping[str, Any], part: str) -> dict[str, Mapping[str, Any]]:
    """Return each image of a part that training had too → the pair with its most similar twin."""
    twins: dict[str, Mapping[str, Any]] = {}
    for pair in found["pairs"]:  # the most similar first
        if pair["first_part"] == part and pair["second_part"] in TRAINED:
            twins.setdefault(pair["first"], pair)
    return twins


def alone(run: RunFolder, part: str) -> tuple[np.ndarray, dict[str, int]] | None:
    """Return which images of a run's part have no twin among the training images, bool [n], and the kinds of twins.

    None where nobody looked, where the part itself was trained on, or where it is no part.
    """
    found = run.leaks
    if found is None or part not in found["searched"]:
        return None
    twins = _twins(found, part)
    kinds = Counter(str(pair["kind"]) for pair in twins.values())
    return np.array([file not in twins for file in run.files(part)], bool), dict(kinds.most_common())


def without_twins(
    own: np.ndarray, kinds: Mapping[str, int], metrics: Mapping[str, Interval], rule: str
) -> WithoutTwins:
    """Return the numbers on the images `own`, bool [n], that have no twin."""
    count = int(own.sum())
    return WithoutTwins(twins=len(own) - count, kinds=dict(kinds), n=count, metrics=dict(metrics), rule=rule)


def told(found: WithoutTwins, headline: str, title: str) -> tuple[str, ...]:
    """Return what to beware of, with the headline on the other images; nothing where there are no twins."""
    if not found.twins:
        return ()
    have = "has" if found.twins == 1 else "have"
    some = f"{counted(found.twins, 'scored image')} {have} a twin, or what looks like one, among the training images"
    if headline not in found.metrics:
        return (f"{some}; no image is left without",)
    clean = found.metrics[headline]
    ends = f" [{clean.low:.4f}, {clean.high:.4f}]" if clean.low is not None and clean.high is not None else ""
    return (f"{some}; on the {counted(found.n, 'image')} without such a twin {title} is {clean.value:.4f}{ends}",)
