"""Commands that show a run: explain, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from octavo.terminal import DeviceOption, OverwriteOption, RunArgument, progress_shown, refuse, sized

show_app = typer.Typer(rich_markup_mode=None)


@show_app.command()
def explain(
    run: RunArgument,
    look: Annotated[list[str] | None, typer.Option("--look", help="Only this look; once for each.")] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="MEMBER.LAYER to draw in a plane, such as vgg16.head.0.")
    ] = None,
    method: Annotated[str | None, typer.Option("--method", help="tsne (the default), umap or pacmap.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, max=2**32 - 3, help="Seed of that plane.")] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", help="Validation image for Grad-CAM; once for each.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Look at a run: t-SNE, mistakes, Grad-CAM, confusion, masks by stage …; pictures in the run's plots/.

    A look that fails keeps none of the others from being taken: exit code 1.
    """
    from octavo.engine.folder import RunFolder
    from octavo.verbs.explain import explain as run_explanation

    given = _given(look or (), {"layer": layer, "method": method, "seed": seed}, image)
    with progress_shown() as progress:
        found = run_explanation(
            RunFolder.open(run),
            look or tuple(given),
            given=given,
            device=device,
            progress=progress,
            say=lambda line: typer.echo(f"note: {line}", err=True),
        )
    for path in found.pictures:
        typer.echo(path)
    for name, why in found.failed.items():
        typer.echo(f"failed: {name}: {why}", err=True)
    if found.failed:
        raise typer.Exit(1)


def _given(
    looks: Sequence[str], plane: Mapping[str, object], images: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """Return look → options of it; those of a plane are for every look at one that is taken."""
    words = {key: value for key, value in plane.items() if value is not None}
    planes = [name for name in ("embedding", "stability") if name in looks] or ["embedding"]
    given = {name: words for name in planes if words}
    return given | ({"gradcam": {"images": images}} if images else {})


@show_app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folder of a run; several are compared.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The page; by default RUN/report.html, of several runs comparison.html."),
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Make its pictures anew.")] = False,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Bind a run into one page that opens anywhere, report.html; or compare several runs in one."""
    from octavo.engine.folder import RunFolder

    folders = [RunFolder.open(run) for run in runs]
    with progress_shown() as progress:
        if len(folders) > 1:
            from octavo.verbs.compare import compare

            refuse({"--refresh": refresh}, "a comparison")
            page = compare(
                folders,
                out or Path("comparison.html"),
                overwrite=overwrite,
                progress=progress,
                say=lambda line: typer.echo(f"note: {line}", err=True),
            )
        else:
            from octavo.verbs.report import report as run_report

            page = run_report(
                folders[0],
                out=out,
                overwrite=overwrite,
                refresh=refresh,
                device=device,
                progress=progress,
                say=lambda line: typer.echo(line, err=True),
            )
    typer.echo(sized(page))
