"""The files of one member, or of a segmenter, in a run's folder. Every file is whole or absent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save

from octavo.files import as_json, inside, read_csv, read_json, write_atomic, write_csv


class MemberFolder:
    """The files of one member."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "weights.safetensors"
        self.checkpoint = folder / "last.ckpt"
        self.best = folder / "best.safetensors"
        self._facts = folder / "member.json"
        self._outputs = folder / "outputs.safetensors"
        self._history = folder / "history.csv"

    @property
    def finished(self) -> bool:
        """Whether the member is trained; its facts are the last file that is written."""
        return self._facts.is_file()

    def facts(self) -> dict[str, Any]:
        """Return what is known of the member: backbone, widths, normalisation, origin of its weights."""
        return read_json(self._facts)

    def outputs(self) -> dict[str, np.ndarray]:
        """Return what it says of each part of the data: a member's logits float32 [n,C], or a segmenter's confusion
        counts int32 [n,C+1,C+1] of each image."""
        return load_file(self._outputs)

    def outputs_digest(self) -> str:
        """Return the sha256 of the file of its outputs: other weights give another."""
        with self._outputs.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def fold(self, fold: int) -> MemberFolder:
        """Return the files of one of its folds, from 0."""
        return MemberFolder(self.folder / f"fold_{fold + 1}")

    def stage_file(self, stage: int | str, name: str) -> Path:
        """Return where the mask called `name`, predicted after an epoch (from 1) or by the `best`, is kept."""
        folder = f"epoch_{stage:03d}" if isinstance(stage, int) else stage
        return inside(self.folder.parents[1] / "masks" / folder, f"{name}.png", nested=True)

    def predicted_file(self, part: str, name: str) -> Path:
        """Return where the predicted mask called `name` of one part is kept."""
        return inside(self.folder.parents[1] / "predictions" / part, f"{name}.png", nested=True)

    def write_mask(self, path: Path, colours: np.ndarray) -> None:
        """Write a mask in colours, uint8 [H,W,3], as PNG."""
        write_atomic(path, lambda file: Image.fromarray(colours).save(file, "PNG"))

    def history(self) -> list[dict[str, str]]:
        """Return a row per epoch."""
        return read_csv(self._history)

    def finish(
        self, facts: Mapping[str, Any], outputs: Mapping[str, np.ndarray], history: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write what training gave, the facts last, and delete the checkpoint."""
        write_atomic(self._outputs, save({k: np.ascontiguousarray(v) for k, v in outputs.items()}))
        write_csv(self._history, history)
        write_atomic(self._facts, as_json(facts))
        self.tidy()

    def tidy(self) -> None:
        """Delete what only an unfinished member needs."""
        self.checkpoint.unlink(missing_ok=True)
        self.best.unlink(missing_ok=True)
