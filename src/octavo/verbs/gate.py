"""Images that training and scoring share: looked for before the first step, and told beside every number."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from octavo.cache import locked, mark_used, note_facts, source_of
from octavo.engine.folder import RunFolder
from octavo.engine.material import Material
from octavo.files import write_atomic
from octavo.leaks.find import RULE, find_leaks
from octavo.numbers.results import Interval, WithoutTwins
from octavo.progress import Progress, Say
from octavo.words import counted

TRAINED = ("fit", "holdout")
"""Parts that weights, epochs or the ensemble were fitted on."""
_PAIRS = "pairs.json"
_SHOWN = 3
_Pair = tuple[int, int, str, float]
"""Places of two images among all files, a key of `KINDS`, and how similar they are."""


def gate(run: RunFolder, material: Material, cache: Path, progress: Progress, say: Say) -> None:
    """Look for images that training and scoring share, say which, and keep them in the run's `leaks.json`.

    Data that were searched before, with the same split, are not searched again.
    """
    found = run.leaks
    if found is None:
        run.leaks = found = _searched(material, cache, progress)
    for part in ("val", "test"):
        if twins := _twins(found, part):
            named = [f"{first} = {pair['second']} ({pair['kind']})" for first, pair in twins.items()]
            say(
                f"beware: {len(twins):,} of {counted(len(material.parts[part]), 'image')} of {part} are among the "
                f"training images too, as they are or nearly: {', '.join(named[:_SHOWN])}"
                f"{', …' if len(named) > _SHOWN else ''}; scores are told with and without them"
            )


def _searched(material: Material, cache: Path, progress: Progress) -> dict[str, Any]:
    """Return what `leaks.json` holds."""
    parts = {name: material.parts[name] for name in ("val", "test") if len(material.parts.get(name, ()))}
    parts["train"] = np.sort(np.concatenate([material.parts[part] for part in TRAINED]))
    rows = material.rows

    def one(first: int, second: int, kind: str, similarity: float) -> dict[str, Any]:
        files = {"first": rows[first]["file"], "second": rows[second]["file"]}
        of = {"first_part": rows[first]["part"], "second_part": rows[second]["part"]}
        return files | of | {"kind": kind, "similarity": similarity}

    return {
        "format": 1,
        "rule": RULE,
        "searched": {name: len(places) for name, places in parts.items()},
        "pairs": [one(*pair) for pair in _pairs(material, parts, cache, progress)],
    }


def _pairs(material: Material, parts: Mapping[str, np.ndarray], cache: Path, progress: Progress) -> list[_Pair]:
    """Return the pairs that parts share, the most similar first, from the cache where they are there."""
    digest = hashlib.sha256(f"{material.pixels.digest} {RULE}".encode())
    for name, places in parts.items():
        digest.update(f" {name} ".encode() + np.asarray(places, np.int64).tobytes())
    key = digest.hexdigest()[:20]
    folder = cache / "leaks" / key
    with locked(cache, f"leaks-{key}"):
        if (folder / _PAIRS).is_file():
            mark_used(folder)
            known = json.loads((folder / _PAIRS).read_text(encoding="utf-8"))
            return [(first, second, kind, similarity) for first, second, kind, similarity in known]
        leaks = find_leaks(material.pixels, parts, progress=progress)
        pairs = [(leak.first, leak.second, leak.kind, leak.similarity) for leak in leaks]
        folder.mkdir(parents=True, exist_ok=True)
        note_facts(
            folder,
            source=source_of(material.pixels.folder),
            images=sum(map(len, parts.values())),
            what=" and ".join(parts),
        )
        write_atomic(folder / _PAIRS, json.dumps(pairs).encode())
    return pairs


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
    some = (
        f"{counted(found.twins, 'scored image')} {'is' if found.twins == 1 else 'are'} among the training images too, "
    )
    some += "as they are or nearly"
    if headline not in found.metrics:
        return (f"{some}; no image is left without",)
    clean = found.metrics[headline]
    ends = f" [{clean.low:.4f}, {clean.high:.4f}]" if clean.low is not None and clean.high is not None else ""
    return (f"{some}; on the {counted(found.n, 'image')} without such a twin {title} is {clean.value:.4f}{ends}",)
