"""Classification as a task: every image has one label, named by an ensemble of networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.numbers.results import Report, Score
from octavo.progress import Progress, Say
from octavo.recipe import ClassifyRecipe, Member, Network, Recipe
from octavo.tasks.base import Task
from octavo.tasks.outcome import OwnOptions, Written

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table
    from torch import nn

    from octavo.data.store import Pixels
    from octavo.engine.estimate import Anatomy
    from octavo.engine.folder import RunFolder
    from octavo.engine.job import Job, Prepared
    from octavo.engine.material import Material
    from octavo.engine.member_folder import MemberFolder
    from octavo.looks.look import Way
    from octavo.looks.subject import ClassifySubject
    from octavo.networks.loading import Extractor
    from octavo.numbers.compare_results import Comparison
    from octavo.page.summary import Summary
    from octavo.tasks.classification.check import CheckReport
    from octavo.tasks.classification.predictor import ClassPredictor


OPTIONS = {
    "check": OwnOptions.named("images in classes", "labels"),
    "evaluate": OwnOptions.named(
        "a classifier's run", "coverage", "sets", "cost", like_reference="--score-like-reference"
    ),
    "predict": OwnOptions.named(
        "a classifier's run", "probabilities", "member", "coverage", "sets", cascaded="--cascade"
    ),
    "score": OwnOptions.named("a CSV of labels", "extra_classes"),
}
"""Command → its options that segmentation, say, lacks."""


class Classification(Task):
    """Classification by an ensemble."""

    name = "classify"
    recipe_type = ClassifyRecipe
    report_type = Report
    score_type = Score
    options = OPTIONS

    def load_data(
        self,
        recipe: ClassifyRecipe,
        data: str,
        layout: str | None,
        cache: Path,
        skip_broken: bool,
        labels: Path | None = None,
        *,
        columns: str | None = None,
        progress: Progress,
    ) -> Material:
        """Return labelled images; see `tasks.classification.data.prepare`."""
        from octavo.tasks.classification.data import prepare

        return prepare(recipe, data, layout, cache, skip_broken, labels, columns=columns, progress=progress)

    def extractor(self, network: Member, recipe: ClassifyRecipe) -> Extractor:
        """Return a member's extractor on the meta device."""
        from octavo.networks.build import build_member

        return build_member(network, recipe, 2, "meta").backbone

    def anatomy(
        self, recipe: ClassifyRecipe, network: Member, classes: int, sizes: np.ndarray | None = None
    ) -> Anatomy:
        """Return how a member is built; all of them see images of one size."""
        from octavo.engine.estimate import member_anatomy

        return member_anatomy(recipe, network, classes)

    def prepare(self, job: Job, progress: Progress) -> Prepared:
        """Return a member as its training starts."""
        from octavo.tasks.classification.training import prepare

        return prepare(job, progress)

    def outputs(
        self, job: Job, prepared: Prepared, best: nn.Module, folder: MemberFolder, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """Return the logits float32 [n,C] of every part but the one that was trained on."""
        from octavo.tasks.classification.training import outputs_of

        return outputs_of(job, prepared, best, folder, progress)

    def facts(self, job: Job, prepared: Prepared) -> dict[str, Any]:
        """Return what must be known of a trained member to use it."""
        from octavo.tasks.classification.training import facts_of

        return facts_of(job, prepared)

    def finish(self, run: RunFolder, done: bool, progress: Progress, say: Say) -> None:
        """Combine the members unless that was done before, compare a student with its teacher, write the numbers."""
        from octavo.engine.folder import RunFolder as Folder
        from octavo.tasks.classification.combination import combine
        from octavo.tasks.classification.evaluation import regrade
        from octavo.tasks.classification.student import graduate, is_compared

        if not (done and run.combined):  # one that was pruned stays so
            run.ensemble = combine(run)
        if run.recipe.teacher and not (done and is_compared(run, say)):
            graduate(run, Folder(Path(run.recipe.teacher)), say)
        regrade(run, progress=progress)

    def require(self, recipe: ClassifyRecipe, material: Material, out: Path) -> None:
        """Refuse a teacher that can't teach these data."""
        from octavo.tasks.classification.teacher import require_teacher

        require_teacher(recipe, material.classes, out)

    def notes(self, recipe: ClassifyRecipe, material: Material) -> Iterable[str]:
        """Say so where the ensemble's weights or temperatures are fitted on few images."""
        from octavo.tasks.classification.training import few_held_out

        return filter(None, [few_held_out(recipe, material)])

    def cached_features(
        self, recipe: ClassifyRecipe, classes: int, pixels: Pixels, origins: Mapping[str, str], device: str, cache: Path
    ) -> frozenset[str]:
        """Return the names of the frozen members whose features are in the cache already."""
        from octavo.engine.extracted import known_features

        return known_features(recipe, classes, pixels, origins, device, cache)

    def result(self, run: RunFolder, job: Job, network: Network) -> str:
        """Return a member's accuracy on held-out images, or on validation images where none are held out."""
        from octavo.tasks.classification.training import result_of

        return result_of(run, job, network.name)

    def recognises(self, data: str, layout: str | None, columns: str | None) -> bool:
        """Tell whether data are images in classes: those that aren't images with masks."""
        from octavo.data.torchvision_data import holds_masks

        return not holds_masks(data, layout, columns)

    def scores(self, predictions: Path) -> bool:
        """Tell whether predictions are a CSV file of labels."""
        return predictions.exists() and not predictions.is_dir()

    def check(self, data: str, *, overwrite: bool = False, **given: Any) -> CheckReport:
        """Look at every image; see `tasks.classification.check`."""
        from octavo.tasks.classification.check import check

        return check(data, **given)

    def network(self, run: RunFolder, name: str, device: str) -> nn.Module:
        """Return a trained member: images float [B,3,S,S], normalised, → logits [B,C]."""
        from octavo.engine.hardware import find
        from octavo.engine.restore import restore

        return restore(run, name, find(device).device).net

    def shares(self, run: RunFolder) -> dict[str, float]:
        """Return each member's weight in the ensemble."""
        return dict(zip(run.ensemble.names, run.ensemble.weights, strict=True))

    def evaluate(self, run: RunFolder, **given: Any) -> Report:
        """Grade a run; see `tasks.classification.evaluation`."""
        from octavo.tasks.classification.evaluation import evaluate

        return evaluate(run, **given)

    def predictor(self, run: RunFolder, device: str, **given: Any) -> ClassPredictor:
        """Return the ensemble or one member, loaded once."""
        from octavo.tasks.classification.predictor import ClassPredictor

        return ClassPredictor(run, device, **given)

    def write_predictions(
        self,
        run: RunFolder,
        images: Sequence[Path],
        out: Path,
        *,
        ids: bool,
        device: str,
        overwrite: bool,
        progress: Progress,
        probabilities: bool = False,
        **given: Any,
    ) -> Written:
        """Write a CSV of labels; see `tasks.classification.prediction`."""
        from octavo.output_lock import locked_output
        from octavo.tasks.classification.prediction import errors_path, require_place

        places = require_place(out, run, images, overwrite=overwrite)
        with locked_output(places, f"--out {out}"):
            require_place(out, run, images, overwrite=overwrite)  # as it is now that nobody else writes there
            found = self.predictor(run, device, **given).predict(images, progress=progress)
            found.write_locked(*places, ids=ids, probabilities=probabilities)
        stopped = found.stopped if found.files else None
        counts = ", ".join(f"{name} {n:,}" for name, n in (stopped or {}).items())
        lines = (f"images that stopped at: {counts}",) if stopped else ()
        notes = (found.unread,) if found.unread else ()
        return Written(len(found.files), len(found.errors), errors_path(out), lines=lines, notes=notes)

    def score(self, predictions: Path, truth: str, progress: Progress, **given: Any) -> Score:
        """Score a CSV of labels; see `tasks.classification.score`."""
        from octavo.tasks.classification.score import score

        return score(predictions, truth, **given)

    def score_tables(self, score: Score) -> list[Table]:
        """Return a score's numbers as tables for the terminal."""
        from octavo.numbers.tables import score_tables

        return score_tables(score)

    def subject(self, run: RunFolder, device: str, data: str | None, progress: Progress, say: Say) -> ClassifySubject:
        """Return what is read of a finished run."""
        from octavo.looks.subject import ClassifySubject

        return ClassifySubject(run, device, data=data, progress=progress, say=say)

    def sections(self) -> dict[str, Way]:
        """Return the sections of a report by name, in their order."""
        from octavo.tasks.classification.sections import SECTIONS

        return SECTIONS

    def summary(self, subject: ClassifySubject) -> Summary:
        """Return what the first screen of a report says."""
        from octavo.tasks.classification.summary import summary_of

        return summary_of(subject)

    def compare(self, runs: Sequence[RunFolder], names: tuple[str, ...], progress: Progress) -> Comparison:
        """Return every number of a comparison of finished runs."""
        from octavo.tasks.classification.comparison import compare

        return compare(runs, names, progress)

    def tables(self, report: Report, every_class: bool) -> list[Table]:
        """Return a report's numbers as tables for the terminal."""
        from octavo.numbers.tables import report_tables

        return report_tables(report, every_class=every_class)

    def describe(
        self, recipe: ClassifyRecipe, networks: Sequence[Member], classes: int | None, depth: int | None
    ) -> str:
        """Return networks of a recipe as text."""
        from octavo.tasks.classification.description import describe

        return describe(recipe, networks, classes, depth)

    def student_recipe(
        self, teacher: RunFolder, student: str, overrides: Iterable[str], own: Mapping[str, float]
    ) -> Recipe:
        """Return the recipe of one member that learns from a run's ensemble."""
        from octavo.tasks.classification.student_recipe import recipe_of

        return recipe_of(teacher, student, overrides, own)

    def resumed_student(self, run: RunFolder, teacher: RunFolder, student: str, own: Mapping[str, float]) -> Recipe:
        """Return the recipe of a student whose training is resumed."""
        from octavo.tasks.classification.student_recipe import resumed

        return resumed(run, teacher, student, own)


TASK = Classification()
