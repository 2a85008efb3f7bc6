"""What is looked at: a finished run with its stored outputs, and its images when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy.special import softmax

from octavo.cache import is_cache, open_cache
from octavo.data import store, torchvision_data
from octavo.data.doctor import resolve
from octavo.data.pairs import Pairs
from octavo.data.pixels import BrokenImage, decode
from octavo.data.samples import Samples
from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.looks.names import displayable, mask_title, travelling
from octavo.numbers.ensemble import Ensemble
from octavo.numbers.mask_results import SegmentReport
from octavo.numbers.results import Report
from octavo.progress import Progress, Say, silent, unsaid
from octavo.recipe import EnsembleRecipe, SegmentRecipe


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished run, looked at on its validation images.

    Attributes:
        run: its folder.
        device: where networks run, if a look needs them: `auto`, `cpu`, `cuda` or `mps`.
        progress: told how far a look is.
        say: told what a look lacks.
        data: where its data are now; None: where they were.
    """

    run: RunFolder
    device: str = "auto"
    progress: Progress = field(default=silent, kw_only=True)
    say: Say = field(default=unsaid, kw_only=True)
    data: str | None = field(default=None, kw_only=True)

    @property
    def idle(self) -> list[str]:
        """Names of the networks that count nothing in the answer."""
        return []

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """What the run was made from, read once."""
        return self.run.manifest

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """All files of the data, a row of `samples.csv` each, read once."""
        return self.run.samples()

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their ids, as they are shown; two may look the same."""
        return tuple(map(displayable, self.manifest["classes"]))

    @cached_property
    def named(self) -> Mapping[str, str]:
        """Each file of the data, as `samples.csv` names it → how it is shown: see `travelling`."""
        files = [row["file"] for row in self.rows]
        return dict(zip(files, travelling(files, str(self.manifest["data"]["root"])), strict=True))

    @cached_property
    def files(self) -> list[str]:
        """The validation images, n of them, as `samples.csv` names them."""
        return [row["file"] for row in self.rows if row["part"] == "val"]

    @cached_property
    def names(self) -> list[str]:
        """The same as they are shown."""
        return [self.named[file] for file in self.files]

    @cached_property
    def places(self) -> np.ndarray:
        """Where each of them stands among all files of the data, int64 [n]."""
        return np.array([i for i, row in enumerate(self.rows) if row["part"] == "val"], np.int64)

    @cached_property
    def cache(self) -> Path:
        """Folder of the pixel stores: the run's where it is there; of a run from elsewhere, nothing new is made."""
        kept = self.manifest["options"].get("cache")
        return Path(kept) if kept and is_cache(Path(kept)) else open_cache()

    @property
    def _form(self) -> tuple[str, str | None]:
        """Layout of the data, and what is what in their table where that was named."""
        return self.manifest["data"]["layout"], self.manifest["options"].get("columns")

    def _root(self) -> str:
        root = self.data or str(self.manifest["data"]["root"])
        if not root.startswith("torchvision:") and not Path(root).exists():
            raise UserError(
                f"{self.run.path}: its data are gone from {root}; put them back there, or where the command has --data "
                "name their place"
            )
        return root

    def _unchanged(self, files: tuple[str, ...]) -> None:
        if [row["file"] for row in self.rows] != list(files):
            raise UserError(
                f"{self._root()}: its files are others than those that {self.run.path} was trained on; restore them"
            )

    def _stored(self, files: store.Files, decoder: store.Decoder, what: str) -> store.Pixels:
        """Return the decoded `pixels` or `masks` of all files, which are those that the run was trained on.

        Raises:
            UserError: they are others.
        """
        found = store.build(files, decoder, self.cache, skip_broken=True, progress=self.progress)
        if found.digest != self.manifest["data"][what]:
            noun = {"pixels": "images", "masks": "masks"}[what]
            raise UserError(f"{self._root()}: its {noun} have changed since {self.run.path} was trained; restore them")
        return found


