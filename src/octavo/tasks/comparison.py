"""Comparison of finished runs: what it says in common for all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from octavo.engine.folder import RunFolder
from octavo.looks.differences import data_warnings, differences
from octavo.looks.paired import Shared
from octavo.numbers.bootstrap import Bootstrap
from octavo.numbers.compare import Compared
from octavo.numbers.compare_results import BestMember, Comparison, RunSide
from octavo.numbers.results import Interval

LEVEL = 0.95
"""Level of a comparison's intervals."""


def corrected(runs: int) -> str:
    """Return in words from which p on runs differ, and how it is corrected for several pairs."""
    below = f"p below {100 * (1 - LEVEL):.3g} %"
    if runs == 2:
        return f" Told apart: {below}."
    pairs = runs * (runs - 1) // 2
    return f" Told apart: {below} after Holm's correction for {pairs} pairs; intervals are of each pair alone."


def comparison_of(
    runs: Sequence[RunFolder],
    names: tuple[str, ...],
    shared: Shared,
    result: Compared,
    boot: Bootstrap,
    *,
    metrics: Sequence[dict[str, float] | dict[str, float | None]],
    warnings: Sequence[str],
    **rest: object,
) -> Comparison:
    """Return a comparison of what both tasks have in common and `rest`."""
    sides = tuple(
        _side(name, run, headline, dict(own), best)
        for name, run, headline, own, best in zip(
            names, runs, result.headlines, metrics, result.best or [None] * len(runs), strict=True
        )
    )
    flattered = [
        f"{name}: {text}" for name, run in zip(names, runs, strict=True) for text in run.metrics.warnings
        if text.startswith("flattered")
    ]  # fmt: skip
    return Comparison.model_validate(
        rest
        | {
            "n": len(shared.files),
            "level": boot.level,
            "replicates": boot.replicates,
            "seed": boot.seed,
            "runs": sides,
            "pairs": result.pairs,
            "per_class": result.per_class,
            "differences": differences(runs),
            "warnings": (*flattered, *data_warnings(runs, names), *shared.warnings, *warnings),
        }
    )


def _side(
    name: str, run: RunFolder, headline: Interval, metrics: dict[str, float | None], best: BestMember | None
) -> RunSide:
    recipe, report = run.recipe, run.metrics
    return RunSide(
        name=name,
        recipe=recipe.name,
        networks=tuple(network.name for network in recipe.networks),
        data=Path(str(run.manifest["data"]["root"])).name,
        validation=report.n,
        headline=headline,
        metrics=metrics,
        best_member=best,
        flattered=report.flattered,
    )
