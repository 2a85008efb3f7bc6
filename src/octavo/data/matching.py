"""Images and masks matched by their names: by stem, without the word that says which is which."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from octavo.data.samples import Problem
from octavo.data.walk import natural
from octavo.errors import suggest

IMAGE_TAILS = ("sat", "image", "img", "rgb", "photo", "input", "leftImg8bit")
"""Words at the end of an image's stem that its mask doesn't have, in any case."""
MASK_TAILS = ("mask", "masks", "label", "labels", "lbl", "seg", "segmentation", "gt", "ground_truth", "annot",
              "annotation", "gtFine_labelIds", "gtFine_labelTrainIds", "gtFine_color", "gtFine_instanceIds",
              "gtCoarse_labelIds", "gtCoarse_labelTrainIds", "gtCoarse_color", "gtCoarse_instanceIds")  # fmt: skip
"""Words at the end of a mask's stem that its image doesn't have, in any case."""

Key = Callable[[str], str]


def _tail(words: Sequence[str]) -> re.Pattern[str]:
    return re.compile(rf"(.+?)[ _.-](?:{'|'.join(words)})", re.IGNORECASE | re.DOTALL)


_IMAGE, _MASK, _MASK_OR_L = _tail(IMAGE_TAILS), _tail(MASK_TAILS), _tail((*MASK_TAILS, "L"))


def _stem(name: str) -> str:
    return unicodedata.normalize("NFC", str(PurePosixPath(name).with_suffix("")))  # macOS archives write é as e and ´


def _without(tail: re.Pattern[str]) -> Key:
    def bare(name: str) -> str:
        stem = PurePosixPath(_stem(name))
        hit = tail.fullmatch(stem.name)
        return str(stem.with_name(hit[1])) if hit else str(stem)

    return bare


def is_tailed(name: str) -> bool:
    """Tell whether a file is a mask by the last word of its name, as in `0000_mask.png`."""
    return bool(_MASK.fullmatch(PurePosixPath(_stem(name)).name))


def masks_beside(names: Sequence[str]) -> set[str]:
    """Return those of the files of one folder that are the mask of another one there, as in `0000_mask.png`."""
    masks = {name: _without(_MASK)(name) for name in names if is_tailed(name)}
    images = {key for name in names if name not in masks for key in (_stem(name), _without(_IMAGE)(name))}
    return {name for name, key in masks.items() if key in images}


TOGETHER = ((_stem, _without(_MASK)), (_without(_IMAGE), _without(_MASK)))
"""How the names of an image and a mask become one key, where both lie in one folder; the first that fits counts."""
APART = ((_stem, _stem), (_stem, _without(_MASK_OR_L)), (_without(_IMAGE), _without(_MASK_OR_L)))
"""The same where images and masks have folders of their own; there CamVid's own `…_L.png` is a mask too."""


@dataclass(frozen=True)
class Group:
    """Images and masks among which partners are sought: name within its folder -> path relative to the data set."""

    split: str | None
    images: Mapping[str, str]
    masks: Mapping[str, str]


@dataclass(frozen=True)
class Pair:
    """An image and its mask as a layout tells them: paths relative to the folder, canonical split or None, group."""

    image: str
    mask: str
    split: str | None = None
    group: str = ""


@dataclass(frozen=True)
class PairsFound:
    """What a reader found: pairs in no special order, problems, the folder, files without a partner, tables read."""

    pairs: list[Pair]
    problems: list[Problem]
    folder: Path
    lone_images: list[str] = field(default_factory=list)
    lone_masks: list[str] = field(default_factory=list)
    tables: tuple[Path, ...] = ()


def overlap(group: Group, keys: Sequence[tuple[Key, Key]]) -> bool:
    """Tell whether any image of a group has a mask in it."""
    masks = {(place, key(name).casefold()) for place, (_, key) in enumerate(keys) for name in group.masks}
    heads = ((place, key(name).casefold()) for place, (key, _) in enumerate(keys) for name in group.images)
    return bool(masks) and any(head in masks for head in heads)


