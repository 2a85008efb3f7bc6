"""A recipe from TOML and `--set`, and back to TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import ValidationError

from octavo.errors import UserError, listed, shortened, suggest
from octavo.registry import TASKS, task_named
from octavo.schema.classify import Augment, ClassifyRecipe, Data, Ensemble, EnsembleRecipe, Head, Hidden, Member
from octavo.schema.common import SUFFIXES, Changes, Network, Recipe, Section, Train, is_file, member_name
from octavo.schema.segment import (
    Conv,
    Loss,
    Measure,
    SegmentAugment,
    SegmentData,
    Segmenter,
    SegmentRecipe,
    Stages,
)
from octavo.toml import read_toml

__all__ = [
    "SUFFIXES",
    "Augment",
    "Changes",
    "ClassifyRecipe",
    "Conv",
    "Data",
    "Ensemble",
    "EnsembleRecipe",
    "Head",
    "Hidden",
    "Loss",
    "Measure",
    "Member",
    "Network",
    "Recipe",
    "SegmentAugment",
    "SegmentData",
    "SegmentRecipe",
    "Segmenter",
    "Stages",
    "Train",
    "dumps",
    "is_file",
    "load",
    "member_name",
    "shipped",
]


def shipped() -> dict[str, Path]:
    """Return the recipes that come with Octavo: name → file."""
    folder = Path(str(resources.files("octavo") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load(
    recipe: str | Path | Recipe | Mapping[str, Any], overrides: Iterable[str] = (), *, where: Path | None = None
) -> Recipe:
    """Return the recipe of that name or file, or of that parsed file, with `a.b=1` overrides applied.

    Args:
        recipe: name, file, tables of a file, or a recipe itself.
        overrides: changes to it.
        where: the file that tables were read from, to be named with what is wrong in them.

    Raises:
        UserError: no such recipe, TOML that can't be read, or overrides, keys and values that don't fit: all of them
            at once, a line each, with its path and the nearest valid name.
    """
    if isinstance(recipe, Recipe):
        source, table = recipe.name, recipe.model_dump(mode="json", exclude_none=True)
    elif isinstance(recipe, Mapping):
        source, table = str(where or recipe.get("name", "recipe")), dict(recipe)
    else:
        path = _find(recipe)
        source, table = str(recipe), _parse(path)
    table, mistakes = _overridden(table, overrides)
    task = str(table.get("task", "classify"))
    if task not in TASKS:
        raise UserError("\n".join([*mistakes, f'{source}: task: unknown "{shortened(task)}"{suggest(task, TASKS)}']))
    try:
        resolved = task_named(task).recipe_type.model_validate(table)
    except ValidationError as error:
        # Keys may not go together for want of an override that couldn't be applied: then that alone is told.
        lines = _lines(error, task_named(task).recipe_type, together=not mistakes)
        raise UserError(listed([*mistakes, *(f"{source}: {line}" for line in lines)])) from None
    if mistakes:
        raise UserError("\n".join(mistakes))
    return resolved


def _overridden(table: dict[str, Any], overrides: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Return a parsed recipe with overrides applied, and a line for each that can't be."""
    mistakes: list[str] = []
    for override in overrides:
        changed = deepcopy(table)
        try:
            _override(changed, override)
            table = changed
        except UserError as error:
            mistakes.append(str(error))
    return table, mistakes


def dumps(recipe: Recipe) -> str:
    """Return the recipe as TOML, every key written out; `load` gives back an equal recipe."""
    table = recipe.model_dump(mode="json", exclude_none=True)
    lists = {key for key, value in table.items() if isinstance(value, list)}  # lists of tables stand last
    return tomli_w.dumps(dict(sorted(table.items(), key=lambda item: item[0] in lists)))


def _find(recipe: str | Path) -> Path:
    known = shipped()
    path = Path(recipe)
    if str(recipe) in known:
        return known[str(recipe)]
    if path.is_file():
        return path
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise UserError(f"recipe: no file {recipe}")
    raise UserError(f'recipe: no recipe and no file "{recipe}"{suggest(str(recipe), known)}')