@dataclass(frozen=True, eq=False)
class ClassifySubject(Subject):
    """A run of classifiers: n validation images, M members, C classes."""

    @cached_property
    def recipe(self) -> EnsembleRecipe:
        """The resolved recipe."""
        return self.run.ensemble_recipe

    @cached_property
    def report(self) -> Report:
        """The numbers in `metrics.json`."""
        return cast(Report, self.run.metrics)

    @cached_property
    def ensemble(self) -> Ensemble:
        """How the members are combined and calibrated."""
        return self.run.ensemble

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members."""
        return self.ensemble.names

    @property
    def idle(self) -> list[str]:
        """Names of the members without a weight."""
        used = self.run.ensemble.used
        return [name for name in self.members if name not in used]

    @cached_property
    def labels(self) -> np.ndarray:
        """True class ids, int64 [n]."""
        return self.run.labels("val")

    @cached_property
    def logits(self) -> np.ndarray:
        """The members' logits before calibration, float32 [M,n,C]."""
        return np.stack([self.run.member(name).outputs()["val"] for name in self.members])

    @cached_property
    def answer(self) -> np.ndarray:
        """The ensemble's logits, float64 [n,C]."""
        return self.ensemble.logits(self.logits)

    def alone(self, member: int, images: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Return the logits of one member by its place as it answers alone, calibrated, float64 [n,C]."""
        return self.ensemble.member_logits(self.members[member], self.logits[member, images])

    @cached_property
    def probabilities(self) -> np.ndarray:
        """The ensemble's probabilities, float64 [n,C]."""
        return softmax(self.answer, axis=1)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The ensemble's class ids, int64 [n]; from the logits, as in an evaluation."""
        return self.answer.argmax(1)

    @cached_property
    def samples(self) -> Samples:
        """All files of the data, in the order of `samples.csv`.

        Raises:
            UserError: the data are gone, or others.
        """
        found = torchvision_data.read(self._root(), *self._form, cache=self.cache)
        self._unchanged(found.files)
        return found

    @cached_property
    def pixels(self) -> store.Pixels:
        """The decoded images of all files, in the order of `samples.csv`.

        Raises:
            UserError: the data are gone, or others.
        """
        return self._stored(self.samples, store.ImageDecoder(self.recipe.stored_side), "pixels")

    def picture(self, index: int) -> np.ndarray:
        """Return validation image `index`, uint8 [H,W,3], as it is stored: its shorter side bounded by the recipe."""
        return self.pixels.image(int(self.places[index])).transpose(1, 2, 0)


@dataclass(frozen=True, eq=False)
class SegmentSubject(Subject):
    """A run of a segmenter: n validation images, C classes."""

    @cached_property
    def recipe(self) -> SegmentRecipe:
        """The resolved recipe."""
        return cast(SegmentRecipe, self.run.recipe)

    @cached_property
    def report(self) -> SegmentReport:
        """The numbers in `metrics.json`."""
        return cast(SegmentReport, self.run.metrics)

    @property
    def name(self) -> str:
        """Name of the segmenter."""
        return self.recipe.segmenter.name

    @cached_property
    def counts(self) -> np.ndarray:
        """Pixels of each image by true (row) and predicted class, int64 [n,C+1,C+1]; the last of each is no class."""
        return self.run.member(self.name).outputs()["val"].astype(np.int64)

    @cached_property
    def final_epoch(self) -> int:
        """The epoch whose weights the segmenter became."""
        history = self.run.member(self.name).history()
        scored = [row for row in history if row.get("holdout_miou")]
        if self.recipe.train_of(self.recipe.segmenter).keep == "best" and scored:
            return int(max(scored, key=lambda row: float(row["holdout_miou"]))["epoch"])
        return int(history[-1]["epoch"])

    @cached_property
    def mask_names(self) -> list[str]:
        """What each image's masks are called, without ending."""
        return [row["name"] for row in self.rows if row["part"] == "val"]

    @cached_property
    def titles(self) -> list[str]:
        """The same as they are shown."""
        return list(map(mask_title, self.mask_names, self.names))

    @cached_property
    def pairs(self) -> Pairs:
        """All images and masks of the data, in the order of `samples.csv`.

        Raises:
            UserError: the data are gone, or others.
        """
        found = torchvision_data.read_pairs(self._root(), *self._form, cache=self.cache)
        self._unchanged(found.files)
        return found

    @cached_property
    def pixels(self) -> store.Pixels:
        """The decoded images of all files, in the order of `samples.csv`; raises as `pairs`."""
        return self._stored(self.pairs, store.ImageDecoder(scale=self.recipe.data.scale), "pixels")

    @cached_property
    def masks(self) -> store.Pixels:
        """Their true channel indices, in the same order; 255 where there is no truth; raises as `pairs`."""
        decoder = resolve(self.pairs, self.run.table, self.recipe.data.tolerant)
        return self._stored(self.pairs.mask_files, decoder, "masks")

    def picture(self, index: int) -> np.ndarray:
        """Return validation image `index`, uint8 [H,W,3], as it is stored: reduced by the recipe's `data.scale`."""
        return self.pixels.image(int(self.places[index])).transpose(1, 2, 0)

    def truth(self, index: int) -> np.ndarray:
        """Return its true channel indices at their own size, uint8 [H,W]; 255 where there is no truth."""
        return self.masks.image(int(self.places[index]))[0]

    def predicted(self, index: int) -> np.ndarray | None:
        """Return its predicted mask in the table's colours, uint8 [H,W,3]; None where none was kept."""
        files = self.run.member(self.name)
        path = files.predicted_file("val", self.mask_names[index])
        return self.kept_mask(path) if path.is_file() else None

    def kept_mask(self, path: Path) -> np.ndarray:
        """Return a mask that the run keeps, in colours uint8 [H,W,3].

        Raises:
            UserError: it isn't what was written, or can't be read.
        """
        self.run.member(self.name).read(path)
        try:
            return decode(path)
        except BrokenImage as error:
            raise UserError(f"{path}: {error}; remove it, or restore it") from error
