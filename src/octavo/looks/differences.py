"""In what the trainings of several runs differ: keys of their recipes, versions, weights, and the data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from octavo.engine.folder import RunFolder
from octavo.engine.identity import DataIdentity, comparable
from octavo.looks.names import last_parts
from octavo.numbers.compare_results import Difference
from octavo.recipe import Recipe

_NAMING = ("name", "description", "task")


def differences(runs: Sequence[RunFolder]) -> tuple[Difference, ...]:
    """Return the keys of the recipes, then the facts of the manifests, in which runs differ.

    A network that only some of them have is told by its name alone, with its backbone.
    """
    recipes = [run.recipe for run in runs]
    networks = [{network.name: network.backbone for network in recipe.networks} for recipe in recipes]
    everywhere = set(networks[0]).intersection(*networks[1:])
    facts = [
        _of_recipe(recipe, everywhere) | _of_manifest(run.manifest, everywhere)
        for run, recipe in zip(runs, recipes, strict=True)
    ]
    keys = dict.fromkeys(key for own in facts for key in own)
    rows = {key: tuple(own.get(key) for own in facts) for key in keys}
    return tuple(Difference(key=key, values=_shown(values)) for key, values in rows.items() if len(set(values)) > 1)


def _shown(values: Sequence[str | None]) -> tuple[str | None, ...]:
    """Return values that may travel: of a path, such as a weights file's, only as much as tells it from the others."""
    paths = [value for value in values if value and PurePath(value).is_absolute()]
    short = dict(zip(paths, last_parts(paths), strict=True))
    return tuple(short.get(value, value) if value else value for value in values)


def data_warnings(runs: Sequence[RunFolder], names: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for each run whose data aren't the first one's, as far as their digests tell."""
    first, found, known = runs[0], [], comparable([DataIdentity.of_run(run) for run in runs])
    for run, name in zip(runs[1:], names[1:], strict=True):
        ours, theirs = first.manifest["data"], run.manifest["data"]
        if ours.get("masks") != theirs.get("masks") and first.manifest["table"] == run.manifest["table"]:
            found.append(f"{name} was trained on other masks than {names[0]}")
        if ours["pixels"] == theirs["pixels"]:
            continue
        if first.recipe.decoding != run.recipe.decoding:
            found.append(
                f"{name} stores its images in another size than {names[0]}, so that nothing proves the images the "
                "same; they are paired by file name and truth"
            )
        else:
            found.append(
                f"{name} was trained on other images than {names[0]} (their digests differ); they are paired by file "
                f"name and truth{', and are the same by their pixels' if known else ''}"
            )
    return tuple(found)


def _of_recipe(recipe: Recipe, networks: set[str]) -> dict[str, str]:
    """Return a recipe's keys with their values as text; those of networks that aren't everywhere in one key each."""
    table = recipe.model_dump(mode="json", exclude_none=True)
    found = _flat({key: value for key, value in table.items() if key not in (*_NAMING, "members")}, "")
    for network in table.get("members", ()):
        name, place = network["name"], f"members.{network['name']}"
        found |= _flat(network, place) if name in networks else {place: str(network["backbone"])}
    return found


def _of_manifest(manifest: Mapping[str, Any], networks: set[str]) -> dict[str, str]:
    """Return what a run was trained with, beside its recipe."""
    found = {"octavo": manifest["octavo"], **manifest["packages"], "device": manifest["hardware"]["device"]}
    found |= {f"images {part}": f"{count:,}" for part, count in manifest["data"]["parts"].items()}
    weights = {key: value for key, value in manifest["weights"].items() if key in networks}
    return {key: str(value) for key, value in found.items()} | {
        f"weights of {key}": str(value)[:12] for key, value in weights.items()
    }


def _flat(value: object, place: str) -> dict[str, str]:
    """Return the leaves of nested tables by their path; a list without tables is a leaf."""
    if isinstance(value, dict):
        steps = [(f"{place}.{key}" if place else str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        steps = [(f"{place}[{i}]", inner) for i, inner in enumerate(value)]
    else:
        return {place: value if isinstance(value, str) else json.dumps(value)}
    return {path: text for step, inner in steps for path, text in _flat(inner, step).items()}
