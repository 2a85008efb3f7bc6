"""The command line: one word a verb. Each verb imports what it runs only when it runs."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli_weights import weights_app
from octavo.errors import UserError
from octavo.progress import Interrupted
from octavo.terminal import (
    CacheOption,
    DataOption,
    DeviceOption,
    LayoutOption,
    Misuse,
    RecipeArgument,
    RunArgument,
    SetOption,
    SkipOption,
    WeightsOption,
    console,
    line_of,
    print_tables,
    progress_shown,
    show,
    writable,
)
from octavo.version import __version__

if TYPE_CHECKING:
    from octavo.options import Options

app = typer.Typer(
    name="octavo",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From a folder of images to the strongest honest model of it.",
)
app.add_typer(weights_app, name="weights")


def main() -> None:
    """Run the command line; a mistake ends with one line and exit code 2, an interrupt with 128 + signal."""
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may hold what the terminal can't show
    try:
        code = _outcome(debug)
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _outcome(debug: bool) -> int:
    """Run the verb and return the exit code."""
    try:
        code = app(standalone_mode=False) or 0
    except (UserError, Misuse, OSError) as error:
        if debug or isinstance(error, BrokenPipeError):
            raise
        typer.echo(f"error: {line_of(error)}", err=True)
        return 2
    except Interrupted as stopped:
        typer.echo("stopped; what was reached is saved. The same command with --resume goes on.", err=True)
        return 128 + stopped.signal
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        typer.echo("stopped.", err=True)
    return code


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Options of all verbs; --debug anywhere shows the traceback of an error."""
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def check(
    data: Annotated[str, typer.Argument(help="Folder of images, CSV file, or torchvision:NAME.")],
    layout: LayoutOption = None,
    cache: CacheOption = None,
) -> None:
    """Say what a data folder is: layout, classes, sizes, broken files, duplicates between splits."""
    from octavo.verbs.check import check as run_check
    from octavo.verbs.check import render

    with progress_shown() as progress:
        report = run_check(data, layout, cache=cache, progress=progress)
    render(report, console())
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def describe(
    recipe: RecipeArgument,
    member: Annotated[str | None, typer.Option("--member", help="This member alone.")] = None,
    classes: Annotated[int, typer.Option("--classes", min=2, help="Number of classes.")] = 50,
    changes: SetOption = None,
) -> None:
    """Print a recipe's networks layer by layer, with shapes and parameters."""
    from octavo.recipe import load

    resolved = load(recipe, changes or [])  # a mistake in it is told before torch is loaded
    from octavo.verbs.describe import describe as describe_recipe

    typer.echo(describe_recipe(resolved, member, classes))


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="Name of a recipe, or a TOML file.")] = None,
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; runs/NAME by default.")] = None,
    changes: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the run in --out first.")] = False,
    weights_dir: WeightsOption = None,
    cache: CacheOption = None,
    device: DeviceOption = "auto",
    devices: Annotated[int | None, typer.Option("--devices", help="How many devices (DDP).")] = None,
    layout: LayoutOption = None,
    skip_broken: SkipOption = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write event files too.")] = False,
) -> None:
    """Train a recipe on a folder of images: the run's numbers, weights and predictions go to --out."""
    from octavo.options import Options

    given = Options(
        out=out,
        layout=layout,
        weights_dir=weights_dir,
        cache=cache,
        device=device,
        devices=devices,
        resume=resume,
        overwrite=overwrite,
        skip_broken=skip_broken,
        tensorboard=tensorboard,
    )
    _train(recipe, data, changes or [], given)


@app.command()
def evaluate(
    run: RunArgument,
    data: DataOption = None,
    split: Annotated[str | None, typer.Option("--split", help="val, test or holdout; val by default.")] = None,
    layout: LayoutOption = None,
    cache: CacheOption = None,
    device: DeviceOption = "auto",
    skip_broken: SkipOption = False,
    all_classes: Annotated[bool, typer.Option("--all-classes", help="Every class in the table.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the numbers as JSON too.")] = None,
) -> None:
    """Grade members and ensemble: accuracy, top-5, macro F1, NLL, calibration error, with 95 % intervals."""
    from octavo.engine.folder import RunFolder
    from octavo.files import write_atomic
    from octavo.verbs.evaluate import evaluate as run_evaluation

    writable(out)
    with progress_shown() as progress:
        report = run_evaluation(
            RunFolder.open(run),
            data=data,
            split=split,
            layout=layout,
            device=device,
            cache=cache,
            skip_broken=skip_broken,
            progress=progress,
        )
    show(report, all_classes)
    if out:
        write_atomic(out, report.to_json().encode())


