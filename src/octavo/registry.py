"""Registry of tasks: the name that recipes and runs give each → the module that defines it.

To add a task, add a folder to `octavo.tasks` and a line here. What lies below the tasks asks here for the few types
that reading a recipe or a report takes; everything else is given to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

TASKS: Mapping[str, str] = {
    "classify": "octavo.tasks.classification.task",
    "segment": "octavo.tasks.segmentation.task",
}


def task_named(name: str) -> Any:
    """Return the task of that name, an `octavo.tasks.base.Task`; its module loads neither torch nor pictures.

    Raises:
        KeyError: there is no such task.
    """
    return import_module(TASKS[name]).TASK
