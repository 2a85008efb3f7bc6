"""Commands that ask whether a run can be trusted: reproduce, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octavo.terminal import CacheOption, DataOption, DeviceOption, RunArgument, WeightsOption, progress_shown

trust_app = typer.Typer(rich_markup_mode=None)


@trust_app.command()
def reproduce(
    run: RunArgument,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the new run; RUN-reproduced by default.")] = None,
    data: DataOption = None,
    weights_dir: WeightsOption = None,
    member: Annotated[list[str] | None, typer.Option("--member", help="Only this member; once for each.")] = None,
    teacher: Annotated[Path | None, typer.Option("--teacher", help="Where a student's teacher is now.")] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Go on though data, weights, teacher or recipe have changed.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a reproduction that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete the run in --out first.")] = False,
    cache: CacheOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a finished run once more from its manifest: bit-identical, or what differs. Exit code 1: it differs."""
    from octavo.engine.folder import RunFolder
    from octavo.options import Options
    from octavo.verbs.reproduce import reproduce as run_reproduction

    given = Options(out=out, weights_dir=weights_dir, cache=cache, device=device, resume=resume, overwrite=overwrite)
    with progress_shown() as progress:
        found = run_reproduction(
            RunFolder.open(run),
            given,
            data=data,
            members=member or (),
            teacher=teacher,
            anyway=anyway,
            progress=progress,
            say=lambda line: typer.echo(line, err=True),
        )
    for line in found.lines():
        typer.echo(line)
    if not found.identical:
        raise typer.Exit(1)


@trust_app.command()
def verify(
    run: RunArgument,
    write: Annotated[
        bool, typer.Option("--write", help="Give each file the hash that it has now: accept what was changed.")
    ] = False,
) -> None:
    """Compare every file of a run with the hash that it was written with. Exit code 1: a file is another."""
    from octavo.engine.folder import RunFolder
    from octavo.verbs.verify import verify as run_verification
    from octavo.words import counted

    folder = RunFolder(run)
    if not folder.begun:
        RunFolder.open(run)  # says what is there instead
    with progress_shown() as progress:
        found = run_verification(folder, write=write, progress=progress)
    for name in found.accepted:
        typer.echo(f"{run / name}: was changed; accepted as it is now")
    for line in found.wrong.values():
        typer.echo(line)
    for name in found.unhashed:
        typer.echo(f"{run / name}: has no hash")
    others = f", {len(found.wrong):,} not" if found.wrong else ""
    typer.echo(f"{run}: {counted(len(found.right), 'file')} as written{others}")
    if found.wrong:
        raise typer.Exit(1)
