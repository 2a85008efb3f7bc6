"""Numbers and how they were made: what `metrics.json` holds. No times, no paths: two equal runs write equal bytes."""

from __future__ import annotations

import json
import math
from statistics import NormalDist
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from octavo.errors import UserError

# Nine decimals: far below any interval's width, and above the last bits in which two orders of summation differ.
Number = Annotated[float, Field(allow_inf_nan=False), AfterValidator(lambda x: round(x, 9) + 0.0)]


def _valid(text: object) -> object:
    """Replace what is no Unicode (bytes of a folder's name that are no UTF-8), which JSON can't hold."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(text, str) else text


Name = Annotated[str, BeforeValidator(_valid)]


class Result(BaseModel):
    """A part of a report: immutable, unknown keys refused, numbers finite and rounded to nine decimals."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> str:
        """Return it as JSON text: sorted keys, two spaces of indent, a newline at the end; one form for one result."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "metrics.json") -> Self:
        """Return the result that `to_json` wrote.

        Raises:
            UserError: the text is not such a result; `where` names its file.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(p) for p in first["loc"]) or "whole file"
            raise UserError(f"{where}: not a report of this version: {place}: {first['msg']}; evaluate again") from None


class Interval(Result):
    """A number and the ends of its interval; both ends are `None` where no honest interval can be had."""

    value: Number
    low: Number | None
    high: Number | None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high are both given or both null")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies above or below zero; false where there is no interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def wilson(hits: int, n: int, level: float = 0.95) -> Interval:
    """Return the share `hits / n` with its score interval (Wilson, JASA 22, 1927), which never has width zero.

    Raises:
        ValueError: `n` < 1, or `hits` not in 0..n.
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"expected 0 <= hits <= n and n >= 1, got hits {hits}, n {n}")
    z, share = NormalDist().inv_cdf((1 + level) / 2), hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n of n one end is exactly 0 or 1; say so without the rounding of the formula.
    low = 0.0 if hits == 0 else middle - half
    high = 1.0 if hits == n else middle + half
    return Interval(value=share, low=low, high=high)


class ClassResult(Result):
    """How one class came out; a share is `None` where it would divide by zero."""

    name: Name
    support: int
    """Images of this class."""
    predicted: int
    """Images that were called this class."""
    accuracy: Interval | None
    """Share of its images that were recognised (= recall), with a Wilson interval."""
    precision: Number | None
    recall: Number | None
    f1: Number | None


class SystemResult(Result):
    """The metrics of one member or of the ensemble: name in `METRICS` → value with interval."""

    name: str
    kind: Literal["member", "ensemble"]
    metrics: dict[str, Interval]
    """Of its calibrated probabilities, where something was calibrated."""
    temperature: Number | None = None
    """What its logits were divided by; `None` where they weren't, or by vector scaling."""
    uncalibrated: dict[str, Interval] = {}
    """`nll`, `ece` and `brier` of its probabilities before calibration; empty where there was none."""


class Contribution(Result):
    """What one member adds to the ensemble."""

    member: str
    weight: Number
    """Its share in the ensemble; all shares sum to one."""
    leave_one_out: Interval | None
    """Accuracy of the ensemble less that of the ensemble without this member, on the same resamples.
    `None` where nothing is left without it."""


class Optimism(Result):
    """The honest ensemble, and one whose weights and calibration were chosen on the very images that are scored."""

    honest: dict[str, Interval]
    flattered: dict[str, Interval]
    gap: dict[str, Interval]
    """Flattered less honest, on the same resamples. The ends say how sure the gap is on these images."""
    weights: dict[str, Number]
    """The flattered ensemble's weight of each member."""
    rule: str


class WithoutTwins(Result):
    """The numbers on the scored images alone of which training had no near copy."""

    twins: int
    """Scored images that training had too, as they are or nearly."""
    kinds: dict[str, int]
    """How their most similar twin differs → how many of them."""
    n: int
    """Scored images without one."""
    metrics: dict[str, Interval]
    """Of the ensemble on those; empty where there are no twins, or none without."""
    rule: str


