"""Images with masks that predictions are scored against: those that a user names, or a run's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from octavo.data.classes import ClassTable
from octavo.data.content import digest_of
from octavo.data.pairs import Pairs
from octavo.data.torchvision_data import read_pairs
from octavo.engine.folder import RunFolder
from octavo.engine.identity import MASK_COLUMN
from octavo.errors import UserError
from octavo.progress import Progress, silent
from octavo.recipe import SegmentRecipe
from octavo.tasks.truth import require_no_layout, run_of, splits_of


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
    require_no_layout(truth, layout, columns)
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
            splits=splits_of([row["part"] for row in rows]),
            own_split=True,
        ),
        classes or run.table,
        tolerant or recipe.data.tolerant,
        recipe.measure.rule,
        run,
        {} if classes else {i: row.get(MASK_COLUMN, "") for i, row in enumerate(rows)},
    )
