"""Division of labelled images into the parts of a training, and the reasons for which they can't be trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from octavo.data.pairs import Pairs
from octavo.data.samples import Samples, emptied
from octavo.data.similar_names import similar_names
from octavo.errors import UserError
from octavo.recipe import EnsembleRecipe
from octavo.words import counted

NAMES = {"holdout": "held-out", "val": "validation", "test": "test"}
"""Parts that aren't trained on, in words."""
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Division:
    """Which images a training uses for what.

    Attributes:
        parts: `fit`, `holdout`, `val` and maybe `test` → ascending int64 indices of files that can be used.
        folds: fold of each training image from 0, int64 [N], -1 for the others; None without folds.
        warnings: what was lost by leaving files out, and classes that may be one, a sentence each.
    """

    parts: Mapping[str, np.ndarray]
    folds: np.ndarray | None = None
    warnings: tuple[str, ...] = ()


def divide_samples(
    recipe: EnsembleRecipe, samples: Samples, right: Samples, broken: Iterable[int], dropped: Iterable[int] = ()
) -> Division:
    """Return the division of labelled images; files that are left out don't move the others into other parts.

    Args:
        recipe: says how many are held out.
        samples: the data with their own labels and a validation part.
        right: the same with the labels that count.
        broken: files that can't be decoded.
        dropped: images that corrected labels leave out.

    Raises:
        UserError: too few images, one class only, or a class that is left without images to train on.
    """
    broken, dropped = set(broken), set(dropped)
    folds = samples.folds(recipe.folds, recipe.seed) if recipe.folds else None
    whole = _parts(recipe, samples)
    parts = without(whole, broken | dropped)
    _require_enough(recipe, right, whole, parts, folds)
    trained = "fit" if folds is None else "holdout"
    before = _per_class(samples, whole[trained])
    if gone := emptied(before, _per_class(right, parts[trained])):
        own = whole[trained][samples.labels[whole[trained]] == gone[0]]
        reason = _reason(own.tolist(), broken, dropped)
        raise UserError(
            f"{samples.root}: {left(right.classes, gone)} without images to train on: {reason}; mend that, or take "
            f"{'the class' if len(gone) == 1 else 'these classes'} out of the data"
        )
    warnings = [
        f"{left(right.classes, gone)} without {NAMES[part]} images: {counted(lost, 'file')} of these can't be decoded"
        for part in whole
        if part != trained
        if (lost := len(broken.intersection(whole[part].tolist())))
        if (gone := emptied(_per_class(right, _minus(whole[part], dropped)), _per_class(right, parts[part])))
    ]
    warnings += _folds_without(right, whole[trained], parts[trained], folds)
    return Division(parts, folds, (*warnings, *similar_names(samples.root, right.classes)))


def scored_without(data: Samples | Pairs, part: np.ndarray, broken: Iterable[int], name: str) -> tuple[str, ...]:
    """Return what to say of scores without the files that can't be decoded; nothing where all can be.

    Args:
        data: what is scored.
        part: int64 [n], all images of the scored part.
        broken: images that can't be decoded, or whose mask can't.
        name: of the part.

    Raises:
        UserError: not one of the part can be decoded.
    """
    lost = sorted(set(broken).intersection(part.tolist()))
    if not lost:
        return ()
    if len(lost) == len(part):
        raise UserError(f"{data.root}: not one of {counted(len(part), 'image')} of {name} can be decoded; mend them")
    some = f"{len(lost):,} of {counted(len(part), 'image')} of {name} can't be decoded and {_are(len(lost))} left out"
    if isinstance(data, Pairs):
        return (some,)
    gone = emptied(_per_class(data, part), _per_class(data, _minus(part, lost)))
    return (f"{some}; {left(data.classes, gone)} without any" if gone else some,)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _parts(recipe: EnsembleRecipe, samples: Samples) -> dict[str, np.ndarray]:
    """Return the images of each part, ascending; with folds each training image is held out of one training."""
    none = np.empty(0, np.int64)
    fit, held = (
        samples.holdout(recipe.data.holdout, recipe.seed) if not recipe.folds else (none, samples.splits["train"])
    )
    parts = {"fit": fit, "holdout": held, "val": samples.splits.get("val", none)}
    return parts | ({"test": samples.splits["test"]} if "test" in samples.splits else {})


