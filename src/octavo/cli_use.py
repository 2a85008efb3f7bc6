"""Commands that use a run, or judge predictions: evaluate, predict, score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.errors import UserError
from octavo.terminal import (
    CacheOption,
    ColumnsOption,
    DataOption,
    DeviceOption,
    LayoutOption,
    OverwriteOption,
    RunArgument,
    SkipOption,
    given_options,
    progress_shown,
    show,
    show_look,
    show_score,
)
from octavo.words import counted

if TYPE_CHECKING:
    from octavo.engine.folder import RunFolder

use_app = typer.Typer(rich_markup_mode=None)


CoverageOption = Annotated[
    float | None,
    typer.Option("--coverage", help="Prediction sets that hold the true class of this share of images, 0.9 say."),
]
SetsOption = Annotated[str, typer.Option("--sets", help="How sets are made: lac (smallest) or aps (adaptive).")]


@use_app.command()
def evaluate(
    context: typer.Context,
    run: RunArgument,
    data: DataOption = None,
    split: Annotated[str | None, typer.Option("--split", help="val, test or holdout; val by default.")] = None,
    layout: LayoutOption = None,
    columns: ColumnsOption = None,
    cache: CacheOption = None,
    device: DeviceOption = "auto",
    skip_broken: SkipOption = False,
    like_reference: Annotated[
        bool,
        typer.Option("--score-like-reference", help="Choose weights and calibration on the scored images, and say so."),
    ] = False,
    coverage: CoverageOption = None,
    sets: SetsOption = "lac",
    rule: Annotated[str | None, typer.Option("--rule", help="Rule of the mIoU, instead of the recipe's.")] = None,
    all_classes: Annotated[bool, typer.Option("--all-classes", help="Every class in the table.")] = False,
    cost: Annotated[
        bool, typer.Option("--cost", help="Also time the members here: accuracy against time, from one member to all.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the numbers as JSON too.")] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Grade a run, each number with its 95 % interval: accuracy and calibration, or mIoU by a named rule."""
    from octavo.engine.folder import RunFolder
    from octavo.files import write_atomic
    from octavo.numbers.mask_results import read_report
    from octavo.overwrite import parsed_by, require_writable
    from octavo.tasks.known import accepted, task_of

    folder = RunFolder.open(run)
    task = task_of(folder.recipe)
    own = accepted(task, "evaluate", given_options(context, "evaluate"))
    if own.pop("cost", False) and (data or split not in (None, "val")):
        raise UserError("--cost: is of the run's own validation images; leave --data and --split out")
    out = out and require_writable(out, parsed_by("report of an evaluation", read_report), overwrite=overwrite)
    given: dict[str, Any] = {"data": data, "split": split, "layout": layout, "columns": columns}
    given |= {"device": device, "cache": cache, "skip_broken": skip_broken}
    with progress_shown() as progress:
        report = task.evaluate(folder, **given, **own, progress=progress)
    show(report, all_classes)
    if out:
        write_atomic(out, report.to_json().encode())
    if cost:
        _show_cost(folder, device)


def _show_cost(folder: RunFolder, device: str) -> None:
    """Time a run's members, draw accuracy against time, and print what was found."""
    from octavo.verbs.explain import explain as run_explanation
    from octavo.verbs.explain import taken

    with progress_shown() as progress:
        found = run_explanation(folder, ["cost"], device=device, progress=progress)
    show_look(taken(folder, "cost"))
    for path in found.pictures:
        typer.echo(path)


@use_app.command()
def predict(
    context: typer.Context,
    run: RunArgument,
    images: Annotated[list[Path], typer.Argument(help="Image files and folders.")],
    out: Annotated[Path, typer.Option("--out", help="CSV file to write, or for masks a folder.")],
    ids: Annotated[bool, typer.Option("--ids", help="Class ids instead of names or colours.")] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="A column a class.")] = False,
    member: Annotated[str | None, typer.Option("--member", help="One member, not the ensemble.")] = None,
    coverage: CoverageOption = None,
    sets: SetsOption = "lac",
    cascaded: Annotated[
        bool,
        typer.Option("--cascade", help="Sure images stop at the first members; fit it by octavo ensemble cascade."),
    ] = False,
    overlay: Annotated[
        float | None, typer.Option("--overlay", help="Masks: also the image under this share of colour, 0.5 say.")
    ] = None,
    flips: Annotated[bool, typer.Option("--flips", help="Masks: average over mirrored images.")] = False,
    scales: Annotated[list[float] | None, typer.Option("--scale", help="Masks: average over these scales.")] = None,
    window: Annotated[int | None, typer.Option("--window", help="Masks: cut images into windows this wide.")] = None,
    overlap: Annotated[int | None, typer.Option("--overlap", help="Masks: pixels that windows share; 128.")] = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Label images: a CSV with the header image_id,label, or a mask an image. Exit code 1: some couldn't be read."""
    from octavo.engine.folder import RunFolder
    from octavo.tasks.known import accepted, task_of

    folder = RunFolder.open(run)
    task = task_of(folder.recipe)
    own = accepted(task, "predict", given_options(context, "predict"))
    with progress_shown() as progress:
        written = task.write_predictions(
            folder, images, out, ids=ids, device=device, overwrite=overwrite, progress=progress, **own
        )
    for line in written.lines:
        typer.echo(line)
    for note in written.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{counted(written.count, 'image')} → {out}")
    if written.errors:
        lost = f"{counted(written.errors, 'file')} could not be {written.verb}"
        typer.echo(f"{lost} → {written.errors_file}", err=True)
        raise typer.Exit(1)


@use_app.command()
def score(
    context: typer.Context,
    predictions: Annotated[Path, typer.Argument(help="CSV with image_id,label, or a folder of masks; any tool's.")],
    truth: Annotated[str, typer.Option("--truth", help="Folder of labelled images, of images and masks, or CSV.")],
    split: Annotated[str | None, typer.Option("--split", help="Part of the truth; val where there is one.")] = None,
    layout: LayoutOption = None,
    columns: ColumnsOption = None,
    missing_wrong: Annotated[
        bool, typer.Option("--missing-wrong", help="Count images without a prediction as wrong.")
    ] = False,
    extra_classes: Annotated[
        bool, typer.Option("--extra-classes", help="Labels that the truth lacks are classes without an image there.")
    ] = False,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Masks: table of classes, a name or a TOML file.")
    ] = None,
    rule: Annotated[str | None, typer.Option("--rule", help="Masks: rule of the headline.")] = None,
    tolerant: Annotated[bool, typer.Option("--tolerant", help="Masks: colours from 128 on count as 255.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the numbers as JSON too.")] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Score any predictions against the truth: a CSV of labels, or a folder of masks under every known rule."""
    from octavo.files import write_atomic
    from octavo.overwrite import parsed_by, require_writable
    from octavo.tasks.known import accepted, scoring

    task = scoring(predictions)
    own = accepted(task, "score", given_options(context, "score"))
    kind, read = parsed_by("score", task.score_type.from_json), [predictions, Path(truth)]
    out = out and require_writable(out, kind, overwrite=overwrite, inputs=read, data=read)
    given = {"split": split, "layout": layout, "columns": columns, "missing": "wrong" if missing_wrong else "refuse"}
    with progress_shown() as progress:
        result = task.score(predictions, truth, progress, **given, **own)
    show_score(task, result)
    if out:
        write_atomic(out, result.to_json().encode())
