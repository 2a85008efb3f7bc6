"""The members of an ensemble, each loaded once, for logits, embeddings and Grad-CAM."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from octavo.data.store import ImageDecoder
from octavo.engine.embedding import split_layer
from octavo.engine.folder import RunFolder
from octavo.engine.gradcam import Heat, gradcam
from octavo.engine.hardware import find
from octavo.engine.infer import Parts
from octavo.engine.restore import Trained, restore, restore_all
from octavo.errors import UserError, lookup
from octavo.inference.images import Images, batches, given, require_readable
from octavo.progress import Progress, silent


class LoadedMembers:
    """Members of a run of an ensemble, finished or with those trained that are asked for.

    Safe in several threads, which take turns at the networks: a layer's output is caught by a hook, Grad-CAM takes
    gradients, and a CUDA graph has one input for all.

    Attributes:
        run: the run.
        names: of all its members, loaded or not.
        device: where they compute.
        decoder: from files to the pixels that they take.
        turn: held by whoever computes.
    """

    def __init__(self, run: RunFolder, device: str = "auto", names: Sequence[str] = ()) -> None:
        """Load the members `names`; others are loaded when they are first asked for.

        Raises:
            UserError: no ensemble's run, an unknown device or member, or one that isn't trained.
        """
        recipe = run.ensemble_recipe
        self.run, self.names = run, tuple(member.name for member in recipe.members)
        self.decoder = ImageDecoder(recipe.stored_side)
        self._classes = len(run.manifest["classes"])
        self.device = find(device).device
        self.turn = threading.RLock()
        self._loaded = dict(zip(names, restore_all(run, names, self.device), strict=True))

    def __getitem__(self, name: str) -> Trained:
        """Return a member, loaded now where it wasn't.

        Raises:
            UserError: no such member, or one that isn't trained.
        """
        with self.turn:
            if name not in self._loaded:
                lookup(dict.fromkeys(self.names), name, f"{self.run.path}: member")
                self._loaded[name] = restore(self.run, name, self.device)
            return self._loaded[name]

    def embed(self, images: Images, layer: str, *, progress: Progress = silent) -> np.ndarray:
        """Return the output of one layer on images, flattened, float32 [n,·], in the order in which they were given.

        Args:
            images: as of `Predictor.predict`.
            layer: `MEMBER.LAYER`, such as `vgg16.head.0`: the reference's `fc.0`, 256 numbers before the ReLU.
            progress: told after every batch.

        Raises:
            UserError: no such member or layer, or an image that can't be read.
        """
        name, below = split_layer(self.names, layer)
        member = self[name]
        listed, errors, parts = given(images).images, dict[str, str](), list[np.ndarray]()
        for done, _, batch in batches(listed, self.decoder, errors):
            require_readable(errors, listed)
            if batch:
                with self.turn:
                    parts.append(member.layer(batch, below))
            progress("embed", done, len(listed))
        return np.concatenate(parts)

    def gradcam(self, images: Images, member: str, targets: Sequence[int] | None = None) -> Heat:
        """Return where a member finds what speaks for a class in each image; see `engine.gradcam`.

        Args:
            images: as of `Predictor.predict`; all are held in memory.
            member: its name; with folds the first fold's network counts.
            targets: a class id for each image, in their order; by default the member's own most probable class.

        Raises:
            UserError: no such member, an image that can't be read, targets of another number or of no class.
        """
        trained = self[member]
        listed, errors, pictures, own = given(images).images, dict[str, str](), list[np.ndarray](), list[int]()
        fitting = Parts()
        for _, _, batch in batches(listed, self.decoder, errors):
            require_readable(errors, listed)
            if batch is None:
                continue
            if targets is None:
                with self.turn:
                    own += fitting(trained.logits, batch).argmax(1).tolist()
            for pixels, (height, width) in zip(batch.inputs.numpy(), batch.sizes, strict=True):
                pictures.append(pixels[:, :height, :width].transpose(1, 2, 0))
        chosen = own if targets is None else [int(target) for target in targets]
        self._require_targets(chosen, len(pictures))
        with self.turn:
            return gradcam(trained, pictures, chosen)

    def _require_targets(self, targets: Sequence[int], count: int) -> None:
        if len(targets) != count:
            raise UserError(f"targets: {len(targets)} class ids for {count} images; expected one an image")
        if wrong := [target for target in targets if not 0 <= target < self._classes]:
            raise UserError(f"targets: {wrong[0]}; expected class ids from 0 to {self._classes - 1}")