def _minus(indices: np.ndarray, others: Iterable[int]) -> np.ndarray:
    return np.setdiff1d(indices, np.array(sorted(others), np.int64))


def without(parts: Mapping[str, np.ndarray], others: set[int]) -> dict[str, np.ndarray]:
    """Return the parts, int64 [n] each, without the images `others`."""
    return {part: _minus(indices, others) for part, indices in parts.items()}


def _per_class(samples: Samples, indices: np.ndarray) -> np.ndarray:
    """Return how many of these images each class has, int64 [C]."""
    labels = samples.labels[indices]
    return np.bincount(labels[labels >= 0], minlength=len(samples.classes))


def _require_enough(
    recipe: EnsembleRecipe,
    samples: Samples,
    whole: Mapping[str, np.ndarray],
    parts: Mapping[str, np.ndarray],
    folds: np.ndarray | None,
) -> None:
    """Refuse what would fail or mislead later; `whole` are the parts before anything was left out."""
    count = len(samples.classes)
    if count < 2:
        raise UserError(f"{samples.root}: one class only ({samples.classes[0]}); a classifier needs two or more")
    trained = len(parts["fit"]) if folds is None else fewest(folds, parts["holdout"])
    if trained < 2 or not len(parts["val"]):
        raise UserError(
            f"{samples.root}: {counted(trained, 'image')} to train on and {len(parts['val'])} to validate; "
            "expected at least 2 and 1"
        )
    given = recipe.train.class_weights
    if not isinstance(given, str) and len(given) != count:
        raise UserError(f"train.class_weights: {len(given)} weights for {count} classes")
    if folds is None:
        require_held_out(samples.root, recipe.data.holdout, whole["holdout"], parts["holdout"])


def require_held_out(root: str, share: float, before: np.ndarray, after: np.ndarray) -> None:
    """Refuse data of which no image can be held out, or none that was can be decoded.

    Args:
        root: names the data.
        share: the recipe's `data.holdout`.
        before: images that are held out, int64 [n].
        after: those of them that can be decoded.

    Raises:
        UserError: it says which of the two.
    """
    if share and not len(before):
        raise UserError(f"{root}: too few images for data.holdout; set it to 0, or add images")
    if share and not len(after):
        raise UserError(
            f"{root}: none of {counted(len(before), 'held-out image')} can be decoded; mend them, or set data.holdout "
            "to another share"
        )


def fewest(folds: np.ndarray, trained: np.ndarray) -> int:
    """Return how many images the training with the fewest has; `folds` int [N], `trained` the images that are dealt."""
    return len(trained) - int(np.bincount(folds[trained]).max(initial=0))


def _folds_without(samples: Samples, before: np.ndarray, after: np.ndarray, folds: np.ndarray | None) -> list[str]:
    """Say which trainings of a fold have lost a class with the images that were left out."""
    if folds is None:
        return []
    return [
        f"{left(samples.classes, gone)} without images to train on in fold {fold + 1}"
        for fold in range(int(folds.max()) + 1)
        if (gone := emptied(*(_per_class(samples, own[folds[own] != fold]) for own in (before, after))))
    ]


def left(classes: Sequence[str], gone: Sequence[int]) -> str:
    """Return the beginning of `class "b" is left without …`, for the ids `gone`."""
    return f"{named(classes, gone)} {_are(len(gone))} left"


def named(classes: Sequence[str], some: Sequence[int]) -> str:
    """Name the first classes of the ids `some`, and count them where there are several."""
    names = ", ".join(f'"{classes[i]}"' for i in some[:_SHOWN]) + (", …" if len(some) > _SHOWN else "")
    return f"class {names}" if len(some) == 1 else f"{len(some)} classes ({names})"


def _reason(own: Sequence[int], broken: set[int], dropped: set[int]) -> str:
    """Say why none of a class's images `own` is trained on."""
    counts = {
        "can't be decoded": len(broken.intersection(own)),
        "dropped by --labels": len(dropped.intersection(own) - broken),
    }
    counts["given another class by --labels"] = len(own) - sum(counts.values())
    facts = " and ".join(f"{n} {_verb(what, n)}" for what, n in counts.items() if n)
    return f"of its {counted(len(own), 'image')}, {facts}"


def _verb(what: str, count: int) -> str:
    return what if what.startswith("can't") else f"{_are(count)} {what}"
