"""Commands that make an ensemble cheaper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octavo.errors import UserError
from octavo.terminal import (
    CacheOption,
    ColumnsOption,
    DataOption,
    DeviceOption,
    LabelsOption,
    LayoutOption,
    RunArgument,
    SetOption,
    SkipOption,
    WeightsOption,
    print_tables,
    progress_shown,
    show_rule,
    show_student,
)
from octavo.words import counted

MovedOption = Annotated[str | None, typer.Option("--data", help="Where the run's data are now, if they were moved.")]
ensemble_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Make a run's ensemble cheaper.")


@ensemble_app.callback()
def main() -> None:
    """Make a run's ensemble cheaper."""


@ensemble_app.command()
def cascade(
    run: RunArgument,
    budget: Annotated[float, typer.Option("--budget", help="Points of accuracy that may be lost.")] = 0.2,
    data: MovedOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Let sure images stop at the first members: fit thresholds, tell speed and loss; predict --cascade uses them."""
    from octavo.engine.folder import RunFolder
    from octavo.numbers.tables import cascade_tables
    from octavo.tasks.classification.cascade import cascade as fit

    with progress_shown() as progress:
        report = fit(RunFolder.open(run), budget, data=data, device=device, progress=progress)
    print_tables(cascade_tables(report))
    show_rule(report.rule, (_too_few(budget, report.fitted), report.beware))
    if not report.found:
        typer.echo(
            f"no cascade is sure to keep the budget, by {counted(report.fitted, 'image')}; nothing is changed: allow "
            "more by --budget, or have more validation images"
        )
        return
    typer.echo(f"predict by it: octavo predict {run} IMAGES --out labels.csv --cascade")


@ensemble_app.command()
def prune(
    run: RunArgument,
    budget: Annotated[float, typer.Option("--budget", help="Points of accuracy that may be lost.")] = 0.2,
    apply: Annotated[bool, typer.Option("--apply", help="Give the dropped members no weight from now on.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the ensemble back that training left.")] = False,
) -> None:
    """Find the fewest members within a budget of accuracy, and tell what is lost on the validation images."""
    from octavo.engine.folder import RunFolder
    from octavo.numbers.tables import prune_table
    from octavo.tasks.classification.prune import prune as run_pruning
    from octavo.tasks.classification.prune import undo as take_back

    renewed = f"metrics.json is renewed; octavo report {run} renews report.html"
    if undo:
        _one_of({"--apply": apply, "--undo": undo})
        take_back(RunFolder.open(run))
        typer.echo(f"{run}: the ensemble is as training left it; {renewed}")
        return
    with progress_shown() as progress:
        report = run_pruning(RunFolder.open(run), budget, apply=apply, progress=progress)
    print_tables([prune_table(report)])
    show_rule(report.rule, (_too_few(budget, report.chosen_by), report.beware))
    left = len(report.steps[-1].members)
    if apply:
        typer.echo(f"{run}: {counted(left, 'member')} left in the ensemble; {renewed}; --undo takes it back")
    elif left == len(report.steps[0].members):
        typer.echo("no member can be dropped within the budget; nothing is changed")
    else:
        typer.echo("nothing is changed; --apply does it")


def _too_few(budget: float, images: int) -> str:
    """Return a warning where a budget is less than one image more or less; else nothing."""
    if not 0 < budget < 100 / images:
        return ""
    return (
        f"{budget:g} points are less than one of the {counted(images, 'image')} that it is chosen by "
        f"({100 / images:.2f} points): none more of these may be wrong, and what is lost on others is known no better "
        "than the interval of `lost` says"
    )


def _one_of(options: dict[str, bool]) -> None:
    if sum(options.values()) > 1:
        raise UserError(f"{' and '.join(options)}: one of them")


def distil(
    run: RunArgument,
    student: Annotated[str, typer.Option("--student", help="A member of the run, or any backbone.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the student's run; RUN-STUDENT (-2, …) by default.")
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
    columns: ColumnsOption = None,
    labels: LabelsOption = None,
    skip_broken: SkipOption = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="End by writing report.html.")] = True,
) -> None:
    """Train one network on the answers of a run's ensemble, and tell how much of the ensemble's gain it keeps."""
    from octavo.engine.folder import RunFolder
    from octavo.options import Options
    from octavo.verbs.distil import distil as teach

    given = Options(
        out=out,
        layout=layout,
        columns=columns,
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
    show_student(found)
    typer.echo(f"run: {taught.path}")


@ensemble_app.command()
def precision(
    run: RunArgument,
    changed: Annotated[
        float, typer.Option("--changed", help="Percent of the validation images whose answer may change.")
    ] = 0.5,
    apply: Annotated[bool, typer.Option("--apply", help="Let its members answer in bfloat16 from now on.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Let them answer as they were trained again.")] = False,
    data: MovedOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Try bfloat16 for members that were trained in float32: answers that change, accuracy, speed."""
    from octavo.engine.folder import RunFolder
    from octavo.numbers.tables import precision_table
    from octavo.tasks.classification import precision as verb

    folder = RunFolder.open(run)
    if undo:
        _one_of({"--apply": apply, "--undo": undo})
        verb.undo(folder)
        typer.echo(f"{run}: answers as it was trained")
        return
    with progress_shown() as progress:
        report = verb.precision(folder, changed, data=data, device=device, progress=progress)
    print_tables([precision_table(report)])
    show_rule(report.rule, (report.beware,))
    if apply:
        verb.apply(folder, report)
        typer.echo(f"{run}: answers in bfloat16 on a {report.device} from now on; --undo takes it back")
    elif why := verb.against(report):
        typer.echo(f"nothing is changed, and --apply would be refused: {why}")
    else:
        typer.echo("nothing is changed; --apply does it")
