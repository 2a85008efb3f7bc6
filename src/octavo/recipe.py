"""A recipe from TOML and `--set`, and back to TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from octavo.errors import UserError, suggest
from octavo.schema import Augment, Data, Ensemble, Head, Hidden, Member, Recipe, Section, Train

__all__ = ["Augment", "Data", "Ensemble", "Head", "Hidden", "Member", "Recipe", "Train", "dumps", "load", "shipped"]


def shipped() -> dict[str, Path]:
    """Return the recipes that come with Octavo: name → file."""
    folder = Path(str(resources.files("octavo") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load(recipe: str | Path | Recipe, overrides: Iterable[str] = ()) -> Recipe:
    """Return the recipe of that name or file, with `a.b=1` overrides applied.

    Raises:
        UserError: no such recipe, TOML that can't be read, or keys and values that don't fit: all of them at once,
            each with its path and the nearest valid name.
    """
    if isinstance(recipe, Recipe):
        source, table = recipe.name, recipe.model_dump(mode="json", exclude_none=True)
    else:
        path = _find(recipe)
        source, table = str(recipe), _parse(path)
    for override in overrides:
        _override(table, override)
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise UserError("\n".join(f"{source}: {line}" for line in _lines(error))) from None


def dumps(recipe: Recipe) -> str:
    """Return the recipe as TOML, every key written out; `load` gives back an equal recipe."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


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
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: not a readable TOML file: {error}") from None
    table.setdefault("name", path.stem)
    return table


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
    except tomllib.TOMLDecodeError:
        return text


def _lines(error: ValidationError) -> list[str]:
    """Return one line for each thing wrong: its path in the file, what is wrong, and the nearest valid name."""
    lines: dict[str, str] = {}
    deepest = [item["loc"] for item in error.errors()]
    for item in error.errors():
        if item["type"] == "too_short" and any(p[:-1][: len(item["loc"])] == item["loc"] for p in deepest):
            continue  # pydantic doesn't count the members that have mistakes of their own
        # Where a key takes values of two types, pydantic adds their names to the path and tells of both: one is enough.
        steps = [p for p in item["loc"] if isinstance(p, int) or p.replace("_", "").replace("-", "").isalnum()]
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in steps).lstrip(".")
        lines.setdefault(path if item["type"] != "value_error" else str(item), _line(item, path))
    return list(lines.values())


def _line(item: Any, path: str) -> str:
    """Return one of pydantic's errors in a user's words."""
    if item["type"] == "extra_forbidden":
        keys = _section_at(item["loc"][:-1]).model_fields
        return f"{path}: unknown key{suggest(str(item['loc'][-1]), keys)}"
    if item["type"] == "literal_error":
        names = re.findall(r"'([^']*)'", item["ctx"]["expected"])
        return f'{path}: unknown "{item["input"]}"{suggest(str(item["input"]), names)}'
    if item["type"] == "value_error":
        return f"{path}.{item['ctx']['error']}" if path else str(item["ctx"]["error"])
    if item["type"] == "missing":
        return f"{path}: required, but not given"
    return f"{path}: {item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"


def _section_at(path: Sequence[Any]) -> type[Section]:
    sections: Mapping[str, type[Section]] = {
        "data": Data,
        "augment": Augment,
        "train": Train,
        "ensemble": Ensemble,
        "members": Member,
        "head": Head,
        "hidden": Hidden,
    }
    names = [p for p in path if p in sections]
    return sections[names[-1]] if names else Recipe
