"""Commands that make an ensemble cheaper."""

from __future__ import annotations

from typing import Annotated

import typer

from octavo.terminal import DeviceOption, RunArgument, console, print_tables, progress_shown
from octavo.words import counted

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


@ensemble_app.command()
def prune(
    run: RunArgument,
    budget: Annotated[float, typer.Option("--budget", help="Points of accuracy that may be lost.")] = 0.2,
    apply: Annotated[bool, typer.Option("--apply", help="Give the dropped members no weight from now on.")] = False,
) -> None:
    """Find the fewest members within a budget of accuracy, and tell what is lost on the validation images."""
    from octavo.engine.folder import RunFolder
    from octavo.numbers.tables import prune_table
    from octavo.verbs.prune import prune as run_pruning

    with progress_shown() as progress:
        report = run_pruning(RunFolder.open(run), budget, apply=apply, progress=progress)
    print_tables([prune_table(report)])
    console().print(report.rule, markup=False, soft_wrap=False)
    if apply:
        left = counted(len(report.steps[-1].members), "member")
        typer.echo(f"{run}: {left} may have a weight now; metrics.json is renewed")
    else:
        typer.echo("nothing is changed; --apply does it")
