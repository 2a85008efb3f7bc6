"""The command line: one word a verb. Each verb imports what it runs only when it runs."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, cast

import typer

from octavo.cli_ensemble import distil, ensemble_app
from octavo.cli_look import look_app
from octavo.cli_show import show_app
from octavo.cli_trust import trust_app
from octavo.cli_use import use_app
from octavo.cli_weights import weights_app
from octavo.errors import DataRefused, UserError
from octavo.log import to_stderr
from octavo.progress import Interrupted, Terminated
from octavo.terminal import (
    CacheOption,
    ColumnsOption,
    DataOption,
    DeviceOption,
    LabelsOption,
    LayoutOption,
    LeaksOption,
    Misuse,
    SetOption,
    SkipOption,
    WeightsOption,
    line_of,
    progress_shown,
    show,
    show_student,
    sized,
    terminating,
)
from octavo.version import __version__

if TYPE_CHECKING:
    from octavo.numbers.mask_results import SegmentReport
    from octavo.options import Options

app = typer.Typer(
    name="octavo",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From a folder of images to the strongest honest model of it.",
)
app.add_typer(use_app)
app.add_typer(show_app)
app.add_typer(look_app)
app.add_typer(trust_app)
app.command()(distil)
app.add_typer(ensemble_app, name="ensemble")
app.add_typer(weights_app, name="weights")


def main() -> None:
    """Run the command line; a mistake ends with one line and exit code 2, an interrupt with 128 + signal."""
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may hold what the terminal can't show
    try:
        with terminating(), to_stderr():
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
        return 1 if isinstance(error, DataRefused) else 2
    except Interrupted as stopped:
        typer.echo("stopped; what was reached is saved. The same command with --resume goes on.", err=True)
        return 128 + stopped.signal
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # Typer takes the end of a file for the user's Ctrl-D
            raise error.__cause__ from None
        code = 130
    except Terminated:
        code = 143
    if code in (130, 143):
        typer.echo("stopped; every file that was written is whole.", err=True)
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
    columns: ColumnsOption = None,
    labels: LabelsOption = None,
    skip_broken: SkipOption = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write event files too.")] = False,
    leaks: LeaksOption = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="End by writing report.html.")] = True,
    like_reference: Annotated[
        bool,
        typer.Option("--score-like-reference", help="Choose weights and calibration on the scored images, and say so."),
    ] = False,
) -> None:
    """Train a recipe on a folder of images: the run's numbers, weights and predictions go to --out."""
    from octavo.options import Options

    given = Options(
        out=out,
        layout=layout,
        columns=columns,
        weights_dir=weights_dir,
        cache=cache,
        device=device,
        devices=devices,
        resume=resume,
        overwrite=overwrite,
        skip_broken=skip_broken,
        tensorboard=tensorboard,
        labels=labels,
        leaks=leaks,
        report=report,
    )
    _train(recipe, data, [*(changes or []), *(["ensemble.fit_on=val"] if like_reference else [])], given)


@app.command()
def cache(
    clear: Annotated[str | None, typer.Option("--clear", help="pixels, features, datasets, leaks or all.")] = None,
    folder: CacheOption = None,
) -> None:
    """Show where decoded pixels and features lie and their size, or clear them."""
    from octavo.cache import cache_dir
    from octavo.cache import clear as clear_cache
    from octavo.terminal import show_caches

    root = folder or cache_dir()
    if clear:
        freed = clear_cache(root, None if clear == "all" else clear)
        typer.echo(f"{freed / 2**20:,.1f} MiB freed in {root}")
        return
    show_caches(root)


@app.command()
def demo(
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder of the digits' run; the land cover's is OUT-synthetic-landcover."),
    ] = Path("runs/demo"),
    only: Annotated[str | None, typer.Option("--only", help="digits or landcover; both by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demo that was stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete a run in --out that is no demo's first.")
    ] = False,
) -> None:
    """Train eight members on real digits and an FCN-8s on synthetic land cover; earlier demos in --out are replaced."""
    from octavo.errors import lookup
    from octavo.verbs.demo import PARTS

    if only is not None:
        lookup(dict.fromkeys(PARTS), only, "--only")
    runs = {"digits": out, "landcover": out.with_name(f"{out.name}-synthetic-landcover")}
    parts = [part for part in PARTS if only in (None, part)]
    for part in parts:
        if not overwrite:
            _refuse_others(runs[part], part, out)
    for part in parts:
        (_demo_digits if part == "digits" else _demo_landcover)(runs[part], resume)


_DEMOS = {"digits": "demo", "landcover": "demo-landcover"}  # the recipe of each


def _refuse_others(run: Path, part: str, out: Path) -> None:
    """Refuse to replace a run that isn't a demo's, also one of its recipe on other data."""
    from octavo.engine.folder import RunFolder
    from octavo.verbs.demo import DATA

    if not RunFolder(run).begun:
        return
    there = RunFolder.open(run)
    of_demo = Path(str(there.manifest["data"]["root"])).name == DATA[part]
    if there.recipe.name != _DEMOS[part] or not of_demo:
        raise UserError(
            f"--out {out}: {run} is a run, and not a demo's; choose another --out, or --overwrite replaces it"
        )


def _demo_digits(run: Path, resume: bool) -> None:
    from octavo.options import Options
    from octavo.verbs.demo import AFTER, BEFORE, write_digits

    typer.echo(BEFORE)
    data = write_digits()
    _train(_DEMOS["digits"], str(data), [], Options(out=run, overwrite=not resume, resume=resume, report=True))
    typer.echo(AFTER.format(run=quote(str(run)), data=quote(str(data))))


def _demo_landcover(run: Path, resume: bool) -> None:
    from octavo.engine.folder import RunFolder
    from octavo.options import Options
    from octavo.verbs.demo import AFTER_LANDCOVER, BEFORE_LANDCOVER, scores_shown, write_landcover
    from octavo.verbs.explain import explain

    typer.echo(BEFORE_LANDCOVER)
    data = write_landcover()
    _train(_DEMOS["landcover"], str(data), [], Options(out=run, overwrite=not resume, resume=resume, report=True))
    folder, places = RunFolder.open(run), {"run": quote(str(run)), "data": quote(str(data))}
    with progress_shown() as progress:
        (stages,) = explain(folder, ["stages"], progress=progress, say=_say).pictures
    typer.echo(
        AFTER_LANDCOVER.format(scores=scores_shown(cast("SegmentReport", folder.metrics)), stages=stages, **places)
    )


def _train(recipe: str | None, data: str | None, changes: list[str], given: Options) -> None:
    from octavo.verbs.training import train as run_training

    with progress_shown() as progress:
        run = run_training(recipe, data, changes, given, progress=progress, say=_say)
    show(run.metrics, False)
    if run.distil:
        show_student(run.distil)
    if given.report and run.page.is_file():
        typer.echo(f"report: {sized(run.page)}")
    typer.echo(f"run: {run.path}")


def _say(line: str) -> None:
    typer.echo(line, err=True)