class SetsOfSize(Result):
    """The images whose prediction sets have one size."""

    size: int
    images: int
    coverage: Interval


class Sets(Result):
    """Prediction sets, fitted on some labelled images and tried on others."""

    method: str
    asked: Number
    """Share of images whose set should hold the true class."""
    fitted: int
    """Images the threshold was fitted on; the members, their weights and calibration saw none of them."""
    scored: int
    """Other images, on which the rest was counted."""
    coverage: Interval
    """Share of those whose set holds the true class, with Wilson's interval."""
    spread: tuple[Number, Number]
    """Where the true coverage of sets fitted on so many images lies, 19 times in 20."""
    mean_size: Number
    by_size: tuple[SetsOfSize, ...]
    rule: str


class Report(Result):
    """Every number of an evaluation with the rule by which it was made."""

    format: Literal[1] = 1
    task: Literal["classify"] = "classify"
    split: str
    n: Annotated[int, Field(ge=1)]
    """Images scored."""
    classes: tuple[Name, ...]
    headline: str
    """The metric to quote; a key of `systems[i].metrics`."""
    rule: str
    """Which data, what was fitted on which, how the intervals were made."""
    rules: dict[str, str]
    """Metric → the sentence that defines it."""
    level: Number
    replicates: int
    seed: int
    combine: str
    fitted_on: str
    """Where the ensemble's weights were chosen: `holdout`, `out-of-fold` or the name of a split; `none`: they were not
    chosen by data."""
    calibration: Literal["none", "temperature", "vector"] = "none"
    """How logits were scaled before softmax."""
    calibrated_on: str = "none"
    """Where that was fitted."""
    flattered: bool
    """Whether something was chosen or trained on the very images that are scored."""
    majority: Number
    """Accuracy of always naming the commonest class of the scored images."""
    uneven: bool = False
    """Whether one class has so many more images than another that accuracy needs balanced accuracy beside it."""
    power: str = ""
    """How far two models must differ to be told apart on so many images; empty where images come in groups."""
    systems: tuple[SystemResult, ...]
    """The members in the order of the recipe, then the ensemble."""
    best_member: str
    """The member with the highest headline metric on the scored images."""
    gain: Interval
    """The ensemble's headline metric less the best member's, on the same resamples."""
    contributions: tuple[Contribution, ...]
    optimism: Optimism | None = None
    """What choosing on the scored images would add; `None` where nothing honest is left to compare with, or where there
    is one member."""
    without_twins: WithoutTwins | None = None
    """`None` where nobody looked for images that training and scoring share."""
    sets: Sets | None = None
    """Prediction sets, where they were asked for."""
    per_class: tuple[ClassResult, ...]
    """The ensemble, class by class, in the order of class ids."""
    warnings: tuple[Name, ...] = ()

    @property
    def quoted(self) -> Interval | None:
        """The ensemble's headline."""
        return self.ensemble.metrics[self.headline]

    @property
    def ensemble(self) -> SystemResult:
        """The ensemble's metrics."""
        return next(s for s in self.systems if s.kind == "ensemble")

    @property
    def different(self) -> tuple[SystemResult, ...]:
        """The members and the ensemble; a member alone where the ensemble answers as it does."""
        first, *_, last = self.systems
        same = len(self.systems) == 2 and abs(first.metrics["nll"].value - last.metrics["nll"].value) < 1e-6
        return self.systems[:1] if same else self.systems


class Score(Result):
    """How a file of predictions compares with the truth."""

    split: str
    n: Annotated[int, Field(ge=1)]
    """Images scored: all labelled ones of the split, with or without a prediction."""
    correct: int
    missing: int
    """Images without a prediction, counted as wrong."""
    accuracy: Interval
    macro_f1: Interval
    balanced_accuracy: Interval
    majority: Number
    matched_by: dict[str, int]
    """How image ids were matched: `path`, `end of path`, `name` → rows."""
    labels_as: Literal["names", "ids"]
    rule: str
    per_class: tuple[ClassResult, ...]
    warnings: tuple[Name, ...] = ()

    @property
    def quoted(self) -> Interval:
        """The headline, accuracy."""
        return self.accuracy
