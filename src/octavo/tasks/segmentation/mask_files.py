"""Files of predicted masks: found in a folder, and matched to the images of a truth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from octavo.data.matching import IMAGE_TAILS, MASK_TAILS
from octavo.data.pairs import Pairs
from octavo.data.walk import natural, one_line, walk
from octavo.errors import UserError
from octavo.tasks.prediction_names import UNKNOWN, TruthNames, composed, in_another_folder
from octavo.words import counted

_SHOWN = 3
_OVERLAY = "_overlay"
_TAIL = re.compile(
    rf"(.+?)[ _.-](?:{'|'.join((*IMAGE_TAILS, *MASK_TAILS, 'pred', 'predicted', 'prediction'))})", re.IGNORECASE
)
_WORDS = {UNKNOWN: "belong to no image"}


@dataclass(frozen=True)
class MatchedMasks:
    """The predicted masks of a folder, by the images that they belong to.

    Attributes:
        files: place of an image → its mask, in the order of the images.
        ways: how many were found by `path`, `end of path` and `name`.
        warnings: what a reader of a score must know.
    """

    files: dict[int, Path]
    ways: dict[str, int]
    warnings: tuple[str, ...]


def match_masks(folder: Path, pairs: Pairs, part: NDArray[np.int64], name: str) -> MatchedMasks:
    """Return which predicted mask of a folder belongs to which image of a part of the truth.

    Raises:
        UserError: no masks, or one that belongs to no image, to one of another split, to several, or to one that has
            one already.
    """
    files = _masks_in(folder)
    example = f"{PurePosixPath(_bare(_stem(pairs.files[part[0]]))).name}.png"
    if not files:
        raise UserError(f'{folder}: no predicted masks; expected one an image of {name}, such as "{example}"')
    index = TruthNames.of([_spellings(pairs, i) for i in range(len(pairs.files))], part.tolist())
    found: dict[int, str] = {}
    ways: Counter[str] = Counter()
    wrong: dict[str, list[str]] = {}
    for file in files:
        image, how = index.find(_of_prediction(folder, file))
        if image is None:
            wrong.setdefault(_WORDS.get(how, how), []).append(file)
        elif image in found:
            wrong.setdefault(f'belong to an image that has one already ("{found[image]}")', []).append(file)
        else:
            found[image] = file
            ways[how] += 1
    for why, bad in wrong.items():
        raise UserError(
            one_line(f"{folder}: {len(bad)} of {len(files)} predictions {why}: {some(bad)}; expected one for each "
                     f'image of {name} in {pairs.root}, named like "{example}"; remove or rename the others')
        )  # fmt: skip
    return MatchedMasks({i: folder / found[i] for i in sorted(found)}, dict(ways), _astray(found, pairs))


def some(names: Sequence[str]) -> str:
    """Return a few of some names, for a message."""
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _masks_in(folder: Path) -> list[str]:
    """Return the masks in a folder, looked through whole, without overlays that lie beside them."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a folder of predicted masks, one an image")
    files = sorted(walk(folder), key=natural)
    stems = {_stem(file) for file in files}
    return [f for f in files if not (_stem(f).endswith(_OVERLAY) and _stem(f).removesuffix(_OVERLAY) in stems)]


def _spellings(pairs: Pairs, i: int) -> list[set[str]]:
    """Return the names of an image and its mask: without ending, then without the word that says what a file is."""
    stems = {_stem(pairs.files[i]), _stem(pairs.masks[i])}
    return [stems, {_bare(stem) for stem in stems}]


def _of_prediction(folder: Path, file: str) -> list[list[str]]:
    """Return the names of a prediction; what it lies in tells more, as far as the folder's own name."""
    stem = _stem(f"{folder.resolve().name}/{file}")
    return [[stem], [stem, _bare(stem)]]


def _stem(file: str) -> str:
    return composed(str(PurePosixPath(file).with_suffix("")))


def _bare(stem: str) -> str:
    """Return a stem without the word that says what the file is: `val/0010_sat` → `val/0010`."""
    path = PurePosixPath(stem)
    hit = _TAIL.fullmatch(path.name)
    return str(path.with_name(hit[1])) if hit else stem


def _astray(found: dict[int, str], pairs: Pairs) -> tuple[str, ...]:
    """Say which predictions lie in another folder than their image and its mask do."""
    astray = [
        file
        for i, file in found.items()
        if in_another_folder(file, pairs.files[i]) and in_another_folder(file, pairs.masks[i])
    ]
    if not astray:
        return ()
    lie = "lies" if len(astray) == 1 else "lie"
    return (
        f"{counted(len(astray), 'prediction')} {lie} in another folder than the image of this file name does: "
        f"{some(astray)}: matched by name alone",
    )
