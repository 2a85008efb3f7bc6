"""Files of a run against each other: what one holds has to fit what the manifest says of the images and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from octavo.errors import Damaged
from octavo.numbers.ensemble import Ensemble


def require_samples(rows: Sequence[Mapping[str, str]], manifest: Mapping[str, Any], path: Path, remedy: str) -> None:
    """Refuse a table of samples without its columns, or with other images than the run has.

    Raises:
        Damaged: what is wrong, and `remedy`.
    """
    if rows and not {"file", "part"} <= rows[0].keys():
        raise Damaged(f"{path}: damaged: has no columns file and part; {remedy}")
    found = Counter(row["part"] for row in rows)
    for part, count in manifest.get("data", {}).get("parts", {}).items():
        if found[part] != count:
            raise Damaged(f"{path}: damaged: {found[part]:,} images of {part}, the run has {count:,}; {remedy}")


def require_members(ensemble: Ensemble, names: Sequence[str], classes: int, path: Path, remedy: str) -> None:
    """Refuse an ensemble of other members, or calibrated for another number of classes, than the run has.

    Raises:
        Damaged: what is wrong, and `remedy`.
    """
    if lost := next((name for name in ensemble.names if name not in names), None):
        raise Damaged(f'{path}: damaged: the run has no member "{lost}"; {remedy}')
    for calibration in (ensemble.calibration, *ensemble.own):
        if len(calibration.bias) not in (0, classes):
            counts = f"calibrated for {len(calibration.bias)} classes, the run has {classes}"
            raise Damaged(f"{path}: damaged: {counts}; {remedy}")
