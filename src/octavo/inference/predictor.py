"""Predictor: loaded networks that answer for one image after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from octavo.inference.images import Images
from octavo.progress import Progress, silent

Answer = TypeVar("Answer", covariant=True)


class Predictor(ABC, Generic[Answer]):
    """A run's networks, loaded once: each image after that costs no file of the run and no loading.

    Safe in several threads: images are decoded side by side, and the networks taken in turns.

    Attributes:
        classes: names of the classes in the order of their ids, C of them.
    """

    classes: tuple[str, ...]

    @abstractmethod
    def predict(self, images: Images, *, progress: Progress = silent) -> Answer:
        """Return the answer on images, one or a list.

        Args:
            images: paths of image files and of folders, which are searched to the bottom; encoded images as bytes;
                Pillow images; NumPy arrays uint8 [H,W,3] (RGB, 0 to 255) or [H,W] (grey).
            progress: told after every batch.

        Raises:
            UserError: nothing at a path, no images at all, or by its place in the list what isn't an image.
                Files that can't be read are in the answer's `errors`.
        """
