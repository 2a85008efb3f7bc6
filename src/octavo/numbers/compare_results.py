"""How runs compare on the images that they share: what `comparison.json` holds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from octavo.numbers.results import Interval, Name, Number, Result

Chance = Annotated[float, Field(ge=0, le=1)]
"""A p-value; not rounded, as small ones would become zero."""
Images = Annotated[int, Field(ge=0)]


class Fourfold(Result):
    """Images by which of two runs is right on them."""

    both: Images
    first_only: Images
    second_only: Images
    neither: Images


class Pair(Result):
    """How two runs differ on the same images."""

    first: Name
    second: Name
    difference: Interval
    """The headline of the first less that of the second, on the same resamples; the interval is of this pair alone."""
    p: Chance | None
    """Of a difference this large or larger, were there none; `None` where nothing can be tested."""
    p_holm: Chance | None
    """`p` after Holm's correction for all the pairs; equal to it where there is one pair."""
    told_apart: bool
    """Whether `p_holm` is below 1 - level."""
    fourfold: Fourfold | None = None
    """Of classifiers."""


class BestMember(Result):
    """The member of a run that is best on the images that are compared."""

    name: Name
    headline: Interval
    gain: Interval
    """The ensemble's headline less its own, on the same resamples."""


class RunSide(Result):
    """One run on the images that are compared."""

    name: Name
    recipe: Name
    networks: tuple[Name, ...]
    data: Name
    """Folder that the run was trained on, without those above it."""
    validation: Images
    """Its validation images, compared or not."""
    headline: Interval
    metrics: dict[str, Number | None]
    """What is told beside the headline; `None` where a rule has no number."""
    best_member: BestMember | None = None
    """Of classifiers."""
    flattered: bool
    """Whether something was chosen or trained on the very images that are scored."""


class ClassSides(Result):
    """One class in all runs."""

    name: Name
    images: Images
    """In whose truth it occurs."""
    values: tuple[Number | None, ...]
    """Share of its images that were recognised, or its IoU, a run; `None` where it has none."""

    @property
    def spread(self) -> float:
        """The highest of the runs less the lowest; 0 where fewer than two have a number."""
        known = [value for value in self.values if value is not None]
        return max(known) - min(known) if len(known) > 1 else 0.0


class HardImage(Result):
    """An image that no run gets right, or that all segment badly."""

    file: Name
    truth: Name | None
    """Its class; `None` of a mask."""
    answers: tuple[Name, ...] = ()
    """Each run's class."""
    shares: tuple[Number, ...] = ()
    """Each run's share of the pixels with a truth that are right."""


class Difference(Result):
    """A key of the recipe, or another fact of training, in which runs differ."""

    key: Name
    values: tuple[Name | None, ...]
    """A run each; `None` where it has no such key."""


class Comparison(Result):
    """Every number of a comparison of runs, and how it was made."""

    format: Literal[1] = 1
    task: Literal["classify", "segment"]
    n: Annotated[int, Field(ge=1)]
    """Images that are compared."""
    classes: tuple[Name, ...]
    """In the order of the first run's, then those that others add."""
    headline: Literal["accuracy", "miou"]
    rule: Name
    """Which images, what is compared, how intervals, p and verdicts were made."""
    level: Number
    replicates: int
    seed: int
    runs: tuple[RunSide, ...]
    pairs: tuple[Pair, ...]
    per_class: tuple[ClassSides, ...]
    none_right: Images | None
    """Images that no classifier gets right."""
    hardest: tuple[HardImage, ...]
    differences: tuple[Difference, ...]
    warnings: tuple[Name, ...] = ()