@app.command()
def predict(
    run: RunArgument,
    images: Annotated[list[Path], typer.Argument(help="Image files and folders.")],
    out: Annotated[Path, typer.Option("--out", help="CSV file to write.")],
    ids: Annotated[bool, typer.Option("--ids", help="Class ids as labels, instead of names.")] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="A column a class.")] = False,
    member: Annotated[str | None, typer.Option("--member", help="One member, not the ensemble.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Label images: a CSV with the header image_id,label. Unreadable files go to *.errors.csv (exit code 1)."""
    from octavo.engine.folder import RunFolder
    from octavo.verbs.predict import errors_path
    from octavo.verbs.predict import predict as run_prediction

    writable(out)
    with progress_shown() as progress:
        found = run_prediction(RunFolder.open(run), images, device=device, member=member, progress=progress)
    found.write(out, ids=ids, probabilities=probabilities)
    typer.echo(f"{len(found.files):,} images → {out}")
    if found.errors:
        typer.echo(f"{len(found.errors):,} files could not be read → {errors_path(out)}", err=True)
        raise typer.Exit(1)


@app.command()
def score(
    predictions: Annotated[Path, typer.Argument(help="CSV with image_id,label, ours or another tool's.")],
    truth: Annotated[str, typer.Option("--truth", help="Folder of labelled images, or CSV.")],
    split: Annotated[str | None, typer.Option("--split", help="Part of the truth; val where there is one.")] = None,
    layout: LayoutOption = None,
    missing_wrong: Annotated[
        bool, typer.Option("--missing-wrong", help="Count images without a row as wrong.")
    ] = False,
) -> None:
    """Score any file of predictions against the truth."""
    from octavo.numbers.tables import score_tables
    from octavo.verbs.score import score as run_score

    missing = "wrong" if missing_wrong else "refuse"
    print_tables(score_tables(run_score(predictions, truth, split=split, layout=layout, missing=missing)))


@app.command()
def recipes() -> None:
    """List the recipes that are shipped; TOML files of your own work in their place."""
    from rich.table import Table

    from octavo.recipe import load, shipped

    table = Table("recipe", "members", "mode", "pixels", "what it is", box=None)
    for name in shipped():
        recipe = load(name)
        table.add_row(name, str(len(recipe.members)), recipe.train.mode, str(recipe.data.size), recipe.description)
    console().print(table)


@app.command()
def cache(
    clear: Annotated[str | None, typer.Option("--clear", help="pixels, features, datasets or all.")] = None,
    folder: CacheOption = None,
) -> None:
    """Show where decoded pixels and features lie and their size, or clear them."""
    from rich.table import Column, Table

    from octavo.cache import cache_dir, caches
    from octavo.cache import clear as clear_cache

    root = folder or cache_dir()
    if clear:
        freed = clear_cache(root, None if clear == "all" else clear)
        typer.echo(f"{freed / 2**20:,.1f} MiB freed in {root}")
        return
    table = Table("kind", "MiB", Column("folder", overflow="fold"), box=None)
    for entry in caches(root):
        table.add_row(entry.kind, f"{entry.bytes / 2**20:,.1f}", str(entry.path))
    console().print(table if table.rows else f"{root}: empty")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")] = Path("runs/demo"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demo that was stopped.")] = False,
) -> None:
    """Train the eight-member ensemble on real handwritten digits; an earlier demo in --out is replaced."""
    from octavo.engine.folder import RunFolder
    from octavo.options import Options
    from octavo.verbs.demo import AFTER, BEFORE, write_digits

    if RunFolder(out).begun and RunFolder(out).recipe.name != "demo":
        raise UserError(f"--out {out}: is a run, and not a demo's; choose another --out")
    typer.echo(BEFORE)
    data = write_digits()
    _train("demo", str(data), [], Options(out=out, overwrite=not resume, resume=resume))
    typer.echo(AFTER.format(run=out, data=data))


def _train(recipe: str | None, data: str | None, changes: list[str], given: Options) -> None:
    from octavo.verbs.training import train as run_training

    with progress_shown() as progress:
        run = run_training(recipe, data, changes, given, progress=progress, say=lambda line: typer.echo(line, err=True))
    show(run.report, False)
    typer.echo(f"run: {run.path}")
