"""A run → pictures of it and what they say, in its folders `plots` and `explained`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from octavo.engine.folder import RunFolder
from octavo.errors import UserError, lookup
from octavo.looks.look import Drawing
from octavo.looks.looks import looks_at
from octavo.looks.subject import subject_of
from octavo.pictures.style import save
from octavo.progress import Progress, Say, silent, unsaid


def explain(
    run: RunFolder,
    looks: Sequence[str] = (),
    *,
    thorough: bool = True,
    given: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "auto",
    progress: Progress = silent,
    say: Say = unsaid,
) -> list[Path]:
    """Draw a run and return the pictures, written to its folder `plots`; what they say goes to `explained/NAME.json`.

    Args:
        run: a finished run.
        looks: names of looks (see `octavo.looks.looks`); all of them by default.
        thorough: also those that run networks or take long.
        given: look → keyword arguments of it, such as `{"embedding": {"layer": "vgg16.head.0"}}`.
        device: where networks run: `auto`, `cpu`, `cuda` or `mps`.
        progress: told after every look.
        say: told what a picture lacks.

    Raises:
        UserError: the run isn't finished, there is no such look, or the data that the run was made of are gone or
            others.
    """
    subject = subject_of(run, device, progress=progress, say=say)
    ways = dict(looks_at(subject))
    for name in (*looks, *(given or {})):
        lookup(ways, name, f"{run.path}: look")
    ways |= {name: replace(ways[name], draw=partial(ways[name].draw, **words)) for name, words in (given or {}).items()}
    chosen = {name: way for name, way in ways.items() if (name in looks if looks else thorough or not way.thorough)}
    if idle := [name for name in given or {} if name not in chosen]:
        raise UserError(f"{run.path}: options of the look {idle[0]}, which isn't taken; name it too")
    files: list[Path] = []
    for done, (name, way) in enumerate(chosen.items(), 1):
        if drawing := way.draw(subject):
            files += keep(run, drawing)
        else:
            run.explained(f"{name}.json").unlink(missing_ok=True)  # what was seen before is there no more
        progress("explain", done, len(chosen))
    return files


def keep(run: RunFolder, drawing: Drawing) -> list[Path]:
    """Write a drawing into its run, what it says last, and return the pictures."""
    paths = []
    for name, figure in drawing.figures.items():
        paths.append(save(figure, run.plot(name)))
    for name, content in drawing.files.items():
        run.write_explained(name, content)
    run.write_explained(f"{drawing.look.name}.json", drawing.look.to_json().encode())
    return paths
