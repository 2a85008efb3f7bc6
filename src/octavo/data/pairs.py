"""Pairs: the images and masks of one data set, and its splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from octavo.data.choosing import choose
from octavo.data.matching import PairsFound
from octavo.data.pair_readers import PAIR_READERS, PAIR_TASK, PairReader, from_table
from octavo.data.samples import SPLITS, Problem, drawn, drawn_groups, group_problems, units_of
from octavo.data.unread import unread_below
from octavo.data.walk import natural, one_line
from octavo.errors import UserError

__all__ = ["PAIR_READERS", "MaskFiles", "PairReader", "Pairs", "read_pairs"]


@dataclass(frozen=True, eq=False)
class MaskFiles:
    """The masks of Pairs as files of their own, in the order of the images (a `store.Files`)."""

    root: str
    folder: str
    files: tuple[str, ...]

    def path(self, index: int) -> Path:
        """Return where the mask of image `index` lies."""
        return Path(self.folder or self.root) / self.files[index]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images and their masks, in natural order of the images' paths.

    `files` and `masks` are POSIX paths relative to `folder` (to `root`, which the user named, if empty), one mask to an
    image; an image's path is its id in all outputs. `splits` maps "train", "val", "test" to ascending int64 indices;
    `own_split` is False when the data come without a validation part: then `splits` has no "val" until `with_val`
    makes one. `lone_images` and `lone_masks` are all files without a partner; they are in neither list. `groups` names
    what each image is one of several of (a scene): a group is never divided. An image whose name is "" is a group of
    its own; without any groups the tuple is empty.
    `unread` says in a line how many files lie there that aren't read, by their endings; empty where there is none.
    """

    root: str
    layout: str
    files: tuple[str, ...]
    masks: tuple[str, ...]
    splits: Mapping[str, np.ndarray]
    own_split: bool
    problems: tuple[Problem, ...] = ()
    folder: str = ""
    lone_images: tuple[str, ...] = ()
    lone_masks: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    unread: str = ""

    def path(self, index: int) -> Path:
        """Return where image `index` lies."""
        return Path(self.folder or self.root) / self.files[index]

    def mask_path(self, index: int) -> Path:
        """Return where the mask of image `index` lies."""
        return Path(self.folder or self.root) / self.masks[index]

    @property
    def mask_files(self) -> MaskFiles:
        """The masks as files of their own."""
        return MaskFiles(self.root, self.folder, self.masks)

    def with_val(self, share: float, seed: int) -> Pairs:
        """Return a copy whose "val" is split off "train": a function of `seed` and file names alone.

        share·n of n images (rounded, at least 1, at most n - 1) go to "val"; where the data have groups, whole groups.

        Raises:
            UserError: when there are fewer than two training images.
        """
        fit, held = self._divide(share, f"val:{seed}")
        return replace(self, splits={**self.splits, "train": fit, "val": held})

    def holdout(self, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (fit, held out) indices of the training part, divided as in `with_val`; share 0 holds nothing out.

        Raises:
            UserError: when there are fewer than two training images.
        """
        return self._divide(share, f"holdout:{seed}")

    def _divide(self, share: float, key: str) -> tuple[np.ndarray, np.ndarray]:
        train = np.asarray(self.splits["train"], dtype=np.int64)
        if self.groups:
            held = sorted(
                drawn_groups(train, units_of(self.groups, self.files), np.zeros(len(self.files), np.int64), share, key)
            )
        else:
            held = sorted(drawn(train.tolist(), self.files, share, key))
        held = np.array(held, dtype=np.int64)
        if share > 0 and not len(held):
            whole = " of one group" if self.groups else ""
            raise UserError(f"{self.root}: {len(train)} training images{whole}, so none can be split off; add images")
        return np.setdiff1d(train, held), held


def read_pairs(
    data: str | Path, layout: str | None = None, columns: str | None = None, *, strict: bool = True
) -> Pairs:
    """Read a folder or table of images and masks; without `layout` (a key of PAIR_READERS) it is found by looking.

    `columns` says what is what in a table, as in `image=img,mask=gt`. With `strict=False` fatal problems are listed in
    `problems` instead of raised, for `octavo check`.

    Raises:
        UserError: when it isn't there, no layout or more than one fits, or something in it makes training unsafe.
    """
    root = Path(data)
    choice = choose(root, layout, columns, PAIR_TASK)
    found = from_table(choice.table, root) if choice.table else choice.content
    assert found is not None
    found.problems.extend(choice.problems)
    pairs = _ordered(str(data), choice.layout, found)
    fatal = next((p for p in pairs.problems if p.fatal), None)
    if strict and fatal:
        raise UserError(one_line(fatal.text))
    return pairs


def _ordered(root: str, layout: str, found: PairsFound) -> Pairs:
    """Return the Pairs of what was found; those without a split are training images."""
    pairs = sorted(found.pairs, key=lambda p: natural(p.image))
    own = np.array([p.split or "train" for p in pairs], dtype=object)
    problems = list(found.problems)
    if not (own == "train").any() and not any(p.fatal for p in problems):
        problems.append(Problem(f"{root}: no training images with masks found", fatal=True))
    splits = {split: np.flatnonzero(own == split) for split in SPLITS if split == "train" or (own == split).any()}
    groups = tuple(p.group for p in pairs) if any(p.group for p in pairs) else ()
    problems += group_problems(root, groups, splits)
    return Pairs(
        root,
        layout,
        tuple(p.image for p in pairs),
        tuple(p.mask for p in pairs),
        splits,
        "val" in splits,
        tuple(problems),
        str(found.folder),
        tuple(found.lone_images),
        tuple(found.lone_masks),
        groups,
        unread_below([Path(root)], found.tables) if Path(root).is_dir() else "",
    )
