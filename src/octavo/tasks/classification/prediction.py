"""A run and image files → labels and probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.special import softmax

from octavo.data.batches import Batch
from octavo.data.store import ImageDecoder, decoded
from octavo.data.unread import unread_below
from octavo.data.walk import list_images
from octavo.engine.cascaded import cascade_of, in_stages, together_of
from octavo.engine.embedding import split_layer
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import find
from octavo.engine.infer import AT_ONCE, Parts
from octavo.engine.restore import batch_of, restore, restore_all, together
from octavo.engine.sets import METHOD, sets_of
from octavo.errors import UserError, lookup
from octavo.files import write_csv
from octavo.overwrite import UNREADABLE, remove_list, require_writable, table_of
from octavo.progress import Progress, silent
from octavo.recipe import ClassifyRecipe


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run says of a list of images.

    Attributes:
        files: the images that could be read, n of them, as they were named.
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
                files of a run are never replaced.
        """
        target, errors = require_place(Path(path), self.run, self.inputs, overwrite=overwrite)
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


def predict(
    run: RunFolder,
    images: Sequence[str | Path],
    *,
    device: str = "auto",
    member: str | None = None,
    coverage: float | None = None,
    sets: str = METHOD,
    cascaded: bool = False,
    progress: Progress = silent,
) -> Predictions:
    """Return the ensemble's answer on image files and folders of them (searched to the bottom).

    Args:
        run: a finished run.
        images: files and folders.
        device: `auto`, `cpu`, `cuda` or `mps`.
        member: use this member alone instead of the ensemble.
        coverage: also give prediction sets that hold the true class of this share of images, 0.9 say.
        sets: how they are made, a key of `conformal.METHODS`.
        cascaded: let images stop at the first members that are sure enough, as the run's cascade says.
        progress: told after every batch.

    Raises:
        UserError: no images, an unfinished run, an unknown member. Unreadable files are in the result's `errors`.
    """
    side = run.recipe_as(ClassifyRecipe).stored_side
    ensemble, classes = run.ensemble, tuple(run.manifest["classes"])
    if member:
        lookup(dict.fromkeys(ensemble.names), member, "--member")
    if coverage is not None and member:
        raise UserError("--coverage: sets are made of the ensemble's probabilities; leave --member out")
    if cascaded and (member or coverage is not None):
        raise UserError("--cascade: answers for the whole ensemble; leave --member and --coverage out")
    fitted = sets_of(run, coverage, sets) if coverage is not None else None
    stages = cascade_of(run) if cascaded else None
    used = list(ensemble.used)
    asked = [member] if member else stages.names if stages else used
    target = find(device).device
    trained = restore_all(run, asked, target)
    at_once = together_of(side, target) if stages else AT_ONCE
    paths = list_images(images)
    ids = shown(paths, images)

    def answers(batch: Batch) -> np.ndarray:
        if stages:
            return in_stages(stages, trained, batch)
        logits = together(trained, batch)
        return (
            ensemble.member_logits(member, logits[0]) if member else ensemble.logits(_all(ensemble.names, used, logits))
        )

    names, errors, parts, fitting = [], {}, [], Parts()
    for done, files, batch in _batches(paths, side, errors, at_once):
        names += [ids[path] for path in files]
        if batch:
            parts.append(fitting(answers, batch))
        progress("predict", done, len(paths), f"{len(errors)} unreadable" if errors else "")
    found = np.concatenate(parts) if parts else np.zeros((0, len(classes)))
    table, last = found[:, : len(classes)], found[:, len(classes) :]
    probabilities = softmax(table, axis=1).astype(np.float32)
    unreadable = {ids[path]: reason for path, reason in errors.items()}
    chosen = fitted.sets(softmax(table, axis=1)) if fitted else None
    stopped = {name: int((last == place).sum()) for place, name in enumerate(asked)} if stages else None
    passed = unread_below([path for path in map(Path, images) if path.is_dir()], images=False)
    return Predictions(
        tuple(names),
        classes,
        table.argmax(1),
        probabilities,
        unreadable,
        chosen,
        stopped,
        passed,
        tuple(map(Path, images)),
        run,
    )


def embed(
    run: RunFolder, images: Sequence[str | Path], layer: str, *, device: str = "auto", progress: Progress = silent
) -> np.ndarray:
    """Return the output of one layer of one member on images, float32 [n,·], a row per file in natural order.

    `layer` is `MEMBER.LAYER`, such as `vgg16.head.0`: the reference's `fc.0`, 256 numbers before the ReLU.

    Raises:
        UserError: no such member or layer, or a file that can't be read.
    """
    name, below = split_layer(run, layer)
    trained = restore(run, name, find(device).device)
    paths, errors, parts = list_images(images), {}, []
    for done, _, batch in _batches(paths, run.recipe_as(ClassifyRecipe).stored_side, errors):
        if errors:
            path, reason = next(iter(errors.items()))
            raise UserError(f"{path}: {reason}")
        if batch:
            parts.append(trained.layer(batch, below))
        progress("embed", done, len(paths))
    return np.concatenate(parts)


def shown(paths: Sequence[Path], given: Sequence[str | Path]) -> dict[Path, str]:
    """Return each image's id: its path below the folder that was given, or its file name.

    Where two images would have the same id, both are called by their whole path as it was given.
    """
    roots = {root for root in map(Path, given) if root.is_dir()}

    def short(path: Path) -> str:
        root = next((parent for parent in reversed(path.parents) if parent in roots), path.parent)
        return path.relative_to(root).as_posix()

    names = {path: short(path) for path in paths}
    count = Counter(names.values())
    return {path: name if count[name] == 1 else path.as_posix() for path, name in names.items()}


def _batches(
    paths: Sequence[Path], side: int, errors: dict[Path, str], at_once: int = AT_ONCE
) -> Iterator[tuple[int, list[Path], Batch | None]]:
    """Yield (files done, readable files, their batch); what can't be read goes into `errors`."""
    stream = zip(paths, decoded(paths, ImageDecoder(side)), strict=True)
    done = 0
    while group := list(islice(stream, at_once)):
        done += len(group)
        errors |= {path: image for path, image in group if isinstance(image, str)}
        good = [(path, image) for path, image in group if not isinstance(image, str)]
        yield done, [path for path, _ in good], batch_of([image for _, image in good]) if good else None


def _all(names: Sequence[str], used: Sequence[str], logits: np.ndarray) -> np.ndarray:
    """Return logits [M,B,C] of all members; those without weight, which were not run, count nothing and stay zero."""
    full = np.zeros((len(names), *logits.shape[1:]), np.float32)
    for name, row in zip(used, logits, strict=True):
        full[list(names).index(name)] = row
    return full
