"""What must be as it was for a run to come out the same: its data and weights, its code, the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from octavo.data.batches import MaskRows
from octavo.engine.folder import MANIFEST, RunFolder
from octavo.engine.hardware import Hardware
from octavo.engine.material import Material
from octavo.engine.teacher import identity_of, teacher_of
from octavo.engine.versions import VARIABLES, versions
from octavo.recipe import Recipe
from octavo.words import counted

_SHOWN = 3
"""Files that are named of those that have changed."""


def _processor(manifest: Mapping[str, Any]) -> str:
    hardware = manifest["hardware"]
    return hardware["cpu"]["name"] if "cpu" in hardware else hardware["processor"]


def _gpus(manifest: Mapping[str, Any]) -> str | None:
    hardware = manifest["hardware"]
    if hardware["device"] != "cuda":
        return None
    return ", ".join(hardware["gpus"]) if "gpus" in hardware else hardware["processor"]


_FACTS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "octavo": lambda m: m["octavo"],
    "octavo's code": lambda m: m["code"]["sha256"][:12],
    "python": lambda m: m["python"],
    "device": lambda m: m["hardware"]["device"],
    "number of devices": lambda m: m["hardware"]["devices"],
    "GPU": _gpus,
    "processor": _processor,
    "instruction set": lambda m: m["hardware"]["cpu"]["capability"],
    "threads": lambda m: m["hardware"]["threads"],
    "system": lambda m: m["hardware"]["system"],
    "C library": lambda m: m["hardware"]["libc"],
    "matmul precision": lambda m: m["hardware"]["matmul_precision"],
}
"""What decides about bits, by what it is called; a KeyError is a manifest of an Octavo that didn't record it."""


def surroundings(hardware: Hardware) -> dict[str, Any]:
    """Return what a manifest would say now of code and machine."""
    return {**versions(), "hardware": hardware.describe()}


def other_surroundings(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return what is other now than in a manifest, a line each, and the names of what wasn't recorded then."""
    lines, unrecorded = [], []
    for name, read in _FACTS.items():
        try:
            was = read(then)
        except KeyError:
            unrecorded.append(name)
            continue
        lines += _line(name, was, read(now))
    for name, here in now["packages"].items():
        if name in then["packages"]:
            lines += _line(name, then["packages"][name], here)
        else:
            unrecorded.append(name)
    lines += [f"{name} {was} then, not installed now" for name, was in then["packages"].items()
              if name not in now["packages"]]  # fmt: skip
    if "environment" not in then:
        return lines, [*unrecorded, "environment"]
    for name in VARIABLES:
        lines += _line(name, then["environment"].get(name, "unset"), now["environment"].get(name, "unset"))
    return lines + _instructions(then, now), unrecorded


def _line(name: str, was: Any, here: Any) -> list[str]:
    return [] if was == here else [f"{name} {was} then, {here} now: bits may differ"]


def _instructions(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    was, here = (set(m["hardware"].get("cpu", {}).get("flags", ())) for m in (then, now))
    changes = {"not now": was - here, "new now": here - was}
    found = [f"{', '.join(sorted(flags))} ({word})" for word, flags in changes.items() if flags]
    return [f"instructions of the processor: {'; '.join(found)}: bits may differ"] if found else []


def changed_weights(run: RunFolder, origins: Mapping[str, str]) -> list[str]:
    """Return, a line each, which members would start from other weights than then; `origins` are hashes of now."""
    then = run.manifest.get("weights", {})
    return [
        f"the weights that {name} starts from are another file (sha256 {then[name][:8]}… then, {digest[:8]}… now)"
        for name, digest in origins.items()
        if name in then and then[name] != digest
    ]


def changed_teacher(run: RunFolder, recipe: Recipe) -> list[str]:
    """Return, in a line, whether the teacher that `recipe` names answers otherwise than the one that a run had."""
    was, teacher = run.manifest.get("teacher"), teacher_of(recipe)
    if not was or not teacher or was == (now := identity_of(teacher)):
        return []
    return [f"the ensemble in {teacher.path} is another than its teacher then (by content {was[:8]}…, now {now[:8]}…)"]


def changed_data(run: RunFolder, material: Material) -> list[str]:
    """Return, a line each, in what the data are others than those a run was made from."""
    manifest, then = run.manifest, run.manifest["data"]
    lines = changed_rows(run.samples(), [{k: str(v) for k, v in row.items()} for row in material.rows])
    if tuple(manifest["classes"]) != material.classes:
        lines.append(f"the classes were {_some(manifest['classes'])}, and are {_some(material.classes)} now")
    if manifest.get("table") != (material.table.to_dict() if material.table else None):
        lines.append("the table of classes has changed")
    if lines:  # other files are other pixels: that says nothing more
        return lines
    if then["pixels"] != material.pixels.digest:
        lines.append(f"the pixels of the images have changed{_newer(run, material, 'files')}")
    labels = material.labels
    if isinstance(labels, MaskRows) and then.get("masks") != labels.pixels.digest:
        lines.append(f"the masks have changed{_newer(run, material, 'masks')}")
    return lines


def changed_rows(then: Sequence[Mapping[str, str]], now: Sequence[Mapping[str, str]]) -> list[str]:
    """Return, a line each, how lists of files with their labels and parts differ, in the columns that both have."""
    was, here = ({row["file"]: row for row in rows} for rows in (then, now))
    lines = []
    for word, files in (("gone", [f for f in was if f not in here]), ("new", [f for f in here if f not in was])):
        if files:
            lines.append(f"{counted(len(files), 'file')} {'is' if len(files) == 1 else 'are'} {word} ({_some(files)})")
    shared = [file for file in was if file in here]
    columns = [c for c in (then[0] if then else {}) if now and c in now[0] and c != "file"]
    for column in columns:
        other = [file for file in shared if was[file][column] != here[file][column]]
        if other:
            shown = "; ".join(f"{f}: {was[f][column]} → {here[f][column]}" for f in other[:_SHOWN])
            more = "; …" if len(other) > _SHOWN else ""
            lines.append(f"{counted(len(other), 'file')} with another {column} ({shown}{more})")
    if not lines and [*was] != [*here]:
        lines.append("the files are in another order")
    return lines


def _newer(run: RunFolder, material: Material, kind: str) -> str:
    """Return in words which files were written after the run began: the likely ones, for a hash can't say which."""
    began, names = (run.path / MANIFEST).stat().st_mtime, getattr(material.samples, kind)
    root = Path(material.samples.folder or material.samples.root)
    newer = [name for name in names if (root / name).exists() and (root / name).stat().st_mtime > began]
    return f" (written since: {_some(newer)})" if newer else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
