"""`octavo weights`: which files a recipe needs, and how they come to a machine without a network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.terminal import RecipeArgument, WeightsOption, console
from octavo.words import counted

if TYPE_CHECKING:
    from octavo.networks.pack import Row

PARTIAL = "extractor only"
"""What `octavo weights list` says of a file without the ImageNet classifier."""
NO_HASH = """\
no hash: nothing here says what the file should hold. Its name has no digits of a hash, as
vgg16-397923af.pth has, and no {sums} in its folder lists it. If you trust the file, list it
there: sha256sum FILE >> {sums}; or get it again by octavo weights pack RECIPE FOLDER."""
"""What `no hash` means, and what to do."""

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

    rows = pack.table(load(recipe), weights_dir)
    table = Table("member", "network", "weights", "state", Column("MB", justify="right", no_wrap=True), box=None)
    partial = {path for path, row in {row.path: row for row in rows}.items() if _is_partial(row)}
    for row in rows:
        state = f"{row.state}, {PARTIAL}" if row.path in partial else row.state
        size = f"{row.size_bytes / 1e6:,.0f}" if row.size_bytes else ""
        table.add_row(row.member, row.backbone, row.tag, state, size)
    console().print(table)
    _places("found", [str(row.path) for row in rows if row.state == "found"])
    _places("missing", [row.url or str(row.path) for row in rows if row.state == "missing"])
    if partial:
        typer.echo(f"{PARTIAL}: without the ImageNet classifier, which Octavo doesn't use; whether it is the set in")
        typer.echo("its line is told by the file's name alone")


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
    from octavo.networks.pack import SUMS, verify

    rows = verify(folder)
    for row in rows:
        typer.echo(f"{row.state:8} {row.path}")
    tally = Counter(row.state for row in rows)
    typer.echo(": ".join(filter(None, [counted(len(rows), "file"), ", ".join(f"{n} {s}" for s, n in tally.items())])))
    if any(row.state == "no hash" for row in rows):
        typer.echo(NO_HASH.format(sums=SUMS))
    if any(row.state in ("corrupt", "missing") for row in rows):
        raise typer.Exit(1)
