"""Commands that make an ensemble cheaper."""

from __future__ import annotations

from typing import Annotated

import typer

from octavo.terminal import DeviceOption, RunArgument, console, print_tables, progress_shown

ensemble_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Make a run's ensemble cheaper.")


@ensemble_app.callback()
def main() -> None:
    """Make a run's ensemble cheaper."""


@ensemble_app.command()
def cascade(
    run: RunArgument,
    budget: Annotated[float, typer.Option("--budget", help="Points of accuracy that may be lost.")] = 0.2,
    device: DeviceOption = "auto",
) -> None:
    """Let sure images stop at the first members: fit thresholds, tell speed and loss; predict --cascade uses them."""
    from octavo.engine.folder import RunFolder
    from octavo.numbers.tables import cascade_tables
    from octavo.verbs.cascade import cascade as fit

    with progress_shown() as progress:
        report = fit(RunFolder.open(run), budget, device=device, progress=progress)
    print_tables(cascade_tables(report))
    console().print(report.rule, markup=False, soft_wrap=False)
