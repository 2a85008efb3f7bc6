"""Predictor of a run of a segmenter: its network loaded once, and the masks that it makes of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from octavo.data.memory_images import decode_in_memory, size_in_memory
from octavo.data.rgb import BrokenImage
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import find
from octavo.errors import UserError
from octavo.inference.images import GivenImage, Images, given
from octavo.inference.predictor import Predictor
from octavo.progress import Progress, silent
from octavo.tasks.segmentation.restore import MAX_PIXELS, Averaging, TrainedSegmenter, restore_segmenter


@dataclass(frozen=True, eq=False)
class Masks:
    """What a segmenter makes of a list of images.

    Attributes:
        files: names of the images that could be read, n of them: a file's path below the folder that was given, or its
            file name; `images[3]` of the fourth image where it was given in memory.
        classes: names of the classes, C of them.
        masks: n masks uint8 [H,W] in their images' sizes, values 0 to C - 1.
        errors: files that could not be read → reason.
        unread: in a line, files in the folders that are no images, by their endings.
    """

    files: tuple[str, ...]
    classes: tuple[str, ...]
    masks: tuple[np.ndarray, ...]
    errors: dict[str, str]
    unread: str = ""


class MaskPredictor(Predictor[Masks]):
    """A segmenter, loaded once.

    Example:
        ```
        predictor = octavo.load("runs/fcn8s-plus").predictor(flips=True)
        found = predictor.predict([Path("a.jpg").read_bytes(), np.zeros((64, 96, 3), np.uint8)])
        found.masks[1]               # uint8 [64,96], values are places in found.classes
        ```

    Attributes:
        trained: the network, and how images become its input.
    """

    def __init__(
        self, run: RunFolder, device: str = "auto", *, flips: bool = False, scales: tuple[float, ...] = ()
    ) -> None:
        """Load the network of a finished run.

        Args:
            run: a finished run.
            device: `auto`, `cpu`, `cuda` or `mps`.
            flips: average the probabilities of the mirrored images.
            scales: average the probabilities of the image at these factors, from 0.25 to 4.

        Raises:
            UserError: a run of another task, one that isn't finished, an unknown device, other factors.
        """
        self.trained: TrainedSegmenter = restore_segmenter(run, find(device).device, Averaging(flips, scales or (1.0,)))
        self.classes = tuple(run.manifest["classes"])

    def predict(self, images: Images, *, progress: Progress = silent) -> Masks:
        """Return the masks of images, all held in memory; see `Predictor.predict`.

        Images of more than 4 million pixels at the network's scale go through it in windows.

        Raises:
            UserError: no images, or one in memory that can't be read. Files that can't are in the result's `errors`.
        """
        listed, masks, errors = given(images), dict[str, np.ndarray](), dict[str, str]()
        for done, each in enumerate(listed.images, 1):
            try:
                masks[each.name] = self.mask(each)
            except BrokenImage as error:
                errors[each.name] = str(error)
            progress("predict", done, len(listed.images), f"{len(errors)} unreadable" if errors else "")
        return Masks(tuple(masks), self.classes, tuple(masks.values()), errors, listed.unread)

    def each(self, images: Images) -> Iterator[tuple[str, np.ndarray]]:
        """Yield one image after another: its path (its name, where it is in memory) and its mask uint8 [H,W].

        Raises:
            UserError: no images, or one that can't be read.
        """
        for each in given(images).images:
            where = str(each.image) if isinstance(each.image, Path) else each.name
            try:
                yield where, self.mask(each)
            except BrokenImage as error:
                raise UserError(f"{where}: {error}") from error

    def mask(self, given: GivenImage) -> np.ndarray:
        """Return the mask of an image, uint8 [H,W].

        Raises:
            BrokenImage: a file that can't be read.
            UserError: an image in memory that can't.
        """
        image = given.image
        if isinstance(image, Path):
            return self.trained.ids(image)
        try:
            size = size_in_memory(image, MAX_PIXELS)
            small = decode_in_memory(image, MAX_PIXELS, scale=self.trained.scale)
        except BrokenImage as error:
            raise UserError(f"{given.name}: {error}") from None
        return self.trained.ids_of(small, size)
