"""Known tasks: that of a recipe, of data, of predictions; and which of them has an option."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from octavo.errors import UserError
from octavo.progress import Progress, Say, silent, unsaid
from octavo.recipe import Recipe
from octavo.registry import TASKS, task_named
from octavo.tasks.base import Task

if TYPE_CHECKING:
    from octavo.engine.folder import RunFolder


def task_of(recipe: Recipe) -> Task:
    """Return the task of a recipe."""
    return cast(Task, task_named(recipe.task))


def flags_of(command: str) -> dict[str, str]:
    """Return the options of a command that some task has for itself: as Python and as the command line names them."""
    return {name: flag for task in tasks().values() for name, flag in task.options[command].flags.items()}


def recognised(data: str, layout: str | None = None, columns: str | None = None) -> Task:
    """Return the task that data are of; what no other recognises is taken for images in classes."""
    return next((task for task in tasks().values() if task.recognises(data, layout, columns)), tasks()["classify"])


def scoring(predictions: Path) -> Task:
    """Return the task that predictions are of.

    Raises:
        UserError: there is no such file or folder.
    """
    if found := next((task for task in tasks().values() if task.scores(predictions)), None):
        return found
    raise UserError(f"{predictions}: no such file or folder; expected a CSV of labels, or a folder of masks")


def subject_of(
    run: RunFolder, device: str = "auto", *, data: str | None = None, progress: Progress = silent, say: Say = unsaid
) -> Any:
    """Return what is read of a finished run, whose data may lie elsewhere now; see `octavo.looks.subject`.

    Raises:
        UserError: the run is not finished.
    """
    run.metrics  # noqa: B018 (raises where the run isn't finished)
    return task_of(run.recipe).subject(run, device, data, progress, say)


def tasks() -> dict[str, Task]:
    """Return all tasks by name."""
    return {name: cast(Task, task_named(name)) for name in TASKS}


def accepted(task: Task, command: str, given: Mapping[str, object]) -> dict[str, Any]:
    """Return options that were given for a command, all of which a task has.

    Raises:
        UserError: the first that is another task's.
    """
    own = task.options[command]
    for name in given:
        if name not in own.flags:
            flag = flags_of(command).get(name, f"--{name.replace('_', '-')}")
            raise UserError(f"{flag}: means nothing for {own.of}; leave it away")
    return dict(given)
