"""A run as Python sees it: its numbers, its members, its predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from octavo.engine.folder import RunFolder
from octavo.errors import UserError
from octavo.numbers.mask_results import SegmentReport
from octavo.numbers.results import Report
from octavo.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from octavo.inference.images import Images
    from octavo.tasks.classification.prediction import Predictions
    from octavo.tasks.classification.predictor import ClassPredictor
    from octavo.tasks.segmentation.predictor import MaskPredictor
    from octavo.verbs.reproduce import Reproduction


class Members(Mapping[str, "nn.Module"]):
    """The trained networks of a run by name; each is loaded when it is first asked for."""

    def __init__(self, folder: RunFolder, device: str) -> None:
        self._folder, self._device = folder, device
        self._names = tuple(m.name for m in folder.recipe.networks)
        self._loaded: dict[str, nn.Module] = {}

    def __getitem__(self, name: str) -> nn.Module:
        """Return a plain `nn.Module` in eval mode: images float [B,3,S,S], normalised, → logits [B,C].

        A segmenter takes images [B,3,H,W] of any size and gives logits [B,C,H,W].
        """
        if name not in self._loaded:
            if name not in self._names:
                raise KeyError(name)
            from octavo.tasks.known import task_of

            self._loaded[name] = task_of(self._folder.recipe).network(self._folder, name, self._device)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class ReportFile:
    """A report: where it lies; in a notebook it shows inline."""

    path: Path

    def _repr_html_(self) -> str:
        page = escape(self.path.read_text(encoding="utf-8"), quote=True)
        return (
            f'<iframe srcdoc="{page}" sandbox="allow-scripts" title="report" '
            'style="width: 100%; height: 800px; border: 0"></iframe>'
        )


@dataclass(frozen=True)
class PictureFile:
    """A picture of a run: where it lies; in a notebook it shows inline."""

    path: Path

    def _repr_png_(self) -> bytes | None:
        return self.path.read_bytes() if self.path.suffix == ".png" else None

    def _repr_svg_(self) -> str | None:
        return self.path.read_text(encoding="utf-8") if self.path.suffix == ".svg" else None


class Run:
    """A trained recipe in its folder.

    Attributes:
        folder: where it lies.
        members: the trained networks by name.
    """

    def __init__(self, folder: str | Path, device: str = "auto") -> None:
        """Open the run in `folder`; raises UserError where there is none."""
        self._files = RunFolder.open(folder)
        self._device = device
        self.folder = Path(folder)
        self.members: Mapping[str, nn.Module] = Members(self._files, device)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, members={list(self.members)})"

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return self._files.recipe

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their ids."""
        return tuple(self._files.manifest["classes"])

    @property
    def metrics(self) -> Report | SegmentReport:
        """The numbers that training ended with, as in `metrics.json`."""
        return self._files.metrics

    @property
    def weights(self) -> dict[str, float]:
        """Each member's share in the ensemble; they sum to one."""
        from octavo.tasks.known import task_of

        return task_of(self.recipe).shares(self._files)

    def evaluate(self, data: str | Path | None = None, **options: Any) -> Report | SegmentReport:
        """Grade the run on its own validation images or on other `data`.

        `options` are those of `octavo evaluate`: split, layout, columns, cache, skip_broken and progress, and of
        classifiers like_reference, coverage and sets, of segmenters rule.

        Raises:
            UserError: an unfinished run, a split that isn't there, data that can't be used, an option of another task.
        """
        from octavo.tasks.known import accepted, flags_of, task_of

        task, of_some = task_of(self.recipe), flags_of("evaluate")
        asked = {name: options.pop(name) for name in [*options] if name in of_some}
        if asked.get("cost"):
            raise UserError('cost: is a section of the report; Run.figure("cost") draws it')
        own = accepted(task, "evaluate", {name: value for name, value in asked.items() if value not in (None, False)})
        return task.evaluate(self._files, data=data, device=self._device, **options, **own)

    def predictor(
        self,
        member: str | None = None,
        *,
        device: str | None = None,
        coverage: float | None = None,
        sets: Literal["lac", "aps"] = "lac",
        cascade: bool = False,
        flips: bool = False,
        scales: Sequence[float] = (),
    ) -> ClassPredictor | MaskPredictor:
        """Load the run's networks once, to answer for one image after another; safe in several threads.

        Args:
            member: one member alone instead of the ensemble (classifiers).
            device: `auto`, `cpu`, `cuda` or `mps`; the run's own by default.
            coverage: also give prediction sets that hold the true class of this share of images, 0.9 say (classifiers).
            sets: how they are made (classifiers).
            cascade: sure images stop at the first members, as `octavo ensemble cascade` fitted it (classifiers).
            flips: average over the mirrored images (segmenters).
            scales: average over the image at these factors, from 0.25 to 4 (segmenters).

        Raises:
            UserError: the run isn't finished, or its task has no such option.

        Example:
            ```
            predictor = octavo.load("runs/quick").predictor()
            predictor.predict("a.jpg").labels                       # or a folder, or a list of either
            predictor.predict(np.zeros((32, 32, 3), np.uint8)).probabilities    # or bytes, or a Pillow image
            ```
        """
        from octavo.tasks.known import accepted, task_of

        task = task_of(self.recipe)
        asked = {"member": member, "coverage": coverage, "sets": sets if sets != "lac" else None}
        asked |= {"cascaded": cascade, "flips": flips, "scales": tuple(scales)}
        own = accepted(
            task, "predict", {name: value for name, value in asked.items() if value not in (None, False, ())}
        )
        return cast("ClassPredictor | MaskPredictor", task.predictor(self._files, device or self._device, **own))

    def predict(
        self,
        images: Images,
        *,
        member: str | None = None,
        coverage: float | None = None,
        sets: Literal["lac", "aps"] = "lac",
        cascade: bool = False,
    ) -> Predictions:
        """Return the ensemble's (or one member's) answer on images; networks are loaded anew, see `predictor`.

        With a `coverage`, 0.9 say, also prediction sets that hold the true class of this share of images. With
        `cascade` sure images stop at the first members, as `octavo ensemble cascade` fitted it.

        Args:
            images: one or a list of: paths of image files and folders, encoded images as bytes, Pillow images, NumPy
                arrays uint8 [H,W,3] or [H,W].
            member: this member alone.
            coverage: share of images.
            sets: how they are made.
            cascade: let images stop.

        Raises:
            UserError: an image in memory can't be read; a segmenter's run has `masks` instead. Unreadable files are in
                the result.
        """
        from octavo.tasks.classification.predictor import ClassPredictor

        asked: dict[str, Any] = {"member": member, "coverage": coverage, "sets": sets, "cascaded": cascade}
        return ClassPredictor(self._files, self._device, **asked).predict(images)

    def masks(self, images: Images) -> dict[str, np.ndarray]:
        """Return a segmenter's masks: file → channel indices uint8 [H,W], names in `classes`; see `predictor`.

        An image in memory is called by its place, `images[0]`. For images that are larger than memory would like, and
        to write files, see `octavo predict`.

        Raises:
            UserError: a run of classifiers, no images, or one that can't be read.
        """
        from octavo.tasks.segmentation.predictor import MaskPredictor

        return dict(MaskPredictor(self._files, self._device).each(images))

    def report(self, *, refresh: bool = False) -> ReportFile:
        """Bind the run into its `report.html`, which a notebook shows inline; see `octavo.verbs.report`."""
        from octavo.verbs.report import report

        return ReportFile(report(self._files, refresh=refresh, device=self._device))

    @property
    def looks(self) -> tuple[str, ...]:
        """Names of the looks that can be taken at the run, as `figure` and `octavo explain --look` know them."""
        from octavo.tasks.known import task_of

        self.metrics  # noqa: B018 (raises where the run isn't finished)
        return tuple(task_of(self.recipe).sections())

    def figure(self, name: str) -> PictureFile:
        """Return one picture of the run, which a notebook shows inline; drawn if it isn't there, or not of it as it is.

        Args:
            name: of a look, whose first picture it is, or of a file in the run's `plots` without its ending.

        Raises:
            UserError: there is no such look or picture, or the look found nothing to draw.
        """
        drawn = {path.stem: path for path in sorted(self._files.plots.glob("*.*"), reverse=True)}
        if name in drawn and name not in self.looks:
            return PictureFile(drawn[name])
        from octavo.verbs.report import first_picture

        return PictureFile(first_picture(self._files, name, others=tuple(drawn), device=self._device))

    def embed(self, images: Images, layer: str) -> np.ndarray:
        """Return one layer's output, float32 [n,·]; `vgg16.head.0` is 256 numbers; see `LoadedMembers.embed`."""
        from octavo.inference.members import LoadedMembers

        return LoadedMembers(self._files, self._device).embed(images, layer)

    def reproduce(self, out: str | Path | None = None, **options: Any) -> Reproduction:
        """Train the run once more in the folder `out` and compare, bit by bit; see `octavo.verbs.reproduce`.

        `options` are those of `reproduce` (data, members, teacher, anyway, progress, say) and fields of `Options`
        (weights_dir, cache, device, resume, overwrite).
        """
        from octavo.verbs.reproduce import asked

        return asked(self._files, out, options)
