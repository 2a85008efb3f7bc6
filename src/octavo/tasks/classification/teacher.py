"""What the ensemble of a finished run says of the images that a job trains on: the soft labels of its student."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from octavo.cache import source_of
from octavo.data.batches import Batch, PixelRows
from octavo.data.render import RENDER
from octavo.data.resample import on
from octavo.engine.extracted import extracted, inputs_of
from octavo.engine.features import Features, cached, key_of
from octavo.engine.folder import RunFolder
from octavo.engine.infer import Parts
from octavo.engine.job import Job
from octavo.engine.restore import Shared, Trained, restore_all
from octavo.engine.task import Ways
from octavo.engine.teacher import identity_of, require_finished, teacher_of
from octavo.errors import UserError
from octavo.networks.fold import Halves, halves
from octavo.networks.member import MemberNet
from octavo.progress import Progress
from octavo.recipe import ClassifyRecipe


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
        answers = on(labels.device, np.array(self.answers[batch.indices]))
        return inputs, torch.cat([answers, labels[:, None].float()], dim=1)


@dataclass(frozen=True, eq=False)
class _Kept:
    """A frozen member as it answers from the features that it was trained on.

    Attributes:
        features: of all images, F each.
        parts: extractor and head, of each fold.
        device: where the heads are.
        bf16: whether they compute in bfloat16.
    """

    features: Features
    parts: tuple[Halves, ...]
    device: torch.device
    bf16: bool

    @torch.inference_mode()
    def logits(self, batch: Batch) -> np.ndarray:
        """Return logits float32 [B,C]."""
        kept = torch.from_numpy(self.features.rows(batch.indices, -1)[0]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = [part.behind(kept).float() for part in self.parts]
        return torch.stack(logits).mean(0).cpu().numpy()


class _Teacher(nn.Module):
    """A run's ensemble: batches of stored pixels to calibrated logits [B,C]; the first batch loads its networks.

    Frozen members answer from cached features, computed first where they aren't there any more, so that a repetition
    of the student's training sees the same bits.
    """

    def __init__(self, run: RunFolder, job: Job, progress: Progress) -> None:
        super().__init__()
        self.run, self.job, self.ensemble, self.progress = run, job, run.ensemble, progress
        self.members: dict[str, Trained] = {}
        self.kept: dict[str, _Kept] = {}
        self.fitting = Parts()

    def forward(self, batch: Batch) -> Tensor:
        try:
            if not self.members:
                self._load()
            return torch.from_numpy(self.fitting(self._answers, batch))
        except UserError as error:
            raise UserError(f"the teacher in {self.run.path}: {error}") from None

    def _answers(self, batch: Batch) -> np.ndarray:
        shared = Shared(batch)
        stack = [
            self.kept[name].logits(batch) if name in self.kept else shared.logits(self.members[name])
            for name in self.ensemble.names
        ]
        return np.asarray(self.ensemble.logits(np.stack(stack)), np.float32)

    def _load(self) -> None:
        names, device = self.ensemble.names, self.job.hardware.device
        members = dict(zip(names, restore_all(self.run, names, device), strict=True))
        for name in names:
            if kept := self._kept(members[name]):
                self.kept[name] = kept
        self.members = members

    def _kept(self, trained: Trained) -> _Kept | None:
        """Return a member by its cached features; None where it isn't frozen, or was trained on other pixels."""
        recipe = self.run.recipe_as(ClassifyRecipe)
        member = next(m for m in recipe.members if m.name == trained.name)
        job = replace(self.job, recipe=recipe, member=member, fold=None, folds=None)
        if job.train.mode != "frozen" or not job.train.cache or trained.bf16 != job.bf16:
            return None
        if self.run.manifest["data"]["pixels"] != job.pixels.digest:
            return None
        nets = [net for net in trained.net.modules() if isinstance(net, MemberNet)]
        parts = tuple(halves(net.backbone, net.head, member.pool, job.train) for net in nets)
        start = self.run.member(trained.name).facts()["weights"]
        found = extracted(job, nets[0], parts[0], inputs_of(job), start and start["sha256"], self.progress)
        return _Kept(found, parts, job.hardware.device, job.bf16)


def require_teacher(recipe: ClassifyRecipe, classes: Sequence[str], out: Path) -> None:
    """Refuse a run that can't teach a recipe on data of these classes, or that the new run in `out` would delete.

    Raises:
        UserError: no such run, a segmenter, one that isn't finished, one of other classes, or one in `out`.
    """
    run = teacher_of(recipe)
    if not run:
        return
    run.recipe_as(ClassifyRecipe)
    require_finished(run)
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

    def told(what: str, done: int, total: int, note: str = "") -> None:
        progress(f"{job.title}: teacher" + (f", {what}" if ":" in what else ""), done, total, note)

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
        _Teacher(run, job, told),
        job.classes,
        PixelRows(job.pixels),
        images,
        len(job.pixels),
        [lambda batch: batch],  # pyright: ignore[reportArgumentType]
        job.seed,
        device=job.hardware.device,
        bf16=False,
        progress=told,
        data=source_of(job.pixels.folder),
        what=f"answers of {run.path.name}",
    )
    return found.views[0]
