"""How a recipe is run, beside what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from octavo.errors import UserError


@dataclass(frozen=True)
class Options:
    """Where a run goes, where its material lies, and what computes it.

    Attributes:
        out: folder of the run; by default `runs/NAME`, with a number where that exists.
        layout: name of the data's layout, where looking can't decide.
        columns: what is what in a table of images, as in `image=image_id,label=dx`, where looking can't decide.
        weights_dir: folder of weight files, searched first.
        cache: folder for stores and features.
        device: `auto`, `cpu`, `cuda` or `mps`; another device gives slightly other weights.
        devices: how many of them.
        resume: go on with a run that was stopped; what isn't given is as when it began.
        overwrite: delete a run that is in the way.
        skip_broken: go on without files that can't be decoded.
        tensorboard: write event files into the run.
        labels: CSV file of corrected labels, which count instead of those of the data.
        leaks: look for images that training and scoring share before the first step; None: unless that takes long.
        report: end by writing `report.html` into the run.
    """

    out: Path | None = None
    layout: str | None = None
    weights_dir: Path | None = None
    cache: Path | None = None
    device: str = "auto"
    devices: int | None = None
    resume: bool = False
    overwrite: bool = False
    skip_broken: bool = False
    tensorboard: bool = False
    report: bool = False
    labels: Path | None = None
    leaks: bool | None = None
    columns: str | None = None

    def __post_init__(self) -> None:
        """Take folders as text too, and refuse what would fail late."""
        for name in ("out", "weights_dir", "cache", "labels"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value))
        if self.tensorboard and find_spec("tensorboard") is None:
            raise UserError("--tensorboard: not installed; pip install 'octavo[tensorboard]'")

    def kept(self) -> dict[str, Any]:
        """Return what a run remembers of its options, as JSON-able values."""
        return {
            "layout": self.layout,
            "columns": self.columns,
            "weights_dir": str(self.weights_dir.absolute()) if self.weights_dir else None,
            "cache": str(self.cache.absolute()) if self.cache else None,
            "device": self.device,
            "devices": self.devices,
            "skip_broken": self.skip_broken,
            "tensorboard": self.tensorboard,
            "leaks": self.leaks,
            "labels": str(self.labels.absolute()) if self.labels else None,
        }

    def over(self, kept: Mapping[str, Any]) -> Options:
        """Return these options where they differ from the defaults, and for the rest what `kept` gave."""
        default = {field.name: field.default for field in fields(self)}
        missing = {name: value for name, value in kept.items() if getattr(self, name) == default[name]}
        return replace(self, **missing)
