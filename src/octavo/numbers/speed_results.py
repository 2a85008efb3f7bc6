"""What makes an ensemble cheaper, and what it costs in accuracy: cascade, student, bfloat16, fewer members."""

from __future__ import annotations

from octavo.numbers.exact import SURE
from octavo.numbers.results import Interval, Number, Result
from octavo.words import counted


class CascadeStep(Result):
    """The ensemble of the first members of a cascade."""

    member: str
    """The one that this step adds."""
    milliseconds: Number
    """Of all members up to it, per image, where the cascade was fitted."""
    accuracy: Interval
    """If every image were answered by it."""
    threshold: Number | None
    """Confidence from which an image stops here; `None` for never, and for the last step, which takes the rest."""
    stopped: Number
    """Share of the images that stop here."""


class CascadeReport(Result):
    """A cascade, fitted on one half of the validation images and tried on the other."""

    budget: Number
    """Share of the images by which accuracy may fall."""
    fitted: int
    scored: int
    steps: tuple[CascadeStep, ...]
    whole: Interval
    """Accuracy of the whole ensemble."""
    accuracy: Interval
    """Of the cascade."""
    loss: Interval
    """Whole less cascade, on the same resamples."""
    milliseconds: Number
    """Of the cascade, per image."""
    whole_milliseconds: Number
    device: str
    beware: str = ""
    """What a reader must be told of the machine that times were taken on; empty: nothing."""
    rule: str

    @property
    def found(self) -> bool:
        """Whether there are thresholds that keep the budget, and images can stop early."""
        return any(step.threshold is not None for step in self.steps)

    @property
    def speedup(self) -> float:
        """How many times faster than the whole ensemble, by the members' times."""
        return self.whole_milliseconds / self.milliseconds


class DistilReport(Result):
    """A student beside the ensemble that taught it, on the same validation images."""

    student: str
    best: str
    """The best single member of the teacher, by its accuracy on these images."""
    scored: int
    best_accuracy: Interval
    ensemble_accuracy: Interval
    student_accuracy: Interval
    gain: Interval
    """Student less best single member, on the same resamples."""
    gap: Interval
    """Ensemble less student, on the same resamples."""
    gain_p: Number | None = None
    """Exact p of student and best single member; `None` in reports of before, as of the next."""
    above_p: Number | None = None
    """Exact p of ensemble and best single member."""
    share: Number | None
    """(student − best single) / (ensemble − best single); None where the ensemble isn't better than its best member."""
    untaught: Interval | None = None
    """Accuracy of the ensemble's member of the student's name, which no other taught; None: there is none, or it is the
    best."""
    taught: Interval | None = None
    """Student less that member, on the same resamples."""
    rule: str

    @property
    def kept(self) -> str:
        """How much of the ensemble's gain over its best member the student keeps, in words without a full stop."""
        if self.share is None:
            return "the ensemble is no better here than its best member, so there is no gain to keep"
        if self.above_p is not None and self.above_p >= SURE:
            return (
                f"the ensemble's gain over its best member is within chance here (p = {self.above_p:.2g}), so that "
                "nobody can say how much of it the student keeps"
            )
        if self.share <= 0:
            return "the student keeps none of the ensemble's gain over its best member"
        return f"the student keeps {self.share:.0%} of the ensemble's gain over its best member"


class PrecisionReport(Result):
    """An ensemble trained in float32 that answers in bfloat16, on the validation images."""

    members: tuple[str, ...]
    """Those that were trained in float32 and have a weight."""
    scored: int
    allowed: Number
    """Share of the images whose answer may change."""
    changed: Number
    """Share of the images whose answer changes."""
    float32: Interval
    """Accuracy as trained."""
    bfloat16: Interval
    loss: Interval
    """float32 less bfloat16, on the same resamples."""
    milliseconds: tuple[Number, Number]
    """Per image, of all members: as trained, and in bfloat16."""
    device: str
    beware: str = ""
    """What a reader must be told of the machine that times were taken on; empty: nothing."""
    rule: str

    @property
    def speedup(self) -> float:
        """How many times faster."""
        return self.milliseconds[0] / self.milliseconds[1]


class PruneStep(Result):
    """An ensemble of some of the members."""

    members: tuple[str, ...]
    chosen: Number
    """Accuracy on the images that members are chosen by."""
    accuracy: Interval
    """On the validation images."""
    loss: Interval
    """Accuracy of all members less that, on the same resamples."""
    p: Number | None = None
    """Exact, of a loss so far above the budget; `None` in reports of before."""


class PruneReport(Result):
    """Ever smaller ensembles, from all members to the smallest within the budget."""

    budget: Number
    """Share of the images by which accuracy may fall."""
    chosen_by: int
    """Images that members were chosen by."""
    scored: int
    steps: tuple[PruneStep, ...]
    flattered: bool
    """Whether members were chosen by the scored images."""
    rule: str

    @property
    def beware(self) -> str:
        """A warning where the smallest ensemble surely loses more than the budget where it is scored; else nothing."""
        lost = self.steps[-1].loss
        p = self.steps[-1].p
        if lost.low is None or lost.high is None or lost.low <= self.budget or (p is not None and p >= SURE):
            return ""
        return (
            f"on the validation images the last of these loses {100 * lost.value:.2f} points ({100 * lost.low:.2f} to "
            f"{100 * lost.high:.2f}), surely more than the budget: the {counted(self.chosen_by, 'image')} that members "
            "are chosen by are few (data.holdout, data.folds), or unlike those"
        )
