"""Commands that make an ensemble cheaper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octavo.terminal import (
    CacheOption,
    DataOption,
    DeviceOption,
    LabelsOption,
    LayoutOption,
    RunArgument,
    SetOption,
    SkipOption,
    WeightsOption,
    console,
    print_tables,
    progress_shown,
    refuse,
)
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


def distil(
    run: RunArgument,
    student: Annotated[str, typer.Option("--student", help="A member of the run, or any backbone.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the student's run; RUN-STUDENT by default.")
    ] = None,
    data: DataOption = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Softens the ensemble's answers; 2 by default.")
    ] = None,
    weight: Annotated[
        float | None, typer.Option("--weight", help="Share of those answers in the loss, 0–1; 0.9 by default.")
    ] = None,
    changes: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a student that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the run in --out first.")] = False,
    weights_dir: WeightsOption = None,
    cache: CacheOption = None,
    device: DeviceOption = "auto",
    layout: LayoutOption = None,
    labels: LabelsOption = None,
    skip_broken: SkipOption = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="End by writing report.html.")] = True,
) -> None:
    """Train one network on the answers of a run's ensemble, and tell how much of the ensemble's gain it keeps."""
    from octavo.engine.folder import RunFolder
    from octavo.numbers.tables import distil_table
    from octavo.options import Options
    from octavo.verbs.distil import distil as teach

    given = Options(
        out=out,
        layout=layout,
        labels=labels,
        skip_broken=skip_broken,
        weights_dir=weights_dir,
        cache=cache,
        device=device,
        resume=resume,
        overwrite=overwrite,
        report=report,
    )
    with progress_shown() as progress:
        taught, found = teach(
            RunFolder.open(run),
            student,
            changes or (),
            given,
            data=data,
            temperature=temperature,
            weight=weight,
            progress=progress,
            say=lambda line: typer.echo(line, err=True),
        )
    print_tables([distil_table(found)])
    console().print(found.rule, markup=False, soft_wrap=False)
    typer.echo(f"run: {taught.path}")


@ensemble_app.command()
def precision(
    run: RunArgument,
    changed: Annotated[
        float, typer.Option("--changed", help="Percent of the validation images whose answer may change.")
    ] = 0.5,
    apply: Annotated[bool, typer.Option("--apply", help="Let its members answer in bfloat16 from now on.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Let them answer as they were trained again.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Try bfloat16 for members that were trained in float32: answers that change, accuracy, speed."""
    from octavo.engine.folder import RunFolder
    from octavo.numbers.tables import precision_table
    from octavo.verbs.precision import precision as tried
    from octavo.verbs.precision import undo as as_trained

    if undo:
        refuse({"--apply": apply}, "--undo")
        as_trained(RunFolder.open(run))
        typer.echo(f"{run}: answers as it was trained")
        return
    with progress_shown() as progress:
        report = tried(RunFolder.open(run), changed, apply=apply, device=device, progress=progress)
    print_tables([precision_table(report)])
    console().print(report.rule, markup=False, soft_wrap=False)
    said = f"answers in bfloat16 on a {report.device} from now on" if apply else "nothing is changed; --apply does it"
    typer.echo(f"{run}: {said}" if apply else said)