def _parse(path: Path) -> dict[str, Any]:
    return named(read_toml(path), path)


def named(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the tables of a recipe's file with the file's stem as its name, where they have none."""
    return {"name": path.stem} | table


def _override(table: dict[str, Any], override: str) -> None:
    """Set one `a.b[2].c=value` in a parsed recipe; the value is TOML, or else a plain string."""
    key, equals, text = override.partition("=")
    steps: list[str | int] = []
    for part in key.strip().split("."):
        found = re.fullmatch(r"([A-Za-z0-9_-]+)((?:\[\d+\])*)", part)
        if not equals or not found:
            raise UserError(f"--set {override}: expected KEY=VALUE such as train.epochs=3 or members[2].lr=1e-4")
        steps += [found[1], *(int(i) for i in re.findall(r"\d+", found[2]))]
    place: Any = table
    for step, following in pairwise(steps):
        if isinstance(step, int):
            place = _item(place, step, override)
        elif isinstance(place, dict):
            place = place.setdefault(step, [] if isinstance(following, int) else {})
        else:
            raise UserError(_no_keys(override, step))
    last = steps[-1]
    if isinstance(last, int):
        _item(place, last, override)
    elif not isinstance(place, dict):
        raise UserError(_no_keys(override, last))
    place[last] = _value(text.strip())


def _no_keys(override: str, step: str) -> str:
    return f'--set {override}: "{step}" has no place in a list (write members[0].{step}) or a plain value'


def _item(place: Any, index: int, override: str) -> Any:
    if not isinstance(place, list) or index >= len(place):
        count = len(place) if isinstance(place, list) else 0
        raise UserError(f"--set {override}: no item [{index}]; the list has {count}, counted from 0")
    return place[index]


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _lines(error: ValidationError, kind: type[Recipe], together: bool = True) -> list[str]:
    """Return one line for each thing wrong: its path in the file, what is wrong, and the nearest valid name.

    What is wrong only with several keys together is left out where it isn't wanted.
    """
    lines: dict[str, str] = {}
    deepest = [item["loc"] for item in error.errors()]
    for item in error.errors():
        if item["type"] == "too_short" and any(p[:-1][: len(item["loc"])] == item["loc"] for p in deepest):
            continue  # pydantic doesn't count the members that have mistakes of their own
        if item["type"] == "value_error" and not together:
            continue
        # Where a key takes values of two types, pydantic adds their names to the path and tells of both: one is enough.
        steps = [p for p in item["loc"] if isinstance(p, int) or p.replace("_", "").replace("-", "").isalnum()]
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in steps).lstrip(".")
        path = shortened(path, 120)
        lines.setdefault(path if item["type"] != "value_error" else str(item), _line(item, path, kind))
    return list(lines.values())


def _line(item: Any, path: str, kind: type[Recipe]) -> str:
    """Return one of pydantic's errors in a user's words."""
    if item["type"] == "extra_forbidden":
        keys = _section_at(kind, item["loc"][:-1]).model_fields
        return f"{path}: unknown key{suggest(str(item['loc'][-1]), keys)}"
    if item["type"] == "literal_error":
        names = re.findall(r"'([^']*)'", item["ctx"]["expected"])
        return f'{path}: unknown "{shortened(str(item["input"]))}"{suggest(str(item["input"]), names)}'
    if item["type"] == "value_error":
        return f"{path}.{item['ctx']['error']}" if path else str(item["ctx"]["error"])
    if item["type"] == "missing":
        return f"{path}: required, but not given"
    return f"{path}: {item['msg'][0].lower()}{item['msg'][1:]}, got {shortened(repr(item['input']))}"


def _section_at(kind: type[Recipe], path: Sequence[Any]) -> type[Section]:
    """Return the table of a recipe at that path, found in the types of its keys."""
    section: type[Section] = kind
    for step in (p for p in path if isinstance(p, str) and p in section.model_fields):
        found = _tables(section.model_fields[step].annotation)
        section = found[0] if found else section
    return section


def _tables(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [table for inner in get_args(annotation) for table in _tables(inner)]
