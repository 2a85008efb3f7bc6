"""Prediction sets of a run: fitted on its validation images, which nothing of it was fitted on, and tried on others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from octavo.data.samples import drawn, drawn_groups
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.numbers.conformal import PredictionSets, coverage_of, coverage_spread, fit_sets
from octavo.numbers.results import Sets, SetsOfSize

METHOD = "lac"
_METHODS = {
    "lac": "the classes whose probability reaches a threshold (LAC: Sadinle, Lei and Wasserman, JASA 114, 2019)",
    "aps": "the most probable classes until their sum reaches a threshold (APS: Romano, Sesia and Candès, NeurIPS "
    "2020, without the random part)",
}
_GROUPED = (
    " Its spread and its intervals count each image for itself; where those of a group are alike, they are too narrow."
)


def sets_of(run: RunFolder, coverage: float, method: str = METHOD) -> PredictionSets:
    """Return sets for new images, fitted on all validation images of a run.

    Args:
        run: a finished run of classifiers.
        coverage: share of new images, from where the validation images are from, whose set holds the true class.
        method: a key of `conformal.METHODS`.

    Raises:
        UserError: a run whose ensemble was chosen on its validation images, or too few of those.
    """
    require_clean(run, "sets fitted on them promise too much")
    return fit_sets(_probabilities(run), run.labels("val"), coverage, method)


def half_tried(run: RunFolder, coverage: float, method: str = METHOD) -> Sets:
    """Return how sets fitted on one half of the validation images do on the other.

    Raises:
        UserError: as `sets_of`.
    """
    require_clean(run, "sets fitted on them promise too much")
    probabilities, labels, first = _probabilities(run), run.labels("val"), first_half(run)
    fitted = fit_sets(probabilities[first], labels[first], coverage, method)
    grouped, where = run.groups("val") is not None, "one half of the validation images"
    return tried(fitted, probabilities[~first], labels[~first], where, "the other half", grouped=grouped)


def tried_on(
    run: RunFolder,
    probabilities: np.ndarray,
    labels: np.ndarray,
    where: str,
    coverage: float,
    method: str = METHOD,
    *,
    images: Sequence[str] = (),
    validation: Sequence[str] = (),
) -> Sets:
    """Return how sets do on other images than those that they are fitted on, whatever was scored.

    They are fitted on the validation images that aren't scored; where that leaves less than half of them, on one half,
    and tried on the scored images that aren't in it.

    Args:
        run: a finished run of classifiers.
        probabilities: of the scored images, [n,C].
        labels: of these, int [n].
        where: what they are called.
        coverage: as of `sets_of`.
        method: as of `sets_of`.
        images: content digests of the scored images; none: no validation image is among them.
        validation: those of the run's validation images, in their order.

    Raises:
        UserError: as `sets_of`, and where no scored image is left to try them on.
    """
    grouped = run.groups("val") is not None
    fitted, left = _apart(run, images, validation)
    if fitted.all():
        sets, on = sets_of(run, coverage, method), "the run's validation images"
    else:
        require_clean(run, "sets fitted on them promise too much")
        sets = fit_sets(_probabilities(run)[fitted], run.labels("val")[fitted], coverage, method)
        on = f"{int(fitted.sum()):,} of the run's validation images, none of which they are tried on"
    rows = left if len(left) else slice(None)
    return tried(sets, probabilities[rows], labels[rows], on, where, grouped=grouped)


def _apart(run: RunFolder, images: Sequence[str], validation: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return which validation images, bool [v], sets are fitted on, and which scored ones, bool [n], they are tried on.

    Images are told by their content digests; no group has images on both sides.
    """
    scored, groups = set(images) - {""}, run.groups("val")
    if not scored or not validation:
        return np.ones(len(run.labels("val")), bool), np.ones(len(images), bool)
    seen = np.array([image in scored for image in validation], bool)
    if groups is not None:
        seen = np.isin(groups, groups[seen])
    if (~seen).sum() * 2 >= len(seen):
        return ~seen, np.ones(len(images), bool)
    half = first_half(run)
    fitted = {image for image, chosen in zip(validation, half, strict=True) if chosen}
    left = np.array([image not in fitted for image in images], bool)
    if not left.any():
        raise UserError(
            f"{run.path}: the scored images are the validation images that prediction sets are fitted on; score others "
            "too, or leave --coverage out"
        )
    return half, left


def first_half(run: RunFolder, seed: int | None = None) -> np.ndarray:
    """Return which validation images are in the half that something is fitted on, bool [n].

    It is drawn within each class, by the files' names and the recipe's seed, or another `seed`; where the data have
    groups, whole ones are drawn until about half of the images are.

    Raises:
        UserError: all images are of one group.
    """
    labels, files, salt = run.labels("val"), run.files("val"), f"sets:{run.recipe.seed if seed is None else seed}"
    if run.groups("val") is not None:
        names = [row.get("group") or row["file"] for row in run.samples() if row["part"] == "val"]
        alike = np.zeros_like(labels)  # a half may be without a class
        own = drawn_groups(np.arange(len(labels)), names, alike, 0.5, salt)
        if not own:
            raise UserError(f"{run.path}: its validation images are of one group, which can't be divided in halves")
        return np.isin(np.arange(len(labels)), own)
    halves = [drawn(np.flatnonzero(labels == i).tolist(), files, 0.5, salt) for i in set(labels)]
    return np.isin(np.arange(len(labels)), np.concatenate(halves).astype(np.int64))


def tried(
    fitted: PredictionSets, probabilities: np.ndarray, labels: np.ndarray, on: str, where: str, *, grouped: bool
) -> Sets:
    """Return how sets do on images with probabilities [n,C] and labels int [n].

    `on` and `where` name the images; `grouped` says that some are alike, which the rule then tells.
    """
    found = coverage_of(fitted.sets(probabilities), labels)
    low, high = coverage_spread(fitted.n, fitted.coverage)
    return Sets(
        method=fitted.method,
        asked=fitted.coverage,
        fitted=fitted.n,
        scored=len(labels),
        coverage=found.coverage,
        spread=(low, high),
        mean_size=found.mean_size,
        by_size=tuple(SetsOfSize(size=s.size, images=s.images, coverage=s.coverage) for s in found.by_size),
        rule=f"A set holds {_METHODS[fitted.method]}, and the most probable class in any case. The threshold is the "
        f"split-conformal one, fitted on {on}, and tried on {where}. The coverage holds on average over images from "
        f"one population, not for each class or each image.{_GROUPED if grouped else ''}",
    )


def _probabilities(run: RunFolder) -> np.ndarray:
    return softmax(run.ensemble.logits(run.outputs("val")), axis=1)


def require_clean(run: RunFolder, why: str) -> None:
    """Refuse a run whose ensemble was chosen on its validation images.

    Raises:
        UserError: it was; `why` says what comes of it.
    """
    recipe = run.ensemble_recipe
    if recipe.ensemble.fit_on == "val":
        raise UserError(
            f"{run.path}: its ensemble was chosen on its validation images, so that {why}; train with "
            'ensemble.fit_on = "holdout"'
        )
