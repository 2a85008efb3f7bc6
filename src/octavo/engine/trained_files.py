"""The files of a run in which two equal trainings are equal."""

from __future__ import annotations

from pathlib import Path

from octavo.engine.folder import RunFolder

_WHOLE = ("samples.csv", "ensemble.json", "ensemble.trained.json", "metrics.json", "history.csv")
_BELOW = (
    "members/**/weights.safetensors",
    "members/**/outputs.safetensors",
    "members/**/member.json",
    "members/**/history.csv",
    "predictions/val.csv",
    "predictions/val/**/*.png",
    "masks/**/*.png",
)


def trained_files(run: RunFolder) -> dict[str, Path]:
    """Return what training left in a run, by path in its folder with `/`: weights, outputs, histories, numbers, masks.

    The manifest, which says where and when, and what was made of the run later (pictures, report) aren't among them.
    """
    found = [run.path / name for name in _WHOLE if (run.path / name).is_file()]
    found += [path for pattern in _BELOW for path in sorted(run.path.glob(pattern))]
    return {path.relative_to(run.path).as_posix(): path for path in found}


def done(run: RunFolder) -> bool:
    """Whether a run has come to its end: its numbers are the last that is written."""
    return (run.path / "metrics.json").is_file()
