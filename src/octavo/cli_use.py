"""Commands that use a run, or judge predictions: evaluate, predict, score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    progress_shown,
    refuse,
    show,
    show_look,
    show_masks,
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
    from octavo.recipe import SegmentRecipe

    folder = RunFolder.open(run)
    out = out and require_writable(out, parsed_by("report of an evaluation", read_report), overwrite=overwrite)
    given: dict[str, Any] = {"data": data, "split": split, "layout": layout, "columns": columns}
    given |= {"device": device, "cache": cache}
    with progress_shown() as progress:
        if isinstance(folder.recipe, SegmentRecipe):
            from octavo.tasks.segmentation.evaluation import evaluate_masks

            of_classes = {"--score-like-reference": like_reference, "--coverage": coverage, "--cost": cost}
            refuse(of_classes, "a segmenter's run")
            report = evaluate_masks(folder, **given, skip_broken=skip_broken, rule=rule, progress=progress)
        else:
            from octavo.tasks.classification.evaluation import evaluate as run_evaluation

            if rule:
                raise UserError("--rule: is for segmenters; a classifier's accuracy has one rule")
            given |= {"skip_broken": skip_broken, "like_reference": like_reference, "coverage": coverage, "sets": sets}
            if cost and (data or split not in (None, "val")):
                raise UserError("--cost: is of the run's own validation images; leave --data and --split out")
            report = run_evaluation(folder, **given, progress=progress)
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
    from octavo.recipe import SegmentRecipe

    folder = RunFolder.open(run)
    if isinstance(folder.recipe, SegmentRecipe):
        from octavo.tasks.segmentation.prediction import predict_masks

        of_classes = {
            "--probabilities": probabilities,
            "--member": member,
            "--coverage": coverage,
            "--cascade": cascaded,
        }
        refuse(of_classes, "a segmenter's run")
        chosen: dict[str, Any] = {"ids": ids, "overlay": overlay, "flips": flips, "window": window, "overlap": overlap}
        chosen |= {"overwrite": overwrite}
        with progress_shown() as progress:
            masks = predict_masks(
                folder, images, out, device=device, scales=tuple(scales or ()), progress=progress, **chosen
            )
        _told(len(masks.masks), out, masks.errors, masks.errors_path, masks.notes, "predicted")
        return
    from octavo.tasks.classification.prediction import errors_path, require_place
    from octavo.tasks.classification.prediction import predict as run_prediction

    of_masks = {"--overlay": overlay, "--flips": flips, "--scale": scales, "--window": window, "--overlap": overlap}
    refuse(of_masks, "a classifier's run")
    require_place(out, folder, images, overwrite=overwrite)
    with progress_shown() as progress:
        found = run_prediction(
            folder,
            images,
            device=device,
            member=member,
            coverage=coverage,
            sets=sets,
            cascaded=cascaded,
            progress=progress,
        )
    found.write(out, ids=ids, probabilities=probabilities, overwrite=overwrite)
    if found.stopped and found.files:
        typer.echo(f"images that stopped at: {', '.join(f'{name} {n:,}' for name, n in found.stopped.items())}")
    _told(len(found.files), out, found.errors, errors_path(out), [found.unread] if found.unread else [])


def _told(
    count: int, out: Path, errors: Mapping[str, str], errors_file: Path, notes: Sequence[str] = (), verb: str = "read"
) -> None:
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{counted(count, 'image')} → {out}")
    if errors:
        typer.echo(f"{counted(len(errors), 'file')} could not be {verb} → {errors_file}", err=True)
        raise typer.Exit(1)


@use_app.command()
def score(
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
    from octavo.numbers.mask_results import MaskScore
    from octavo.numbers.results import Score
    from octavo.overwrite import parsed_by, require_writable

    if not predictions.exists():
        raise UserError(f"{predictions}: no such file or folder; expected a CSV of labels, or a folder of masks")
    kind = parsed_by("score", (MaskScore if predictions.is_dir() else Score).from_json)
    read = [predictions, Path(truth)]
    out = out and require_writable(out, kind, overwrite=overwrite, inputs=read, data=read)
    missing: Literal["wrong", "refuse"] = "wrong" if missing_wrong else "refuse"
    if predictions.is_dir():
        refuse({"--extra-classes": extra_classes}, "a folder of masks")
        from octavo.tasks.segmentation.score import score_masks

        with progress_shown() as progress:
            result = score_masks(
                predictions,
                truth,
                classes=classes,
                tolerant=tolerant,
                rule=rule,
                split=split,
                layout=layout,
                columns=columns,
                missing=missing,
                progress=progress,
            )
        show_masks(result)
    else:
        from octavo.tasks.classification.score import score as run_score

        refuse({"--classes": classes, "--rule": rule, "--tolerant": tolerant}, "a CSV of labels")
        named: dict[str, Any] = {"split": split, "layout": layout, "columns": columns}
        result = run_score(predictions, truth, missing=missing, extra_classes=extra_classes, **named)
        show_score(result)
    if out:
        write_atomic(out, result.to_json().encode())
