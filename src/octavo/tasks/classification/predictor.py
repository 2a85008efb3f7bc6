"""Predictor of a run of classifiers: its members loaded once, and what they say of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from octavo.data.batches import Batch
from octavo.engine.cascaded import cascade_of, in_stages, together_of
from octavo.engine.folder import RunFolder
from octavo.engine.gradcam import Heat
from octavo.engine.infer import AT_ONCE, Parts
from octavo.engine.restore import together
from octavo.engine.sets import METHOD, sets_of
from octavo.errors import UserError, lookup
from octavo.inference.images import Images, batches, given
from octavo.inference.members import LoadedMembers
from octavo.inference.predictor import Predictor
from octavo.progress import Progress, silent
from octavo.recipe import ClassifyRecipe
from octavo.tasks.classification.prediction import Predictions


class ClassPredictor(Predictor[Predictions]):
    """An ensemble, or one of its members, loaded once.

    Example:
        ```
        predictor = octavo.load("runs/quick").predictor()
        found = predictor.predict(["a.jpg", Image.open("b.png"), np.zeros((32, 32, 3), np.uint8)])
        found.labels, found.probabilities        # three names, float32 [3,C]
        predictor.embed("photos", "vgg16.head.0")  # float32 [n,256]
        ```
    """

    def __init__(
        self,
        run: RunFolder,
        device: str = "auto",
        *,
        member: str | None = None,
        coverage: float | None = None,
        sets: str = METHOD,
        cascaded: bool = False,
    ) -> None:
        """Load what is needed of a finished run.

        Args:
            run: a finished run.
            device: `auto`, `cpu`, `cuda` or `mps`.
            member: use this member alone instead of the ensemble.
            coverage: also give prediction sets that hold the true class of this share of images, 0.9 say.
            sets: how they are made, a key of `conformal.METHODS`.
            cascaded: let images stop at the first members that are sure enough, as the run's cascade says.

        Raises:
            UserError: a run of another task, one that isn't finished, options that exclude each other, an unknown
                member or device.
        """
        side = run.recipe_as(ClassifyRecipe).stored_side
        self._run, self._ensemble = run, run.ensemble
        self.classes = tuple(run.manifest["classes"])
        if member:
            lookup(dict.fromkeys(self._ensemble.names), member, "--member")
        if coverage is not None and member:
            raise UserError("--coverage: sets are made of the ensemble's probabilities; leave --member out")
        if cascaded and (member or coverage is not None):
            raise UserError("--cascade: answers for the whole ensemble; leave --member and --coverage out")
        self._sets = None if coverage is None else sets_of(run, coverage, sets)
        self._stages = cascade_of(run) if cascaded else None
        self._member, self.used = member, list(self._ensemble.used)
        self._asked = [member] if member else self._stages.names if self._stages else self.used
        self.members = LoadedMembers(run, device, self._asked)
        self._trained = [self.members[name] for name in self._asked]
        self._at_once = together_of(side, self.members.device) if self._stages else AT_ONCE

    def predict(self, images: Images, *, progress: Progress = silent) -> Predictions:
        """Return labels and probabilities of images; see `Predictor.predict`.

        Raises:
            UserError: no images, or one in memory that can't be read. Files that can't are in the result's `errors`.
        """
        listed, errors = given(images), dict[str, str]()
        names, parts, fitting = list[str](), list[np.ndarray](), Parts()
        for done, readable, batch in batches(listed.images, self.members.decoder, errors, self._at_once):
            names += readable
            if batch:
                with self.members.turn:
                    parts.append(fitting(self._answers, batch))
            progress("predict", done, len(listed.images), f"{len(errors)} unreadable" if errors else "")
        found = np.concatenate(parts) if parts else np.zeros((0, len(self.classes)))
        table, last = found[:, : len(self.classes)], found[:, len(self.classes) :]
        exact = softmax(table, axis=1)
        return Predictions(
            files=tuple(names),
            classes=self.classes,
            ids=table.argmax(1),
            probabilities=exact.astype(np.float32),
            errors=errors,
            sets=self._sets.sets(exact) if self._sets else None,
            stopped={name: int((last == place).sum()) for place, name in enumerate(self._asked)}
            if self._stages
            else None,
            unread=listed.unread,
            inputs=listed.paths,
            run=self._run,
        )

    def embed(self, images: Images, layer: str, *, progress: Progress = silent) -> np.ndarray:
        """Return one layer's output on images, float32 [n,·]; see `LoadedMembers.embed`."""
        return self.members.embed(images, layer, progress=progress)

    def gradcam(self, images: Images, member: str, targets: Sequence[int] | None = None) -> Heat:
        """Return where a member finds what speaks for a class; see `LoadedMembers.gradcam`."""
        return self.members.gradcam(images, member, targets)

    def _answers(self, batch: Batch) -> np.ndarray:
        """Return logits float [B,C]; of a cascade also the place of the member that an image stopped at, [B,C+1]."""
        if self._stages:
            return in_stages(self._stages, self._trained, batch)
        logits = together(self._trained, batch)
        if self._member:
            return self._ensemble.member_logits(self._member, logits[0])
        return self._ensemble.logits(_all(self._ensemble.names, self.used, logits))


def _all(names: Sequence[str], used: Sequence[str], logits: np.ndarray) -> np.ndarray:
    """Return logits [M,B,C] of all members; those without weight, which were not run, count nothing and stay zero."""
    full = np.zeros((len(names), *logits.shape[1:]), np.float32)
    for name, row in zip(used, logits, strict=True):
        full[list(names).index(name)] = row
    return full
