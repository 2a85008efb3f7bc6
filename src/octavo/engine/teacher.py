"""What the ensemble of a finished run says of all images of a job: the soft labels of its student."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from octavo.cache import source_of
from octavo.data.batches import Batch, PixelRows
from octavo.engine.features import cached, key_of
from octavo.engine.folder import RunFolder
from octavo.engine.job import Job
from octavo.engine.restore import restore_all, together
from octavo.engine.task import Ways
from octavo.errors import UserError
from octavo.progress import Progress
from octavo.recipe import ClassifyRecipe


@dataclass(frozen=True, eq=False)
class Taught:
    """The inputs of a student, with its teacher's answers as targets.

    Attributes:
        ways: how a batch becomes the student's input.
        answers: the teacher's calibrated logits on all images of the data set, float32 [N,C].
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
    """A run's ensemble: batches of stored pixels to calibrated logits [B,C]."""

    def __init__(self, run: RunFolder, device: torch.device) -> None:
        super().__init__()
        self.ensemble = run.ensemble
        self.members = restore_all(run, self.ensemble.names, device)

    def forward(self, batch: Batch) -> Tensor:
        return torch.from_numpy(np.asarray(self.ensemble.logits(together(self.members, batch)), np.float32))


def require_teacher(recipe: ClassifyRecipe, classes: Sequence[str]) -> None:
    """Refuse a run that can't teach a recipe on data of these classes.

    Raises:
        UserError: no such run, a segmenter, one that isn't finished, or one of other classes.
    """
    if not recipe.distil.run:
        return
    run = RunFolder.open(recipe.distil.run)
    run.recipe_as(ClassifyRecipe)
    if unfinished := [name for name in run.ensemble.names if not run.member(name).finished]:
        raise UserError(f"distil.run: {run.path}: {unfinished[0]} is not trained yet; go on with `{run.resume}`")
    taught = tuple(run.manifest["classes"])
    if taught != tuple(classes):
        other = next((c for c in classes if c not in taught), None)
        fault = (
            f'it doesn\'t know "{other}"' if other else f"it knows {len(taught)} classes, the data have {len(classes)}"
        )
        raise UserError(f"distil.run: {run.path}: other classes than these data, {fault}; train it on data of the same")


def answers_of(job: Job, recipe: ClassifyRecipe, progress: Progress) -> np.ndarray:
    """Return the calibrated logits of the teacher's ensemble on all images of a job, float32 [N,C], kept in the cache.

    Raises:
        UserError: as `require_teacher`.
    """
    run = RunFolder.open(recipe.distil.run)
    members = {name: run.member(name).facts() for name in run.ensemble.names}
    key = key_of(
        teacher=json.loads(json.dumps([run.ensemble.to_dict(), members], default=str)),
        weights=[str(run.member(name).weights.stat().st_mtime_ns) for name in members],
        bf16=run.bf16,
        pixels=job.pixels.digest,
        torch=torch.__version__,
        device=job.hardware.kind,
    )
    images = np.setdiff1d(np.arange(len(job.pixels)), np.array(sorted(job.pixels.broken), np.int64))
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
