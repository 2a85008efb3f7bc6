"""The numbers of masks, and how they were made: what a segmenter's `metrics.json` holds, and the mIoU card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from octavo.numbers.results import Interval, Name, Number, Report, Result, WithoutTwins
from octavo.registry import TASKS, task_named

Pixels = Annotated[int, Field(ge=0)]

CLASS_IOU = "holdout_iou_"
"""What begins the name of a column of `history.csv`: a class's IoU on the held-out images; its name follows."""


class MaskClass(Result):
    """How one class came out; a share is `None` where it would divide by zero."""

    name: Name
    scored: bool
    """Whether it enters the headline's mean."""
    iou: Interval | None
    """As the headline's rule counts it."""
    accuracy: Number | None
    """Share of its pixels that were recognised (= recall)."""
    precision: Number | None
    """Share of the pixels predicted as it that are it; pixels without a truth don't count."""
    truth: Number
    """Its share of the pixels with a truth."""
    predicted: Number
    """Share of the pixels with a truth that were predicted as it."""


class SegmentReport(Result):
    """Every number of an evaluation of masks with the rule by which it was made."""

    format: Literal[1] = 1
    task: Literal["segment"] = "segment"
    split: str
    n: Annotated[int, Field(ge=1)]
    """Images scored."""
    pixels: Pixels
    """Their pixels with a truth."""
    classes: tuple[Name, ...]
    """The trained classes, in the order of channels."""
    headline: Literal["miou"] = "miou"
    """The metric to quote; a key of `metrics`."""
    rule_name: str
    """The headline's rule; a key of `RULES`."""
    rule_title: str
    rule: str
    """Which data, the headline's rule, how the intervals were made."""
    rules: dict[str, str]
    """Metric → the sentence that defines it."""
    level: Number
    replicates: int
    seed: int
    flattered: bool
    """Whether something was chosen or trained on the very images that are scored."""
    metrics: dict[str, Interval | None]
    """miou, pixel_accuracy, mean_accuracy, fw_iou; `None` where the rule has no number (a warning says why)."""
    per_class: tuple[MaskClass, ...]
    confusion: tuple[tuple[Pixels, ...], ...]
    """[C+1,C+1] pixels of all images by truth (row) and prediction (column); the last of each is no class."""
    without_twins: WithoutTwins | None = None
    """`None` where nobody looked for images that training and scoring share."""
    warnings: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        side = len(self.classes) + 1
        if len(self.per_class) != side - 1 or [len(row) for row in self.confusion] != [side] * side:
            raise ValueError(f"{side - 1} classes need as many results and a confusion of {side} by {side}")
        return self

    @property
    def power(self) -> str:
        """What difference so few images could show: nothing is known of it for masks."""
        return ""

    @property
    def quoted(self) -> Interval | None:
        """The headline; None where its rule has no number."""
        return self.metrics[self.headline]

    @property
    def miou(self) -> float | None:
        """The headline's value; `None` where its rule has no number."""
        interval = self.metrics[self.headline]
        return None if interval is None else interval.value


class RuleValue(Result):
    """One line of the card: what one rule makes of the predictions."""

    rule: str
    """A key of `RULES`, or of `BESIDE`."""
    title: str
    source: str
    """Library with version and function, or paper."""
    value: Number | None
    """`None` where the rule's formula divides zero by zero."""
    note: str = ""
    """What became of classes that don't occur, if there are any."""


class MaskScore(Result):
    """The mIoU card: how predicted masks compare with the truth, by every rule."""

    report: SegmentReport
    """The headline with its interval, class by class."""
    rows: tuple[RuleValue, ...]
    """The headline, the other rules of the mIoU, then what is told beside it."""
    missing: int
    """Images without a prediction, whose pixels count as no class."""
    matched_by: dict[str, int] = Field(default_factory=dict)
    """How predictions were matched: `path`, `end of path`, `name` → how many."""
    read_as: Literal["ids", "colours"]
    """What the predicted masks hold."""
    table: str
    """The table of classes by which they were read."""

    @property
    def quoted(self) -> Interval | None:
        """The headline; None where its rule has no number."""
        return self.report.quoted

    @property
    def rule(self) -> str:
        """How the headline was made."""
        return self.report.rule

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before trusting the numbers."""
        return self.report.warnings


def report_of(value: Mapping[str, Any], where: str = "metrics.json") -> Report | SegmentReport:
    """Return the report that a JSON object holds, of either task.

    Raises:
        UserError: it is no report; `where` names its file.
    """
    return _report_type(value.get("task")).from_json(json.dumps(value), where)


def read_report(text: str, where: str = "metrics.json") -> Report | SegmentReport:
    """Return the report that JSON text holds, of either task.

    Raises:
        UserError: the text is no report; `where` names its file.
    """
    try:
        task = json.loads(text).get("task")
    except (ValueError, AttributeError):
        task = None  # what is wrong with it is told by the parser below
    return _report_type(task).from_json(text, where)


def _report_type(task: object) -> type[Report | SegmentReport]:
    """Return what reports of a task are; reports of classifiers from before there were tasks don't name theirs."""
    return task_named(task if isinstance(task, str) and task in TASKS else "classify").report_type
