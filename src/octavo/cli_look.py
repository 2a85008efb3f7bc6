"""Commands that look and change nothing: data folders, networks, recipes, tables of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    progress_shown,
    refuse,
)

look_app = typer.Typer(rich_markup_mode=None)


@look_app.command()
def check(
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
    """Say what a data folder is: layout, classes, sizes, broken files, duplicates; masks are examined."""
    from octavo.data.torchvision_data import holds_masks
    from octavo.overwrite import require_writable
    from octavo.tasks.segmentation.check import PROPOSAL

    if write_classes:
        require_writable(write_classes, PROPOSAL, overwrite=overwrite, option="--write-classes", inputs=[Path(data)])
    if holds_masks(data, layout, columns):
        refuse({"--labels": labels}, "images with masks")
        _check_masks(data, layout, columns, cache, classes, tolerant, leaks, write_classes, overwrite)
        return
    refuse({"--classes": classes, "--tolerant": tolerant, "--write-classes": write_classes}, "images in classes")
    from octavo.tasks.classification.check import check as run_check
    from octavo.tasks.classification.check import render

    with progress_shown() as progress:
        report = run_check(data, layout, columns, labels=labels, cache=cache, leaks=leaks, progress=progress)
    render(report, console())
    if not report.ok:
        raise typer.Exit(1)


def _check_masks(
    data: str,
    layout: str | None,
    columns: str | None,
    cache: Path | None,
    classes: str | None,
    tolerant: bool,
    leaks: bool | None,
    write: Path | None,
    overwrite: bool,
) -> None:
    from octavo.tasks.segmentation.check import check_masks, render_masks, write_proposal

    with progress_shown() as progress:
        report = check_masks(
            data,
            layout,
            columns,
            classes=classes,
            tolerant=tolerant,
            write=write,
            overwrite=overwrite,
            cache=cache,
            leaks=leaks,
            progress=progress,
        )
    render_masks(report, console())
    if write and not report.todo:
        write_proposal(write, report.diagnosis, overwrite=overwrite)  # says why there is none
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
