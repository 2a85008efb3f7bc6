"""Division of images with masks into the parts of a training, and the reasons for which they can't be trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from octavo.data.classes import ClassTable
from octavo.data.division import NAMES, Division, left, named, require_held_out, without
from octavo.data.fitting import shipped_tables
from octavo.data.pairs import Pairs
from octavo.data.similar_names import similar_names
from octavo.errors import UserError
from octavo.recipe import SegmentRecipe
from octavo.words import counted


@dataclass(frozen=True, eq=False)
class Shown:
    """Which classes masks show, and which of them nobody can tell.

    Attributes:
        table: the classes.
        broken: pairs of which the image or the mask can't be decoded.
        unread: those of them whose mask can't.
        of: place of a mask that can be decoded → which classes it shows, bool [C].
    """

    table: ClassTable
    broken: frozenset[int]
    unread: frozenset[int]
    of: Callable[[int], np.ndarray]

    def by(self, masks: Iterable[int], enough: int | None = None) -> np.ndarray:
        """Return which classes at least one of these masks shows, bool [C]; `enough` of them end the search early.

        All of the masks can be decoded.
        """
        found = np.zeros(len(self.table.names), bool)
        for i in sorted(masks):
            if found.sum() >= (enough or len(found)):
                break
            found |= self.of(i)
        return found

    @property
    def own_table(self) -> bool:
        """Whether the table isn't a shipped one, which may list classes that the data never had."""
        return self.table != shipped_tables().get(self.table.name)


def divide_pairs(recipe: SegmentRecipe, pairs: Pairs, shown: Shown) -> Division:
    """Return the division of images with masks; pairs that are left out don't move the others into other parts.

    Raises:
        UserError: too few images, or a class that is left without pixels to train on, because pairs are left out.
    """
    fit, held = pairs.holdout(recipe.data.holdout, recipe.seed)
    whole = {"fit": fit, "holdout": held, "val": pairs.splits.get("val", np.empty(0, np.int64))}
    if "test" in pairs.splits:
        whole["test"] = pairs.splits["test"]
    parts = without(whole, set(shown.broken))
    if len(parts["fit"]) < 1 or not len(parts["val"]):
        raise UserError(
            f"{pairs.root}: {counted(len(parts['fit']), 'image')} to train on and {len(parts['val'])} to validate; "
            "expected at least 1 and 1"
        )
    require_held_out(pairs.root, recipe.data.holdout, whole["holdout"], parts["holdout"])
    given = recipe.train.class_weights
    if not isinstance(given, str) and len(given) != len(shown.table.names):
        raise UserError(f"train.class_weights: {len(given)} weights for {len(shown.table.names)} classes")
    warnings = [warning for part, own in whole.items() for warning in _without_pixels(pairs, part, own, shown)]
    if (seen := shown.by(parts["fit"].tolist(), enough=2)).sum() < 2:
        only = f'class "{shown.table.names[int(seen.argmax())]}" alone' if seen.any() else "no pixel of any class"
        raise UserError(f"{pairs.root}: the masks to train on show {only}; there is nothing to learn")
    return Division(parts, None, (*warnings, *similar_names(pairs.root, shown.table.names)))


def _without_pixels(pairs: Pairs, part: str, own: np.ndarray, shown: Shown) -> list[str]:
    """Say which classes have no pixels in a part `own`, int64 [n], because pairs are left out.

    What a mask that can't be decoded shows is unknown. It may be any class that other masks show, or that a table of
    the user's own lists.

    Raises:
        UserError: the part is trained on.
    """
    names, lost = shown.table.names, shown.broken.intersection(own.tolist())
    left_over = shown.by(set(own.tolist()) - lost) if lost else np.ones(len(names), bool)
    if left_over.all():
        return []
    gone, unread = shown.by(lost - shown.unread), lost & shown.unread
    if unread:
        elsewhere = shown.by(set(range(len(pairs.files))) - shown.unread)
        gone |= shown.table.scored & (elsewhere | shown.own_table)
    ids = np.flatnonzero(gone & ~left_over).tolist()
    few = f"{len(lost):,} of {counted(len(own), 'pair')} can't be decoded"
    if ids and part == "fit":
        raise UserError(
            f"{pairs.root}: {left(names, ids)} without pixels to train on: {few}, and no other mask shows "
            f"{'it' if len(ids) == 1 else 'them'}; mend these files, or remove them if they don't show it either "
            "(octavo check lists them)"
        )
    if ids:
        return [f"{left(names, ids)} without {NAMES[part]} pixels: {few}"]
    absent = np.flatnonzero(shown.table.scored & ~left_over).tolist()
    if part == "fit" and unread and absent:
        return [f"no mask that can be decoded shows {named(names, absent)}; {few}"]
    return []
