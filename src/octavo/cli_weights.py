"""`octavo weights`: which files a recipe needs, and how they come to a machine without a network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.terminal import OverwriteOption, RecipeArgument, WeightsOption, console
from octavo.words import counted

if TYPE_CHECKING:
    from octavo.networks.pack import Row

PARTIAL = "extractor only"
"""What `octavo weights list` says of a file without the ImageNet classifier."""
ABOUT_PARTIAL = f"""\
{PARTIAL}: without the ImageNet classifier, which only an FCN with the
paper's fc6 and fc7 takes. That it is what the recipe asks for, its name alone
says."""
"""What that means."""
NO_HASH = """\
no hash: nothing says what such a file should hold. Its name has no digits of a
hash (vgg16-397923af.pth has) and no {sums} in its folder lists it. Get it
again by octavo weights pack RECIPE FOLDER, or, if you trust it, list it there:
sha256sum FILE >> {sums}"""
"""What `no hash` means in `octavo weights verify`, and what to do."""

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
    """Show which weights each member needs, and whether they are here and what they should be."""
    from rich.table import Column, Table

    from octavo.networks import pack
    from octavo.recipe import load

    rows = pack.table(load(recipe), weights_dir)
    table = Table("member", "network", "asks for", "state", Column("MB", justify="right", no_wrap=True), box=None)
    damaged = pack.damage(row.path for row in rows)
    partial = {path for path, row in {row.path: row for row in rows}.items() if _is_partial(row)} - damaged.keys()
    for row in rows:
        state = "damaged" if row.path in damaged else f"{row.state}, {PARTIAL}" if row.path in partial else row.state
        size = f"{row.size_bytes / 1e6:,.0f}" if row.size_bytes else ""
        table.add_row(row.member, row.backbone, row.tag, state, size)
    console().print(table)
    _places("found", [str(row.path) for row in rows if row.state == "found" and row.path not in damaged])
    _places("missing (train downloads them)", [row.url for row in rows if row.state == "missing" and row.url])
    _places("no such file", [str(row.path) for row in rows if row.state == "missing" and not row.url])
    if partial:
        typer.echo(ABOUT_PARTIAL)
    for told in damaged.values():
        typer.echo(f"error: {told}", err=True)
    if damaged:
        raise typer.Exit(2)


def _is_partial(row: Row) -> bool:
    """Return whether a file of published weights lacks the classifier (`weights pack` writes such files).

    torchvision's own files aren't looked into: they are whole, and some take long to read.
    """
    from safetensors import SafetensorError, safe_open

    from octavo.networks.backbone import Backbone, weightless, whole

    if row.path is None or row.tag == "file" or row.path.suffix != ".safetensors":
        return False
    try:
        with safe_open(row.path, "pt") as file:
            there = {name.removeprefix("module.") for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError):
        return False  # `weights verify` and loading it say what is wrong
    with weightless():
        extractor = Backbone(row.backbone).net.state_dict()
    return there.isdisjoint(whole(row.backbone).state_dict().keys() - extractor.keys())


def _places(state: str, places: list[str]) -> None:
    """Print where files are, or where they come from: a line each, once, that no table wraps."""
    if places:
        typer.echo(f"{state}:")
    for place in dict.fromkeys(places):
        typer.echo(f"  {place}")


@weights_app.command("pack")
def weights_pack(
    recipe: RecipeArgument,
    folder: Annotated[Path, typer.Argument(help="Folder to fill.")],
    weights_dir: WeightsOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Collect what a recipe needs, for a machine without a network."""
    from octavo.networks.pack import pack
    from octavo.recipe import load

    for path in pack(load(recipe), folder, weights_dir, progress=True, overwrite=overwrite):
        typer.echo(str(path))
    typer.echo(f"there, use --weights-dir {folder.name} or OCTAVO_WEIGHTS")


@weights_app.command("verify")
def weights_verify(folder: Annotated[Path, typer.Argument(help="Folder of weight files.")]) -> None:
    """Check weight files against their hashes."""
    from octavo.networks.checksums import SUMS
    from octavo.networks.pack import verify

    rows = verify(folder)
    for row in rows:
        typer.echo(f"{row.state:8} {row.path}")
    tally = Counter(row.state for row in rows)
    typer.echo(": ".join(filter(None, [counted(len(rows), "file"), ", ".join(f"{n} {s}" for s, n in tally.items())])))
    if any(row.state == "no hash" for row in rows):
        typer.echo(NO_HASH.format(sums=SUMS))
    if any(row.state in ("corrupt", "missing") for row in rows):
        raise typer.Exit(1)
