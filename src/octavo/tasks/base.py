"""Task: what one task does in its own way, from its recipe to its report; the rest of Octavo asks nothing else.

A task is stateless. Its module imports neither torch nor pictures: each method imports what it runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from octavo.numbers.results import Result
from octavo.progress import Progress, Say
from octavo.recipe import Network, Recipe
from octavo.tasks.outcome import Checked, OwnOptions, Written

if TYPE_CHECKING:
    import numpy as np
    from pytorch_lightning.callbacks import Callback
    from rich.table import Table
    from torch import nn

    from octavo.data.store import Pixels
    from octavo.engine.estimate import Anatomy
    from octavo.engine.folder import RunFolder
    from octavo.engine.job import Job, Prepared
    from octavo.engine.material import Material
    from octavo.engine.member_folder import MemberFolder
    from octavo.inference.predictor import Predictor
    from octavo.looks.look import Way
    from octavo.networks.loading import Extractor
    from octavo.numbers.compare_results import Comparison
    from octavo.page.summary import Summary


class Task(ABC):
    """One task.

    Attributes:
        name: what recipes and runs call it.
        recipe_type: what a recipe of it may say.
        report_type: what `metrics.json` of a run of it holds.
        score_type: what scoring predictions gives.
        options: command → options of its own; those of other tasks are refused.
    """

    name: ClassVar[str]
    recipe_type: ClassVar[type[Recipe]]
    report_type: ClassVar[type[Result]]
    score_type: ClassVar[type[Result]]
    options: ClassVar[Mapping[str, OwnOptions]]

    @abstractmethod
    def load_data(
        self,
        recipe: Any,
        data: str,
        layout: str | None,
        cache: Path,
        skip_broken: bool,
        labels: Path | None = None,
        *,
        columns: str | None = None,
        progress: Progress,
    ) -> Material:
        """Return the images that `data` holds, split as the recipe says and decoded into the cache.

        Raises:
            UserError: data or labels that can't be read or used, networks that can't be built.
        """

    @abstractmethod
    def extractor(self, network: Any, recipe: Any) -> Extractor:
        """Return a network's extractor on the meta device, where it has shapes but takes no memory.

        Raises:
            UserError: it can't be built.
        """

    @abstractmethod
    def anatomy(self, recipe: Any, network: Any, classes: int, sizes: np.ndarray | None = None) -> Anatomy:
        """Return how a network is built, for an estimate; `sizes` int [N,2] are heights and widths of stored images."""

    @abstractmethod
    def prepare(self, job: Job, progress: Progress) -> Prepared:
        """Return the network of a job as its training starts, its batches and what is minimised."""

    def callbacks(self, job: Job, prepared: Prepared, folder: MemberFolder) -> Sequence[Callback]:
        """Return what looks on while a network is trained."""
        return ()

    @abstractmethod
    def outputs(
        self, job: Job, prepared: Prepared, best: nn.Module, folder: MemberFolder, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """Return what the trained network says of each part of the data that wasn't trained on: arrays to keep."""

    @abstractmethod
    def facts(self, job: Job, prepared: Prepared) -> dict[str, Any]:
        """Return what must be known of a trained network to use it."""

    @abstractmethod
    def finish(self, run: RunFolder, done: bool, progress: Progress, say: Say) -> None:
        """Make a run of trained networks a finished one: combine them, and write the numbers.

        Args:
            run: its folder.
            done: whether all networks were trained before this training began.
            progress: told how far it is.
            say: told what isn't there.
        """

    @abstractmethod
    def recognises(self, data: str, layout: str | None, columns: str | None) -> bool:
        """Tell whether data are what this task is trained on, by looking at them."""

    @abstractmethod
    def scores(self, predictions: Path) -> bool:
        """Tell whether a file or folder holds predictions of this task."""

    @abstractmethod
    def check(self, data: str, **given: Any) -> Checked:
        """Return what data are and what is wrong with them; `given` are options of `octavo check`.

        Raises:
            UserError: nothing can be told of them.
        """

    @abstractmethod
    def network(self, run: RunFolder, name: str, device: str) -> nn.Module:
        """Return a trained network of a run, in eval mode.

        Raises:
            UserError: it isn't trained yet.
        """

    @abstractmethod
    def shares(self, run: RunFolder) -> dict[str, float]:
        """Return each network's share in a run's answer; they sum to one."""

    @abstractmethod
    def evaluate(self, run: RunFolder, **given: Any) -> Any:
        """Return the numbers of a finished run on its own images or on others; `given` are those of `octavo evaluate`.

        Raises:
            UserError: an unfinished run, a split that isn't there, data that can't be used.
        """

    @abstractmethod
    def predictor(self, run: RunFolder, device: str, **given: Any) -> Predictor[Any]:
        """Return a finished run's networks, loaded once; `given` are options of `octavo predict`, but of its files.

        Raises:
            UserError: an unfinished run, or options that can't be had.
        """

    @abstractmethod
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
        **given: Any,
    ) -> Written:
        """Write what a finished run says of images to `out`; `given` are options of `octavo predict`.

        Raises:
            UserError: no images, an unfinished run, or something else in the way of what is written.
        """

    @abstractmethod
    def score(self, predictions: Path, truth: str, progress: Progress, **given: Any) -> Any:
        """Return how predictions compare with the truth; `given` are options of `octavo score`.

        Raises:
            UserError: predictions or a truth that can't be read, or that don't belong to each other.
        """

    @abstractmethod
    def score_tables(self, score: Any) -> list[Table]:
        """Return a score's numbers as tables for the terminal."""

    @abstractmethod
    def subject(self, run: RunFolder, device: str, data: str | None, progress: Progress, say: Say) -> Any:
        """Return what a report's sections and a comparison read of a finished run; see `octavo.looks.subject`."""

    @abstractmethod
    def sections(self) -> dict[str, Way]:
        """Return the sections of a report by name, in their order."""

    @abstractmethod
    def summary(self, subject: Any) -> Summary:
        """Return what the first screen of a report says."""

    @abstractmethod
    def compare(self, runs: Sequence[RunFolder], names: tuple[str, ...], progress: Progress) -> Comparison:
        """Return every number of a comparison of finished runs, which are called `names`.

        Raises:
            UserError: they have no images in common, or can't be compared.
        """

    @abstractmethod
    def tables(self, report: Any, every_class: bool) -> list[Table]:
        """Return a report's numbers as tables for the terminal."""

    @abstractmethod
    def describe(self, recipe: Any, networks: Sequence[Any], classes: int | None, depth: int | None) -> str:
        """Return some of a recipe's networks as text: totals, then layer by layer down to `depth`.

        Raises:
            UserError: a network that can't be built.
        """

    def student_recipe(
        self, teacher: RunFolder, student: str, overrides: Iterable[str], own: Mapping[str, float]
    ) -> Recipe:
        """Return the recipe of one network that learns from a run; `own` are its temperature and weight.

        Raises:
            UserError: nothing learns from runs of this task, or what comes of the overrides is no recipe.
        """
        raise teacher.of_another_task()

    def resumed_student(self, run: RunFolder, teacher: RunFolder, student: str, own: Mapping[str, float]) -> Recipe:
        """Return the recipe of a student whose training is resumed, its teacher where it is now.

        Raises:
            UserError: nothing learns from runs of this task, or it began as another student.
        """
        raise teacher.of_another_task()

    def require(self, recipe: Any, material: Material, out: Path) -> None:  # noqa: B027 (most tasks refuse nothing)
        """Refuse before the first step what can't be trained.

        Raises:
            UserError: what it is.
        """

    def weights_notes(self, recipe: Any, weights_dir: Path | None) -> Iterable[str]:
        """Return what a user should know of the weights that training starts from."""
        return ()

    def notes(self, recipe: Any, material: Material) -> Iterable[str]:
        """Return what a user should know before the first step, a sentence each."""
        return ()

    def start_files(self, recipe: Any) -> Mapping[str, Path]:
        """Return the files of weights beside the published ones that training starts from, by a name for each.

        Raises:
            UserError: one that isn't there.
        """
        return {}

    def cached_features(
        self, recipe: Any, classes: int, pixels: Pixels, origins: Mapping[str, str], device: str, cache: Path
    ) -> frozenset[str]:
        """Return the names of the networks whose features are in the cache already.

        Args:
            recipe: the resolved recipe.
            classes: number of classes.
            pixels: the decoded images.
            origins: name of a network → SHA-256 of the weights that it starts from.
            device: kind of device that it computes on.
            cache: the cache folder.
        """
        return frozenset()

    def result(self, run: RunFolder, job: Job, network: Network) -> str:
        """Return in one line how a network that was just trained does; empty where there is nothing to say yet."""
        return ""
