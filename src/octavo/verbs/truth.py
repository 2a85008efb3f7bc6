"""Truths that predictions are scored against: labelled images, images with masks, or those of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from octavo.data.classes import ClassTable
from octavo.data.content import digest_of
from octavo.data.pairs import Pairs
from octavo.data.samples import Samples
from octavo.data.torchvision_data import read, read_pairs
from octavo.engine.folder import MANIFEST, RunFolder
from octavo.engine.identity import MASK_COLUMN, TRAINED
from octavo.errors import UserError
from octavo.progress import Progress, silent
from octavo.recipe import ClassifyRecipe, SegmentRecipe

_SPLITS = {"train": TRAINED, "val": ("val",), "test": ("test",)}


@dataclass(frozen=True, eq=False)
class MaskedTruth:
    """Images with masks, and how the masks are read.

    Attributes:
        pairs: files and splits.
        classes: table of classes: a table, a name or a TOML file; None: found by looking.
        tolerant: whether each channel of a mask counts as 255 from 128 on, else as 0.
        rule: of the headline; None: by the table.
        run: that has these images; None: none.
        contents: place → content digest of the mask, of a run's.
    """

    pairs: Pairs
    classes: str | Path | ClassTable | None
    tolerant: bool
    rule: str | None = None
    run: RunFolder | None = None
    contents: Mapping[int, str] = field(default_factory=dict)

    def require_unchanged(self, place: int, mask: np.ndarray) -> None:
        """Refuse a decoded mask, uint8 [H,W] or [H,W,1], that isn't the one that the run had."""
        known = self.contents.get(place)
        if known and self.run and digest_of(mask.reshape(1, *mask.shape[:2])) != known:
            raise UserError(
                f"{self.pairs.mask_path(place)}: is another mask than the one that {self.run.path} was made from; "
                f"restore it, or name the folder of the masks instead of the run by --truth"
            )


def run_of(truth: str | Path) -> RunFolder | None:
    """Return the run that a truth names by its folder or its `samples.csv`; None where it is something else."""
    path = Path(truth)
    folder = path.parent if path.name == "samples.csv" else path
    return RunFolder.open(folder) if (folder / MANIFEST).is_file() and (folder / "samples.csv").is_file() else None


def labelled_truth(truth: str | Path | Samples, layout: str | None = None, columns: str | None = None) -> Samples:
    """Return the labelled images that a truth names; of a run those of its own parts, whose files needn't be there.

    Raises:
        UserError: as `read`; a segmenter's run, or a layout of a run.
    """
    if isinstance(truth, Samples):
        return truth
    if (run := run_of(truth)) is None:
        return read(truth, layout, columns)
    _no_layout(truth, layout, columns)
    run.recipe_as(ClassifyRecipe)
    rows = [row for row in run.samples() if row["part"] in {part for parts in _SPLITS.values() for part in parts}]
    classes = tuple(run.manifest["classes"])
    labels = np.array([classes.index(row["label"]) for row in rows], np.int64)
    groups = tuple(row.get("group", "") for row in rows)
    return Samples(
        str(run.path), "run", tuple(row["file"] for row in rows), labels, classes,
        _splits([row["part"] for row in rows]), True, folder=str(run.manifest["data"]["root"]),
        groups=groups if any(groups) else (),
    )  # fmt: skip


def masked_truth(
    truth: str | Path | Pairs,
    layout: str | None = None,
    columns: str | None = None,
    classes: str | Path | ClassTable | None = None,
    tolerant: bool = False,
    progress: Progress = silent,
) -> MaskedTruth:
    """Return the images with masks that a truth names; of a run its own, read as it read them.

    Raises:
        UserError: as `read_pairs`; a run of classifiers, or one whose data are gone or have other files now.
    """
    if isinstance(truth, Pairs):
        return MaskedTruth(truth, classes, tolerant)
    if (run := run_of(truth)) is None:
        return MaskedTruth(read_pairs(truth, layout, columns, progress=progress), classes, tolerant)
    _no_layout(truth, layout, columns)
    recipe, rows, data = run.recipe_as(SegmentRecipe), run.samples(), run.manifest["data"]
    root = str(data["root"])
    if not root.startswith("torchvision:") and not Path(root).exists():
        raise UserError(
            f"{run.path}: its images and masks are gone from {root}; put them back there, or name where they are now "
            "by --truth"
        )
    pairs = read_pairs(root, data["layout"], progress=progress)
    if [(row["file"], row["mask"]) for row in rows] != [*zip(pairs.files, pairs.masks, strict=True)]:
        raise UserError(
            f"{root}: its files are others than those that {run.path} was made from; restore them, or name the folder "
            "of the masks by --truth"
        )
    return MaskedTruth(
        replace(
            pairs,
            root=str(run.path),
            folder=pairs.folder or pairs.root,
            splits=_splits([row["part"] for row in rows]),
            own_split=True,
        ),
        classes or run.table,
        tolerant or recipe.data.tolerant,
        recipe.measure.rule,
        run,
        {} if classes else {i: row.get(MASK_COLUMN, "") for i, row in enumerate(rows)},
    )


def _no_layout(truth: str | Path, layout: str | None, columns: str | None) -> None:
    for name, given in {"--layout": layout, "--columns": columns}.items():
        if given:
            raise UserError(f"{name} {given}: means nothing for a run, as {truth} is; leave it away")


def _splits(parts: list[str]) -> dict[str, np.ndarray]:
    own = np.array(parts, dtype=object)
    found = {split: np.flatnonzero(np.isin(own, members)) for split, members in _SPLITS.items()}
    return {split: places for split, places in found.items() if len(places) or split == "train"}
