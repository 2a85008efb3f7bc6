"""Samples: the labelled images of one data set, their classes and splits."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from octavo.data.walk import natural
from octavo.errors import UserError, suggest
from octavo.words import counted

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Canonical split -> the names it goes by, in any case; a folder may add an ending, as in `train_50`."""
CANONICAL = {name: split for split, names in SPLITS.items() for name in names}
"""The same the other way round: any of the names -> canonical split."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data folder. A fatal one keeps it from being trained on."""

    text: str
    fatal: bool = False


@dataclass(frozen=True)
class Entry:
    """One image as a layout tells it: path relative to the folder, class name, canonical split or None, and group."""

    file: str
    name: str
    split: str | None = None
    group: str = ""


@dataclass(frozen=True)
class Found:
    """What a reader found: entries in no special order, problems, the folder the paths are relative to, tables read."""

    entries: list[Entry]
    problems: list[Problem]
    folder: Path
    tables: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled images of one data set: files in natural order, classes from the training part alone.

    `labels` is int64 [N], -1 where the class is unknown; `splits` maps "train", "val", "test" to ascending int64
    indices. `own_split` is False when the data come without a validation part: then `splits` has no "val" until
    `with_val` makes one. `root` is what the user named; `folder` is what `files` are relative to, `root` if empty.
    `groups` names what each image is one of several of (a patient, a scene): a group is never divided. An image whose
    name is "" is a group of its own; without any groups the tuple is empty.
    `unread` says in a line how many files lie there that aren't read, by their endings; empty where there is none.
    """

    root: str
    layout: str
    files: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: Mapping[str, np.ndarray]
    own_split: bool
    problems: tuple[Problem, ...] = ()
    folder: str = ""
    groups: tuple[str, ...] = ()
    unread: str = ""

    def path(self, index: int) -> Path:
        """Return where image `index` lies."""
        return Path(self.folder or self.root) / self.files[index]

    def with_val(self, share: float, seed: int) -> Samples:
        """Return a copy whose "val" is split off "train": stratified, a function of `seed` and file names alone.

        Of each class with n ≥ 2 images, share·n (rounded, at least 1, at most n - 1) go to "val"; a single one stays.
        Where the data have groups, whole groups go, see `drawn_groups`.

        Raises:
            UserError: when no class has two images, or all are of one group.
        """
        fit, held = self._divide(share, f"val:{seed}")
        return replace(self, splits={**self.splits, "train": fit, "val": held})

    def holdout(self, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (fit, held out) indices of the training part, divided as in `with_val`; share 0 holds nothing out.

        Raises:
            UserError: when no class has two images, or all are of one group.
        """
        return self._divide(share, f"holdout:{seed}")

    def folds(self, count: int, seed: int) -> np.ndarray:
        """Return the fold 0 … count−1 of each image, int64 [N], -1 outside of the training part.

        Stratified by class: the folds' shares of a class differ by one image at most. Each class's images are dealt in
        an order drawn from `seed` and file names. Whole groups are dealt by scikit-learn's StratifiedGroupKFold.

        Raises:
            UserError: fewer training images, or groups of them, than folds.
        """
        train = np.asarray(self.splits["train"], dtype=np.int64)
        whole = units_of(self.groups, self.files) if self.groups else ()
        units = len({whole[i] for i in train}) if whole else len(train)
        if units < count:
            what = "groups of training images" if whole else "training images"
            raise UserError(f"data.folds: {count} folds of {units} {what} in {self.root}; expected at most {units}")
        found = np.full(len(self.files), -1, np.int64)
        if whole:
            found[train] = _group_folds(self.labels[train], [whole[i] for i in train], count, seed)
            return found
        dealt = 0
        for label in np.unique(self.labels[train]):
            own = train[self.labels[train] == label].tolist()
            own.sort(key=lambda i: _draw(f"folds:{seed}", self.files[i]))
            found[own] = (dealt + np.arange(len(own))) % count
            dealt += len(own)
        return found

    def _divide(self, share: float, key: str) -> tuple[np.ndarray, np.ndarray]:
        train = np.asarray(self.splits["train"], dtype=np.int64)
        held: list[int] = []
        if self.groups:
            held = drawn_groups(train, units_of(self.groups, self.files), self.labels, share, key)
            if share > 0 and not held:
                raise UserError(f"{self.root}: no group of training images can be split off; each has all of a class")
        for label in np.unique(self.labels[train]) if not self.groups else ():
            held += drawn(train[self.labels[train] == label].tolist(), self.files, share, key)
        if share > 0 and not held:
            raise UserError(f"{self.root}: no class has two training images, so none can be split off; add images")
        chosen = np.array(sorted(held), dtype=np.int64)
        return np.setdiff1d(train, chosen), chosen


def drawn(indices: Sequence[int], files: Sequence[str], share: float, key: str) -> list[int]:
    """Return a share of `indices` (rounded, at least 1, at most all but one), chosen by `key` and file names alone."""
    count = min(max(int(share * len(indices) + 0.5), 1), len(indices) - 1) if share > 0 else 0
    return sorted(indices, key=lambda i: _draw(key, files[i]))[:count]


def units_of(groups: Sequence[str], files: Sequence[str]) -> tuple[str, ...]:
    """Return the name of each image's group, and for an image without one a name that no other image has."""
    return tuple(group or f"\0{file}" for group, file in zip(groups, files, strict=True))


