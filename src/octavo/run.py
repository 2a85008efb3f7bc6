"""A run as Python sees it: its numbers, its members, its predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.engine.folder import RunFolder
from octavo.numbers.results import Report
from octavo.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from octavo.verbs.predict import Predictions


class Members(Mapping[str, "nn.Module"]):
    """The trained networks of a run by name; each is loaded when it is first asked for."""

    def __init__(self, folder: RunFolder, device: str) -> None:
        self._folder, self._device = folder, device
        self._names = tuple(m.name for m in folder.recipe.members)
        self._loaded: dict[str, nn.Module] = {}

    def __getitem__(self, name: str) -> nn.Module:
        """Return a plain `nn.Module` in eval mode: images float [B,3,S,S], normalised, → logits [B,C]."""
        if name not in self._loaded:
            if name not in self._names:
                raise KeyError(name)
            from octavo.engine.hardware import find
            from octavo.engine.restore import restore

            self._loaded[name] = restore(self._folder, name, find(self._device).device).net
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


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
    def report(self) -> Report:
        """The numbers that training ended with."""
        return self._files.report

    @property
    def weights(self) -> dict[str, float]:
        """Each member's share in the ensemble; they sum to one."""
        ensemble = self._files.ensemble
        return dict(zip(ensemble.names, ensemble.weights, strict=True))

    def evaluate(self, data: str | Path | None = None, **options: Any) -> Report:
        """Grade the run on its own validation images or on other `data`; see `octavo.verbs.evaluate.evaluate`."""
        from octavo.verbs.evaluate import evaluate

        return evaluate(self._files, data=data, device=self._device, **options)

    def predict(self, images: str | Path | Sequence[str | Path], *, member: str | None = None) -> Predictions:
        """Return the ensemble's (or one member's) answer on image files and folders; see
        `octavo.verbs.predict`."""
        from octavo.verbs.predict import predict

        return predict(self._files, _listed(images), device=self._device, member=member)

    def embed(self, images: str | Path | Sequence[str | Path], layer: str) -> np.ndarray:
        """Return one layer's output, float32 [n,·]; `vgg16.head.0` is 256 numbers; see `octavo.verbs.predict.embed`."""
        from octavo.verbs.predict import embed

        return embed(self._files, _listed(images), layer, device=self._device)


def _listed(images: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return [images] if isinstance(images, str | Path) else images
