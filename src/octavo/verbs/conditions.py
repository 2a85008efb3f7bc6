"""What must be as it was for a run to come out the same: its data and weights, its code, the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from octavo.engine.folder import RunFolder
from octavo.engine.hardware import Hardware
from octavo.engine.identity import DataIdentity, changes
from octavo.engine.material import Material
from octavo.engine.teacher import identity_of, teacher_of
from octavo.engine.versions import VARIABLES, versions
from octavo.errors import Damaged
from octavo.recipe import Recipe


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
        except (KeyError, Damaged):
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
    return changes(DataIdentity.of_run(run), material.identity(run.recipe))