def partners(
    root: Path, groups: Sequence[Group], keys: Sequence[tuple[Key, Key]], problems: Sequence[Problem] = ()
) -> PairsFound:
    """Return the pairs in all groups, and what is wrong: images without mask, masks without image, and more than one.

    An image without mask is fatal, except in test; it and a mask without image are left out otherwise.
    """
    found = PairsFound([], list(problems), root)
    image_of: dict[str, str] = {}
    lone: list[tuple[Group, list[str]]] = []
    for group in groups:
        pairs, doubled, left = _match(group, keys)
        doubled += [([image_of[p.mask], p.image], [p.mask]) for p in pairs if p.mask in image_of]
        image_of |= {p.mask: p.image for p in pairs} | {mask: images[0] for images, own in doubled for mask in own}
        found.pairs.extend(pairs)
        found.problems.extend(_several(root, images, own) for images, own in doubled)
        found.lone_images.extend(left)
        lone += [(group, left)] if left else []
    masks = {mask for group in groups for mask in group.masks.values()}
    spare = sorted(masks - image_of.keys(), key=natural)
    found.lone_masks.extend(spare)
    found.problems.extend(without_mask(root, group.split, left, len(group.images), spare) for group, left in lone)
    if spare:
        found.problems.append(Problem(f"{root}: {len(spare)} of {len(masks)} masks have no image: {_some(spare)}; "
                                      "left out"))  # fmt: skip
    return found


def _match(
    group: Group, keys: Sequence[tuple[Key, Key]]
) -> tuple[list[Pair], list[tuple[list[str], list[str]]], list[str]]:
    """Return pairs, those of which there is more than one to a key, and images without mask (paths)."""
    images, masks = dict(group.images), dict(group.masks)
    pairs: list[Pair] = []
    doubled: list[tuple[list[str], list[str]]] = []
    folds: tuple[Key, ...] = (str, str.casefold)
    for fold in folds:
        for image_key, mask_key in keys:
            heads, others = _by(images, image_key, fold), _by(masks, mask_key, fold)
            for key in heads.keys() & others.keys():
                files, answers = [images.pop(n) for n in heads[key]], [masks.pop(n) for n in others[key]]
                if len(files) == len(answers) == 1:
                    pairs.append(Pair(files[0], answers[0], group.split))
                else:
                    doubled.append((sorted(files, key=natural), sorted(answers, key=natural)))
    return pairs, sorted(doubled, key=lambda d: natural(d[0][0])), sorted(images.values(), key=natural)


def _by(names: Iterable[str], key: Key, fold: Key) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(fold(key(name)), []).append(name)
    return grouped


def _several(root: Path, images: Sequence[str], masks: Sequence[str]) -> Problem:
    if len(images) > 1:
        text = f"mask {masks[0]} may belong to {_some(images)}; rename or remove all images but one"
    else:
        text = f"image {images[0]} has {len(masks)} masks: {_some(masks)}; keep one of them here"
    return Problem(f"{root}: {text}", fatal=True)


def without_mask(
    root: Path, split: str | None, images: Sequence[str], count: int, spare: Sequence[str] = ()
) -> Problem:
    """Say that `images`, of `count` in their split, have no mask; one of `spare` masks may be meant for the first."""
    near = suggest(images[0], spare)
    near = f" (is it {near.removeprefix('; did you mean ').removesuffix('?')}?)" if "did you mean" in near else ""
    advice = "left out" if split == "test" else "add the masks, or move these images elsewhere"
    return Problem(f"{root}: {len(images)} of {count} images {f'in {split} ' if split else ''}have no mask: "
                   f"{_some(images)}{near}; {advice}", fatal=split != "test")  # fmt: skip


def _some(files: Sequence[str]) -> str:
    return ", ".join(files[:5]) + (", …" if len(files) > 5 else "")