def drawn_groups(indices: np.ndarray, groups: Sequence[str], labels: np.ndarray, share: float, key: str) -> list[int]:
    """Return the images of whole groups, about a share of `indices`, chosen by `key` and the groups' names alone.

    Groups are taken in a drawn order while that brings the number nearer to the share, the first one in any case; one
    without which a class of `labels` int [N] would be missing from the rest is passed over.
    """
    if share <= 0:
        return []
    members: dict[str, list[int]] = {}
    for i in map(int, indices):
        members.setdefault(groups[i], []).append(i)
    left = np.bincount(labels[indices])
    present, held, wanted = left > 0, 0, share * len(indices)
    taken: set[str] = set()
    for group in sorted(members, key=lambda name: _draw(key, name)):
        own = members[group]
        rest = left - np.bincount(labels[own], minlength=len(left))
        nearer = abs(held + len(own) - wanted) < abs(held - wanted)
        if not (rest[present] == 0).any() and (nearer or not taken):
            taken.add(group)
            left, held = rest, held + len(own)
    return [i for i in indices.tolist() if groups[i] in taken]


def _group_folds(labels: np.ndarray, groups: Sequence[str], count: int, seed: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import, and few need it

    found, ids = np.full(len(labels), -1, np.int64), {name: i for i, name in enumerate(dict.fromkeys(groups))}
    dealer = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a class has fewer images than there are folds
        for fold, (_, held) in enumerate(dealer.split(labels, labels, [ids[name] for name in groups])):
            found[held] = fold
    return found


def divided_groups(groups: tuple[str, ...], splits: Mapping[str, np.ndarray]) -> list[str]:
    """Return the named groups that lie in more than one split, in the order of their first image."""
    places: dict[str, set[str]] = {}
    for split, indices in splits.items():
        for i in indices if groups else ():
            if groups[i]:
                places.setdefault(groups[i], set()).add(split)
    return [group for group, found in places.items() if len(found) > 1]


def _draw(key: str, file: str) -> bytes:
    return hashlib.sha256(f"{key}:{file}".encode("utf-8", "surrogateescape")).digest()


def number(root: str, layout: str, found: Found) -> Samples:
    """Return the Samples of what was found: classes numbered by the training part, and what is amiss elsewhere.

    Entries without a split are training images. An image of a class that train lacks gets label -1 and a fatal problem.
    """
    entries = sorted(found.entries, key=lambda e: natural(e.file))
    own = [e.split or "train" for e in entries]
    trained = {e.name for e, split in zip(entries, own, strict=True) if split == "train"}
    classes = tuple(sorted(trained, key=natural))
    ids = {name: i for i, name in enumerate(classes)}
    problems = list(found.problems)
    if not classes and not any(p.fatal for p in problems):
        problems.append(Problem(f"{root}: no training images found", fatal=True))
    if len(classes) == 1:
        problems.append(Problem(f'{root}: only one class, "{classes[0]}"; a classifier needs two or more (is this the '
                                "folder that holds the classes?)", fatal=True))  # fmt: skip
    names_of: dict[str, dict[str, str]] = {}
    for entry, split in zip(entries, own, strict=True):
        names_of.setdefault(split, {}).setdefault(entry.name, entry.file)
    for split, names in names_of.items():
        for name in sorted(set(names) - trained, key=natural) if trained else ():
            problems.append(Problem(f'{root}: {split} has class "{name}" (first: {names[name]}), which train lacks'
                                    f"{suggest(name, classes)}; add it to train, or remove it from {split}",
                                    fatal=True))  # fmt: skip
        if lacking := sorted(trained - set(names), key=natural):
            listed = ", ".join(f'"{n}"' for n in lacking[:5]) + (", …" if len(lacking) > 5 else "")
            problems.append(Problem(f"{root}: {split} has no image of {len(lacking)} of {len(classes)} classes: "
                                    f"{listed}; their ids stay as they are"))  # fmt: skip
    files = tuple(e.file for e in entries)
    labels = np.array([ids.get(e.name, -1) for e in entries], dtype=np.int64)
    splits = {s: np.flatnonzero(np.array(own) == s) for s in SPLITS if s in names_of or s == "train"}
    groups = tuple(e.group for e in entries) if any(e.group for e in entries) else ()
    problems += group_problems(root, groups, splits)
    return Samples(
        root, layout, files, labels, classes, splits, "val" in splits, tuple(problems), str(found.folder), groups
    )


def emptied(before: np.ndarray, after: np.ndarray) -> list[int]:
    """Return the ids of the classes that had images before something was left out, and have none after it.

    `before` and `after` are how many images each class has, int64 [C].
    """
    return np.flatnonzero((before > 0) & (after == 0)).tolist()


def group_problems(root: str, groups: tuple[str, ...], splits: Mapping[str, np.ndarray]) -> list[Problem]:
    """Return what is amiss with groups: those that lie in two splits, which flatters the score."""
    divided = divided_groups(groups, splits)
    if not divided:
        return []
    listed = ", ".join(f'"{name}"' for name in divided[:5]) + (", …" if len(divided) > 5 else "")
    return [Problem(f"{root}: images of {counted(len(divided), 'group')} are in more than one split, which flatters "
                    f"the score: {listed}")]  # fmt: skip
