"""What the ensemble of a finished run says of the images that a job trains on: the soft labels of its student."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from octavo.cache import source_of
from octavo.data.batches import Batch, PixelRows
from octavo.data.render import RENDER
from octavo.engine.features import cached, key_of
from octavo.engine.folder import RunFolder
from octavo.engine.infer import Parts
from octavo.engine.job import Job
from octavo.engine.restore import Trained, restore_all, together
from octavo.engine.task import Ways
from octavo.errors import UserError
from octavo.progress import Progress
from octavo.recipe import ClassifyRecipe, Recipe
from octavo.words import counted


@dataclass(frozen=True, eq=False)
class Taught:
    """The inputs of a student, with its teacher's answers as targets.

    Attributes:
        ways: how a batch becomes the student's input.
        answers: the teacher's calibrated logits on the images that are trained on, float32 [N,C].
    """

    ways: Ways
    answers: np.ndarray

    def plain(self, batch: Batch) -> Tensor:
        """Return the input without random change."""
        return self.ways.plain(batch)

    def training(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the input of a training step, and float32 [B,C+1]: the teacher's logits and, last, the class id."""
        inputs, labels = self.ways.training(batch)
        answers = torch.from_numpy(np.array(self.answers[batch.indices])).to(labels.device)
        return inputs, torch.cat([answers, labels[:, None].float()], dim=1)


class _Teacher(nn.Module):
    """A run's ensemble: batches of stored pixels to calibrated logits [B,C]; the first batch loads its networks."""

    def __init__(self, run: RunFolder, device: torch.device) -> None:
        super().__init__()
        self.run, self.device, self.ensemble = run, device, run.ensemble
        self.members: list[Trained] = []
        self.fitting = Parts()

    def forward(self, batch: Batch) -> Tensor:
        self.members = self.members or self._loaded()
        try:
            return torch.from_numpy(self.fitting(self._answers, batch))
        except UserError as error:
            raise UserError(f"the teacher in {self.run.path}: {error}") from None

    def _answers(self, batch: Batch) -> np.ndarray:
        return np.asarray(self.ensemble.logits(together(self.members, batch)), np.float32)

    def _loaded(self) -> list[Trained]:
        try:
            return restore_all(self.run, self.ensemble.names, self.device)
        except torch.OutOfMemoryError:
            count = counted(len(self.ensemble.names), "network")
            raise UserError(
                f"the teacher in {self.run.path}: out of memory while its {count} are loaded; take --device cpu"
            ) from None


def teacher_of(recipe: Recipe) -> RunFolder | None:
    """Return the run that teaches; None: the recipe names none.

    Raises:
        UserError: there is no run where the recipe says.
    """
    if not isinstance(recipe, ClassifyRecipe) or not recipe.distil.run:
        return None
    try:
        return RunFolder.open(recipe.distil.run)
    except UserError as error:
        raise UserError(
            f"distil.run: {error}; where a teacher was moved to is told by octavo distil PLACE … --resume, "
            "octavo reproduce … --teacher PLACE, or --set distil.run=PLACE"
        ) from None


def identity_of(run: RunFolder) -> str:
    """Return a name for what a run's ensemble answers, by content: the same wherever the run lies.

    The weights aren't read, those of folds neither: each member's stored outputs follow from them.

    Raises:
        UserError: it isn't finished.
    """
    ensemble, half = run.ensemble, run.bf16
    if unfinished := [name for name in ensemble.names if not run.member(name).finished]:
        raise UserError(f"{run.path}: {unfinished[0]} is not trained yet; go on with `{run.resume}`")
    files = {name: run.member(name) for name in ensemble.names}
    return key_of(
        ensemble=ensemble.to_dict(),
        members={name: [member.facts(), member.outputs_digest()] for name, member in files.items()},
        bf16=half and [half["device"], sorted(half["members"])],
    )


def require_teacher(recipe: ClassifyRecipe, classes: Sequence[str], out: Path) -> None:
    """Refuse a run that can't teach a recipe on data of these classes, or that the new run in `out` would delete.

    Raises:
        UserError: no such run, a segmenter, one that isn't finished, one of other classes, or one in `out`.
    """
    run = teacher_of(recipe)
    if not run:
        return
    run.recipe_as(ClassifyRecipe)
    identity_of(run)  # refuses one that isn't finished
    if run.path.resolve().is_relative_to(out.resolve()):
        raise UserError(f"--out {out}: the run that teaches lies there; choose another")
    taught = tuple(run.manifest["classes"])
    if taught != tuple(classes):
        other = next((c for c in classes if c not in taught), None)
        fault = (
            f'it doesn\'t know "{other}"' if other else f"it knows {len(taught)} classes, the data have {len(classes)}"
        )
        raise UserError(f"distil.run: {run.path}: other classes than these data, {fault}; train it on data of the same")


def answers_of(job: Job, run: RunFolder, progress: Progress) -> np.ndarray:
    """Return the calibrated logits of a run's ensemble on the images that a job trains on, kept in the cache.

    They are float32 [N,C], and zero for images that are neither trained on nor held out.

    Raises:
        UserError: the run isn't finished, or there isn't the memory for it.
    """
    images = np.union1d(job.parts["fit"], job.parts["holdout"])
    key = key_of(
        teacher=identity_of(run),
        pixels=job.pixels.digest,
        images=hashlib.sha256(images.astype(np.int64).tobytes()).hexdigest(),
        render=RENDER,
        torch=torch.__version__,
        device=job.hardware.kind,
    )
    found = cached(
        job.cache,
        key,
        _Teacher(run, job.hardware.device),
        job.classes,
        PixelRows(job.pixels),
        images,
        len(job.pixels),
        [lambda batch: batch],  # pyright: ignore[reportArgumentType]
        job.seed,
        device=job.hardware.device,
        bf16=False,
        progress=lambda what, done, total, note="": progress(f"{job.title}: teacher", done, total, note),
        data=source_of(job.pixels.folder),
        what=f"answers of {run.path.name}",
    )
    return found.views[0]
