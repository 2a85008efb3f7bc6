"""Commands that look and change nothing: data folders, networks, recipes, tables of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octavo.errors import finding
from octavo.terminal import (
    CacheOption,
    ColumnsOption,
    LabelsOption,
    LayoutOption,
    LeaksOption,
    OverwriteOption,
    RecipeArgument,
    SetOption,
    WeightsOption,
    console,
    given_options,
    progress_shown,
)

look_app = typer.Typer(rich_markup_mode=None)


@look_app.command()
def check(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="Folder of images (and masks), CSV file, or torchvision:NAME.")],
    layout: LayoutOption = None,
    columns: ColumnsOption = None,
    labels: LabelsOption = None,
    cache: CacheOption = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Table of the masks' classes: a name or a TOML file.")
    ] = None,
    leaks: LeaksOption = None,
    tolerant: Annotated[bool, typer.Option("--tolerant", help="Colours of masks from 128 on count as 255.")] = False,
    write_classes: Annotated[
        Path | None, typer.Option("--write-classes", help="Write the proposed table of classes to this TOML file.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Say what a data folder is: layout, classes, sizes, broken files, duplicates; masks are examined.

    Exits with code 1 where training would refuse the data, with 2 where there are none.
    """
    from octavo.tasks.known import accepted, recognised

    with finding(data):
        task = recognised(data, layout, columns)
    own = accepted(task, "check", given_options(context, "check"))
    with progress_shown() as progress:
        report = task.check(
            data,
            layout=layout,
            columns=columns,
            cache=cache,
            leaks=leaks,
            overwrite=overwrite,
            progress=progress,
            **own,
        )
    report.show(console())
    if not report.ok:
        raise typer.Exit(1)


@look_app.command()
def describe(
    recipe: RecipeArgument,
    member: Annotated[str | None, typer.Option("--member", help="This member alone.")] = None,
    classes: Annotated[int | None, typer.Option("--classes", min=2, help="Number of classes.")] = None,
    depth: Annotated[int | None, typer.Option("--depth", min=1, help="Fold the layers below this depth.")] = None,
    changes: SetOption = None,
    weights_dir: WeightsOption = None,
) -> None:
    """Print a recipe's networks: a summary, then layer by layer, with shapes and parameters."""
    from octavo.recipe import load

    resolved = load(recipe, changes or [])  # a mistake in it is told before torch is loaded
    from octavo.networks.pack import require_whole
    from octavo.verbs.describe import describe as describe_recipe

    text = describe_recipe(resolved, member, classes, depth=depth)
    require_whole(resolved, weights_dir)  # nothing is loaded, but a network from a damaged file isn't as described
    typer.echo(text)


@look_app.command()
def recipes() -> None:
    """List the recipes that are shipped; TOML files of your own work in their place."""
    from rich.table import Table

    from octavo.recipe import EnsembleRecipe, load, shipped

    table = Table("recipe", "task", "what it is", box=None)
    for name in shipped():
        recipe = load(name)
        count = f" ({len(recipe.networks)} members)" if isinstance(recipe, EnsembleRecipe) else ""
        table.add_row(name, recipe.task, recipe.description + count)
    console().print(table)


@look_app.command()
def classes(
    table: Annotated[str | None, typer.Argument(help="Name of a table, or a TOML file: print it.")] = None,
) -> None:
    """List the tables of classes that masks can be read by, or print one as TOML."""
    from rich.table import Table
    from rich.text import Text

    from octavo.data.classes import dumps, load_table, shipped

    if table:
        typer.echo(dumps(load_table(table)), nl=False)
        return
    rows = Table("table", "classes", box=None)
    for name in shipped():
        text = Text()
        for entry in load_table(name).entries:
            text.append("■ ", style="rgb({},{},{})".format(*entry.colour))
            text.append(entry.name + (" (ignored)  " if entry.ignored else "  "))
        rows.add_row(name, text)
    console().print(rows)
