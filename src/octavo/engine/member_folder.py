"""The files of one member, or of a segmenter, in a run's folder: each is whole or absent, and known by its hash."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from octavo.engine.manifest import MemberFacts
from octavo.engine.run_files import Keys, RunFiles
from octavo.errors import Damaged
from octavo.files import csv_bytes, inside, read_rows, write_atomic
from octavo.integrity import checking, sha256_of

FILES = "files"
"""Key of `member.json` that holds the SHA-256 of each file that training left, by its path in the run's folder."""


class MemberFolder:
    """The files of one member.

    `member.json`, the last that is written, holds the hashes of the others. Until then those of a segmenter's masks,
    which are written on the way, are in `masks.json`.
    """

    def __init__(self, folder: Path, run: RunFiles) -> None:
        self.folder, self.run = folder, run
        self.weights = folder / "weights.safetensors"
        self.checkpoint = folder / "last.ckpt"
        self.best = folder / "best.safetensors"
        self.record = folder / "member.json"
        self.outputs_file = folder / "outputs.safetensors"
        self.history_file = folder / "history.csv"
        self._masks = folder / "masks.json"
        self._written: dict[str, str] = {}

    @property
    def finished(self) -> bool:
        """Whether the member is trained; its facts are the last file that is written."""
        return self.record.is_file()

    @property
    def remedy(self) -> str:
        """What to do about a damaged file of the member's."""
        top = self.run.root.joinpath(*self.folder.relative_to(self.run.root).parts[:2])
        return f"restore it from a copy, or delete {top} and {self.run.retrain} trains it anew"

    def _whole(self) -> Keys:
        return self.run.read_object(self.record, self.remedy, MemberFacts)

    def facts(self) -> dict[str, Any]:
        """Return what is known of the member: backbone, widths, normalisation, origin of its weights."""
        found = self._whole()
        found.pop(FILES, None)
        return found

    def files(self) -> dict[str, str]:
        """Return the SHA-256 of each file that training left, by its path in the run's folder, without its folds'.

        Of a run that was written before files were hashed there are none.
        """
        return dict(self._whole().get(FILES, {}))

    def folds(self) -> list[MemberFolder]:
        """Return the folders of its folds; none where it has none."""
        return [self.fold(fold) for fold in range(self._whole().get("folds", 0))]

    def sha256(self, path: Path) -> str | None:
        """Return the SHA-256 that a file of the member's was written with.

        None is that of a run from before files were hashed.

        Raises:
            Damaged: the run's files have hashes, and this one has none.
        """
        recorded = self._whole().get(FILES, {}).get(self.run.name(path))
        if recorded is None and self.run.hashed:
            raise Damaged(f"{path}: no hash is recorded for it; {self.remedy}")
        return recorded

    def check(self, path: Path) -> None:
        """Compare a file that training left with its hash.

        Raises:
            Damaged: it is missing, or another than was written.
        """
        with checking(path, self.sha256(path), self.remedy):
            pass

    def check_all(self) -> None:
        """Compare all files that training left with their hashes, those of the folds too.

        Raises:
            Damaged: the first that is missing, or another than was written.
        """
        for name in self.files():
            self.check(inside(self.run.root, name, nested=True))
        for fold in self.folds():
            fold.check_all()

    def read(self, path: Path) -> bytes:
        """Return the content of a file that training left.

        Raises:
            Damaged: it is missing, or another than was written.
        """
        return self.run.read(path, self.sha256(path), self.remedy)

    def masks(self, folder: Path) -> set[str]:
        """Return the names of the masks that were kept in a folder of the run's, without ending."""
        if not self.run.hashed:
            return {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.png")}
        begin = f"{self.run.name(folder)}/"
        return {name.removeprefix(begin).removesuffix(".png") for name in self.files() if name.startswith(begin)}

    def outputs(self) -> dict[str, np.ndarray]:
        """Return what it says of each part of the data: a member's logits float32 [n,C], or a segmenter's confusion
        counts int32 [n,C+1,C+1] of each image.

        Raises:
            Damaged: the file isn't what was written, or not of the run's images and classes.
        """
        return dict(self.run.once(self.outputs_file, None, self._parse_outputs))

    def _parse_outputs(self) -> dict[str, np.ndarray]:
        try:
            found = load(self.read(self.outputs_file))
        except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = str(error).split("\n")[0][:120]
            raise Damaged(
                f"{self.outputs_file}: damaged: no whole safetensors file ({reason}); {self.remedy}"
            ) from None
        self._require_fitting(found)
        for values in found.values():
            values.flags.writeable = False
        return found

    def _require_fitting(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Refuse outputs of other images or classes, or that are no numbers."""
        manifest = self.run.manifest()
        classes, parts = len(manifest["classes"]), manifest.get("data", {}).get("parts", {})
        of_fold = len(self.folder.relative_to(self.run.root).parts) > 2
        for part, values in outputs.items():
            masks = "table" in manifest
            shape = (classes + 1, classes + 1) if masks else (classes,)
            count = parts.get(part, len(values)) if not (of_fold and part == "holdout") else len(values)
            if values.shape != (count, *shape) or values.dtype.kind not in ("iu" if masks else "f"):
                form = f"{values.dtype} {list(values.shape)}"
                raise Damaged(
                    f"{self.outputs_file}: damaged: {part} is {form}, expected {[count, *shape]} by the run's "
                    f"images and classes; {self.remedy}"
                )
            if not np.isfinite(values).all():
                raise Damaged(f"{self.outputs_file}: damaged: {part} holds NaN or infinite numbers; {self.remedy}")

    def outputs_digest(self) -> str:
        """Return the sha256 of the file of its outputs: other weights give another."""
        return self.run.once(
            self.outputs_file, "digest", lambda: hashlib.sha256(self.read(self.outputs_file)).hexdigest()
        )

    def fold(self, fold: int) -> MemberFolder:
        """Return the files of one of its folds, from 0."""
        return MemberFolder(self.folder / f"fold_{fold + 1}", self.run)

    def stage_file(self, stage: int | str, name: str) -> Path:
        """Return where the mask called `name`, predicted after an epoch (from 1) or by the `best`, is kept."""
        folder = f"epoch_{stage:03d}" if isinstance(stage, int) else stage
        return inside(self.run.root / "masks" / folder, f"{name}.png", nested=True)

    def predicted_file(self, part: str, name: str) -> Path:
        """Return where the predicted mask called `name` of one part is kept."""
        return inside(self.run.root / "predictions" / part, f"{name}.png", nested=True)

    def write_mask(self, path: Path, colours: np.ndarray) -> None:
        """Write a mask in colours, uint8 [H,W,3], as PNG."""
        content = io.BytesIO()
        Image.fromarray(colours).save(content, "PNG")
        write_atomic(path, content.getvalue())
        self._written[self.run.name(path)] = hashlib.sha256(content.getvalue()).hexdigest()

    def keep_masks(self) -> None:
        """Keep the hashes of the masks that were written so far, until the member is finished."""
        self._written = self._masks_so_far() | self._written
        self.run.write_object(self._masks, self._written)

    def _masks_so_far(self) -> dict[str, str]:
        return dict(self.run.read_object(self._masks, self.remedy)) if self._masks.is_file() else {}

    def history(self) -> list[dict[str, str]]:
        """Return a row per epoch.

        Raises:
            Damaged: the file isn't what was written.
        """
        rows = self.run.once(self.history_file, None, self._parse_history)
        return [dict(row) for row in rows]

    def _parse_history(self) -> list[dict[str, str]]:
        return read_rows(self.read(self.history_file), self.history_file, self.remedy)

    def finish(
        self,
        facts: Mapping[str, Any],
        outputs: Mapping[str, np.ndarray],
        history: Sequence[Mapping[str, Any]],
        weights: str | None = None,
    ) -> None:
        """Write what training gave, the facts last, and delete the checkpoint.

        Args:
            facts: what must be known of the member to use it.
            outputs: what it says of each part of the data.
            history: a row per epoch.
            weights: SHA-256 of `weights.safetensors`, which is there already; None: as that is now, if it is there.
        """
        contents = {
            self.outputs_file: save({k: np.ascontiguousarray(v) for k, v in outputs.items()}),
            self.history_file: csv_bytes(history),
        }
        for path, content in contents.items():
            write_atomic(path, content)
        files = {self.run.name(path): hashlib.sha256(content).hexdigest() for path, content in contents.items()}
        if weights or self.weights.is_file():
            files[self.run.name(self.weights)] = weights or sha256_of(self.weights)
        hashes = files | self._masks_so_far() | self._written
        self.run.write_object(self.record, {**facts, FILES: dict(sorted(hashes.items()))})
        self.tidy()

    def tidy(self) -> None:
        """Delete what only an unfinished member needs."""
        for path in (self.checkpoint, self.best, self._masks):
            path.unlink(missing_ok=True)
