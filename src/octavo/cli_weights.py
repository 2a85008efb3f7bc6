"""`octavo weights`: which files a recipe needs, and how they come to a machine without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octavo.terminal import RecipeArgument, WeightsOption, console

weights_app = typer.Typer(rich_markup_mode=None, help="ImageNet weights without a network.")


@weights_app.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """ImageNet weights without a network."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@weights_app.command("list")
def weights_list(
    recipe: RecipeArgument,
    weights_dir: WeightsOption = None,
) -> None:
    """Show which weights each member needs, and whether they are here."""
    from rich.table import Column, Table

    from octavo.networks import pack
    from octavo.recipe import load

    table = Table("member", "weights", "state", "MB", Column("where", overflow="fold"), box=None)
    for row in pack.table(load(recipe), weights_dir):
        table.add_row(
            row.member,
            f"{row.backbone} {row.tag}",
            row.state,
            f"{row.size_bytes / 1e6:,.0f}" if row.size_bytes else "",
            str(row.path or row.url),
        )
    console().print(table)


@weights_app.command("pack")
def weights_pack(
    recipe: RecipeArgument,
    folder: Annotated[Path, typer.Argument(help="Folder to fill.")],
    weights_dir: WeightsOption = None,
) -> None:
    """Collect what a recipe needs, for a machine without a network."""
    from octavo.networks.pack import pack
    from octavo.recipe import load

    for path in pack(load(recipe), folder, weights_dir, progress=True):
        typer.echo(str(path))
    typer.echo(f"there, use --weights-dir {folder.name} or OCTAVO_WEIGHTS")


@weights_app.command("verify")
def weights_verify(folder: Annotated[Path, typer.Argument(help="Folder of weight files.")]) -> None:
    """Check weight files against their hashes."""
    from octavo.networks.pack import verify

    rows = verify(folder)
    for row in rows:
        typer.echo(f"{row.state:8} {row.path}")
    if any(row.state in ("corrupt", "missing") for row in rows):
        raise typer.Exit(1)
