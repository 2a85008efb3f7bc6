"""A run → pictures of it and what they say, in its folders `plots` and `explained`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from octavo.engine.folder import RunFolder
from octavo.engine.run_results import as_object
from octavo.errors import NotWritten, UserError, lookup
from octavo.integrity import sha256_of
from octavo.looks.look import Drawing, Look, Way
from octavo.looks.subject import Subject
from octavo.looks.suspects import LIST
from octavo.pictures.style import save
from octavo.progress import Interrupted, Progress, Say, silent, unsaid
from octavo.tasks.known import subject_of, task_of


@dataclass(frozen=True)
class Explained:
    """What came of looks at a run.

    Attributes:
        pictures: written to its folder `plots`.
        failed: looks that could not be taken → why, in one line.
    """

    pictures: tuple[Path, ...]
    failed: Mapping[str, str]


def explain(
    run: RunFolder,
    looks: Sequence[str] = (),
    *,
    thorough: bool = True,
    given: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "auto",
    progress: Progress = silent,
    say: Say = unsaid,
) -> Explained:
    """Draw a run, its pictures into its folder `plots`; what they say goes to `explained/NAME.json`.

    A look that fails doesn't keep the others from being taken, unless it is the only one that was asked for.

    Args:
        run: a finished run.
        looks: names of looks (see `octavo.tasks`); all of them by default.
        thorough: also those that run networks or take long.
        given: look → keyword arguments of it, such as `{"embedding": {"layer": "vgg16.head.0"}}`.
        device: where networks run: `auto`, `cpu`, `cuda` or `mps`.
        progress: told after every look.
        say: told what a picture lacks.

    Raises:
        UserError: the run isn't finished or can't be written, the disk is full, there is no such look, or the only look
            that was asked for failed.
    """
    run.require_writable()
    subject = subject_of(run, device, progress=progress, say=say)
    ways = dict(task_of(run.recipe).sections())
    for name in (*looks, *(given or {})):
        lookup(ways, name, f"{run.path}: look")
    ways |= {name: replace(ways[name], draw=partial(ways[name].draw, **words)) for name, words in (given or {}).items()}
    chosen = {name: way for name, way in ways.items() if (name in looks if looks else thorough or not way.thorough)}
    if idle := [name for name in given or {} if name not in chosen]:
        raise UserError(f"{run.path}: options of the look {idle[0]}, which isn't taken; name it too")
    if looks and len(chosen) == 1:
        (name, way), *_ = chosen.items()
        return Explained(tuple(take(subject, name, way)), {})
    return take_all(subject, chosen)


def take_all(subject: Subject, ways: Mapping[str, Way]) -> Explained:
    """Take looks one after another, and return what came of them; those that fail are passed over."""
    pictures, failed = [], {}
    for done, (name, way) in enumerate(ways.items(), 1):
        try:
            pictures += take(subject, name, way)
        except (Interrupted, NotWritten):
            raise  # the others would come to nothing either
        except Exception as error:  # whatever it is, the other looks can be taken all the same
            failed[name] = told(error)
        subject.progress("look", done, len(ways), name)
    return Explained(tuple(pictures), failed)


def take(subject: Subject, name: str, way: Way) -> list[Path]:
    """Take one look, and return its pictures; those of the same look before that it has no more are removed."""
    run = subject.run
    before = _files(run, name)
    state = run.state(way.of)
    if drawing := way.draw(subject):
        paths = keep(run, drawing, state)
    else:
        run.explained(f"{name}.json").unlink(missing_ok=True)
        paths = []
    for path in before - _files(run, name):
        path.unlink(missing_ok=True)
    return paths


def keep(run: RunFolder, drawing: Drawing, state: str) -> list[Path]:
    """Write a drawing into its run, what it says last, with the state of what it shows; return the pictures."""
    paths = []
    for name, figure in drawing.figures.items():
        paths.append(save(figure, run.plot(name)))
    for name, content in drawing.files.items():
        run.write_explained(name, content)
    named = [*paths, *(run.explained(name) for name in drawing.files if name != LIST)]
    files = {run.on_disk.name(path): sha256_of(path) for path in named}
    look = drawing.look.model_copy(update={"state": state, "files": files})
    run.on_disk.write_object(run.explained(f"{look.name}.json"), as_object(look))
    return paths


def taken(run: RunFolder, name: str) -> Look:
    """Return a look as it was taken last.

    Raises:
        OSError: it never was.
        UserError: its file isn't what was written, or of another version.
    """
    path = run.explained(f"{name}.json")
    path.stat()
    record = run.on_disk.read_object(path, again(run, name))
    return Look.from_json(json.dumps(record), str(path))


def again(run: RunFolder, name: str) -> str:
    """Return what makes a look anew."""
    return f"`octavo explain {shlex.quote(str(run.path))} --look {name}` makes it anew"


def told(error: Exception) -> str:
    """Return an error in one line; one that isn't a user's mistake by its kind too."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _files(run: RunFolder, name: str) -> set[Path]:
    """Return the pictures and thumbnails that a look names, as it was taken last."""
    try:
        look = taken(run, name)
    except (OSError, UserError):
        return set()
    thumbs = {run.explained(look.points.thumbs)} if look.points else set()
    return {run.plot(shown.file) for shown in look.shown} | thumbs
