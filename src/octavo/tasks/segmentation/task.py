"""Segmentation as a task: every pixel has one label, named by one network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.numbers.mask_results import MaskScore, SegmentReport
from octavo.progress import Progress, Say
from octavo.recipe import Segmenter, SegmentRecipe
from octavo.tasks.base import Task
from octavo.tasks.outcome import OwnOptions, Written

if TYPE_CHECKING:
    import numpy as np
    from pytorch_lightning.callbacks import Callback
    from rich.table import Table
    from torch import nn

    from octavo.engine.estimate import Anatomy
    from octavo.engine.folder import RunFolder
    from octavo.engine.job import Job, Prepared
    from octavo.engine.material import Material
    from octavo.engine.member_folder import MemberFolder
    from octavo.looks.look import Way
    from octavo.looks.subject import SegmentSubject
    from octavo.networks.loading import Extractor
    from octavo.numbers.compare_results import Comparison
    from octavo.page.summary import Summary
    from octavo.tasks.segmentation.check import MaskReport
    from octavo.tasks.segmentation.predictor import MaskPredictor


OPTIONS = {
    "check": OwnOptions.named("images with masks", "classes", "tolerant", "write_classes"),
    "evaluate": OwnOptions.named("a segmenter's run", "rule"),
    "predict": OwnOptions.named("a segmenter's run", "overlay", "flips", "window", "overlap", scales="--scale"),
    "score": OwnOptions.named("a folder of masks", "classes", "rule", "tolerant"),
}
"""Command → its options that classification, say, lacks."""


class Segmentation(Task):
    """Segmentation by one network."""

    name = "segment"
    recipe_type = SegmentRecipe
    report_type = SegmentReport
    score_type = MaskScore
    options = OPTIONS

    def load_data(
        self,
        recipe: SegmentRecipe,
        data: str,
        layout: str | None,
        cache: Path,
        skip_broken: bool,
        labels: Path | None = None,
        *,
        columns: str | None = None,
        progress: Progress,
    ) -> Material:
        """Return images with masks; see `tasks.segmentation.data.prepare`."""
        from octavo.tasks.segmentation.data import prepare

        return prepare(recipe, data, layout, cache, skip_broken, labels, columns=columns, progress=progress)

    def extractor(self, network: Segmenter, recipe: SegmentRecipe) -> Extractor:
        """Return the segmenter's backbone on the meta device."""
        from octavo.networks.build import build_segmenter

        return build_segmenter(network, recipe, 2, "meta").backbone

    def anatomy(
        self, recipe: SegmentRecipe, network: Segmenter, classes: int, sizes: np.ndarray | None = None
    ) -> Anatomy:
        """Return how the segmenter is built, which is trained on crops and evaluated on whole images."""
        from octavo.tasks.segmentation.training import anatomy_of, typical_size

        return anatomy_of(recipe, network, classes, None if sizes is None else typical_size(recipe, sizes))

    def prepare(self, job: Job, progress: Progress) -> Prepared:
        """Return the segmenter as its training starts."""
        from octavo.tasks.segmentation.training import prepare

        return prepare(job, progress)

    def callbacks(self, job: Job, prepared: Prepared, folder: MemberFolder) -> Sequence[Callback]:
        """Return what keeps predicted masks by stage of the training."""
        from octavo.tasks.segmentation.training import callbacks

        return callbacks(job, prepared, folder)

    def outputs(
        self, job: Job, prepared: Prepared, best: nn.Module, folder: MemberFolder, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """Return confusion counts int32 [n,C+1,C+1] of every part but the one that was trained on; masks are kept."""
        from octavo.tasks.segmentation.training import outputs_of

        return outputs_of(job, prepared, best, folder, progress)

    def facts(self, job: Job, prepared: Prepared) -> dict[str, Any]:
        """Return what must be known of a trained segmenter to use it."""
        from octavo.tasks.segmentation.training import facts_of

        return facts_of(job, prepared)

    def finish(self, run: RunFolder, done: bool, progress: Progress, say: Say) -> None:
        """Write the numbers."""
        from octavo.tasks.segmentation.evaluation import regrade_masks

        regrade_masks(run, progress=progress)

    def weights_notes(self, recipe: SegmentRecipe, weights_dir: Path | None) -> Iterable[str]:
        """Return what the segmenter's layers start from, where that isn't plain."""
        from octavo.networks.build import notes

        return notes(recipe.segmenter, weights_dir)

    def notes(self, recipe: SegmentRecipe, material: Material) -> Iterable[str]:
        """Say which masks by stage there won't be, since fewer epochs are trained than the recipe counts on."""
        from octavo.tasks.segmentation.stages import late

        return [late(recipe)] if recipe.late_stages else []

    def start_files(self, recipe: SegmentRecipe) -> Mapping[str, Path]:
        """Return the trained weights that the segmenter starts from."""
        from octavo.networks.build import start_file

        spec = recipe.segmenter
        return {f"{spec.name}:start": start_file(spec.start)} if spec.start else {}

    def recognises(self, data: str, layout: str | None, columns: str | None) -> bool:
        """Tell whether data are images with masks."""
        from octavo.data.torchvision_data import holds_masks

        return holds_masks(data, layout, columns)

    def scores(self, predictions: Path) -> bool:
        """Tell whether predictions are a folder, of masks."""
        return predictions.is_dir()

    def check(self, data: str, **given: Any) -> MaskReport:
        """Look at every image and mask; see `tasks.segmentation.check`."""
        from octavo.tasks.segmentation.check import check_masks

        return check_masks(data, **given)

    def network(self, run: RunFolder, name: str, device: str) -> nn.Module:
        """Return the trained segmenter: images float [B,3,H,W], normalised, → logits [B,C,H,W]."""
        from octavo.engine.hardware import find
        from octavo.tasks.segmentation.restore import restore_segmenter

        return restore_segmenter(run, find(device).device).net

    def shares(self, run: RunFolder) -> dict[str, float]:
        """Return the whole share for the segmenter, which is alone."""
        return {network.name: 1.0 for network in run.recipe.networks}

    def evaluate(self, run: RunFolder, **given: Any) -> SegmentReport:
        """Grade a run; see `tasks.segmentation.evaluation`."""
        from octavo.tasks.segmentation.evaluation import evaluate_masks

        return evaluate_masks(run, **given)

    def predictor(self, run: RunFolder, device: str, **given: Any) -> MaskPredictor:
        """Return the network, loaded once."""
        from octavo.tasks.segmentation.predictor import MaskPredictor

        return MaskPredictor(run, device, **given)

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
        scales: Sequence[float] = (),
        **given: Any,
    ) -> Written:
        """Write a mask an image; see `tasks.segmentation.prediction`."""
        from octavo.tasks.segmentation.prediction import predict_masks

        own = {"ids": ids, "scales": tuple(scales), **given}
        found = predict_masks(run, images, out, device=device, overwrite=overwrite, progress=progress, **own)
        count, errors = len(found.masks), len(found.errors)
        return Written(count, errors, found.errors_path, "predicted", notes=tuple(found.notes))

    def score(self, predictions: Path, truth: str, progress: Progress, **given: Any) -> MaskScore:
        """Score a folder of masks; see `tasks.segmentation.score`."""
        from octavo.tasks.segmentation.score import score_masks

        return score_masks(predictions, truth, progress=progress, **given)

    def score_tables(self, score: MaskScore) -> list[Table]:
        """Return a score's numbers as tables for the terminal."""
        from octavo.numbers.mask_tables import mask_score_tables

        return mask_score_tables(score)

    def subject(self, run: RunFolder, device: str, data: str | None, progress: Progress, say: Say) -> SegmentSubject:
        """Return what is read of a finished run."""
        from octavo.looks.subject import SegmentSubject

        return SegmentSubject(run, device, data=data, progress=progress, say=say)

    def sections(self) -> dict[str, Way]:
        """Return the sections of a report by name, in their order."""
        from octavo.tasks.segmentation.sections import SECTIONS

        return SECTIONS

    def summary(self, subject: SegmentSubject) -> Summary:
        """Return what the first screen of a report says."""
        from octavo.tasks.segmentation.summary import summary_of

        return summary_of(subject)

    def compare(self, runs: Sequence[RunFolder], names: tuple[str, ...], progress: Progress) -> Comparison:
        """Return every number of a comparison of finished runs."""
        from octavo.tasks.segmentation.comparison import compare

        return compare(runs, names, progress)

    def tables(self, report: SegmentReport, every_class: bool) -> list[Table]:
        """Return a report's numbers as tables for the terminal."""
        from octavo.numbers.mask_tables import segment_tables

        return segment_tables(report, every_class=every_class)

    def describe(
        self, recipe: SegmentRecipe, networks: Sequence[Segmenter], classes: int | None, depth: int | None
    ) -> str:
        """Return networks of a recipe as text."""
        from octavo.tasks.segmentation.description import describe

        return describe(recipe, classes, depth)


TASK = Segmentation()
