"""Predictions: labels and probabilities of a list of images, and the table that they are written to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from octavo.engine.folder import RunFolder
from octavo.files import write_csv
from octavo.output_lock import locked_output
from octavo.overwrite import UNREADABLE, remove_list, require_writable, table_of


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run says of a list of images.

    Attributes:
        files: names of the images that could be read, n of them: a file's path below the folder that was given, or its
            file name; `images[3]` of the fourth image where it was given in memory.
        classes: names of the classes, C of them.
        ids: int64 [n], class id of the most probable class, taken from the logits as in an evaluation.
        probabilities: float32 [n,C], rows sum to one.
        errors: files that could not be read → reason.
        sets: whether a class is in an image's prediction set, bool [n,C], if a coverage was asked for.
        stopped: member → how many images a cascade answered after it, in the cascade's order, if one answered.
        unread: in a line, files in the folders that are no images, by their endings.
        inputs: the files and folders that were given.
        run: where the run lies.
    """

    files: tuple[str, ...]
    classes: tuple[str, ...]
    ids: np.ndarray
    probabilities: np.ndarray
    errors: dict[str, str]
    sets: np.ndarray | None = None
    stopped: dict[str, int] | None = None
    unread: str = ""
    inputs: tuple[Path, ...] = ()
    run: RunFolder | None = None

    @property
    def labels(self) -> list[str]:
        """Name of the most probable class of each image."""
        return [self.classes[i] for i in self.ids]

    def write(
        self, path: str | Path, *, ids: bool = False, probabilities: bool = False, overwrite: bool = False
    ) -> None:
        """Write `image_id,label` as CSV, and `STEM.errors.csv` beside it if there were unreadable files.

        With `ids` the label is the class id instead of its name; with `probabilities` there are the columns
        `confidence` and `p_NAME` for every class; with prediction sets `set`, class names joined by `|`.

        Raises:
            UserError: `path` would replace something else than predictions, unless `overwrite` allows it; images and
                files of a run are never replaced; or another process is writing there.
        """
        target, errors = require_place(Path(path), self.run, self.inputs, overwrite=overwrite)
        with locked_output([target, errors], f"--out {path}"):
            self.write_locked(target, errors, ids=ids, probabilities=probabilities)

    def write_locked(self, target: Path, errors: Path, *, ids: bool = False, probabilities: bool = False) -> None:
        """Write to the two files of `require_place`, which the caller keeps others from writing; see `write`."""
        rows = []
        for place, (file, number, row) in enumerate(zip(self.files, self.ids, self.probabilities, strict=True)):
            entry: dict[str, object] = {"image_id": file, "label": int(number) if ids else self.classes[number]}
            if probabilities:
                entry["confidence"] = f"{row.max():.6f}"
                entry |= {f"p_{c}": f"{p:.6f}" for c, p in zip(self.classes, row, strict=True)}
            if self.sets is not None:
                entry["set"] = "|".join(c for c, held in zip(self.classes, self.sets[place], strict=True) if held)
            rows.append(entry)
        write_csv(target, rows, ("image_id", "label"))
        if self.errors:
            write_csv(errors, [{"image_id": f, "reason": r} for f, r in self.errors.items()])
        else:
            remove_list(errors)


def errors_path(path: Path) -> Path:
    """Return where the unreadable files of the predictions at `path` are listed."""
    return path.with_name(f"{path.stem}.errors.csv")


TABLE = table_of(
    "table of predictions", ("image_id", "label"), lambda column: column in ("confidence", "set") or column[:2] == "p_"
)
"""The kind of file that predictions are."""


def require_place(
    out: Path, run: RunFolder | None, images: Sequence[str | Path], *, overwrite: bool = False
) -> tuple[Path, Path]:
    """Return where predictions and the list of unreadable files go if they are to be found at `out`.

    Raises:
        UserError: something that isn't predictions would be replaced; see `require_writable`.
    """
    root = [run.data] if run and run.data else []
    read = [*map(Path, images), *root]
    target = require_writable(out, TABLE, overwrite=overwrite, inputs=read, data=root)
    errors = require_writable(errors_path(out), UNREADABLE, overwrite=overwrite, inputs=read)
    return target, errors
