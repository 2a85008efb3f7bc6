"""What two runs of one recipe differ in, to the last bit: tensor by tensor, number by number, mask by mask."""

from __future__ import annotations

import csv
import filecmp
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from octavo.engine.folder import RunFolder
from octavo.engine.trained_files import trained_files
from octavo.integrity import SEAL
from octavo.progress import Progress, silent
from octavo.words import counted

_SHOWN = 8
"""Numbers that are named of those that differ in one file."""
_WORDS = ("rule", "rules", "warnings", "weights.file", "weights.source", "format")
"""Keys whose values are words about a result, or places; others than then are told, and are no difference."""


@dataclass(frozen=True)
class Difference:
    """One thing that came out otherwise.

    Attributes:
        where: a member's name, or the file in the run's folder.
        text: what and by how much, in words.
    """

    where: str
    text: str


@dataclass
class _Found:
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def differs(self, where: str, text: str) -> None:
        self.differences.append(Difference(where, text))

    def count(self, what: str, number: int) -> None:
        self.counts[what] = self.counts.get(what, 0) + number


@dataclass(frozen=True)
class Comparison:
    """How a run compares with another of the same recipe.

    Attributes:
        differences: what came out otherwise; none: all bits are the same.
        notes: what only one of the two recorded.
        counts: how many tensors, numbers, rows and masks were compared.
    """

    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    counts: Mapping[str, int]


def compare_runs(
    then: RunFolder, now: RunFolder, members: Sequence[str] = (), *, progress: Progress = silent
) -> Comparison:
    """Return what differs between a run and its repetition; of some `members` alone if they are named."""
    found = _Found()
    old, new = trained_files(then), trained_files(now)
    if members:
        old, new = (_of_members(files, members) for files in (old, new))
    for name in [name for name in old if name not in new]:
        found.differs(_where(name), f"{name}: not there now")
    for name in [name for name in new if name not in old]:
        found.notes.append(f"{name}: not recorded then")
    shared = [name for name in old if name in new]
    masks: dict[str, list[str]] = {}
    for done, name in enumerate(shared, 1):
        if name.endswith(".png"):
            masks.setdefault(name.rpartition("/")[0], []).append(name)
        else:
            _COMPARE[Path(name).suffix](found, name, old[name], new[name], members)
        progress("compare", done, len(shared))
    for folder, names in masks.items():
        _masks(found, folder, [(old[name], new[name]) for name in names])
    return Comparison(tuple(found.differences), tuple(found.notes), found.counts)


def _of_members(files: Mapping[str, Path], members: Sequence[str]) -> dict[str, Path]:
    wanted = tuple(f"members/{name}/" for name in members)
    return {name: path for name, path in files.items() if name.startswith(wanted) or name == "metrics.json"}


def _where(name: str) -> str:
    return name.split("/")[1] if name.startswith("members/") else name


def _tensors(found: _Found, name: str, old: Path, new: Path, members: Sequence[str]) -> None:
    """Compare weights, or outputs with what they say of each image."""
    where, file = _where(name), name.rpartition("/")[2].removesuffix(".safetensors")
    with safe_open(old, "pt") as then, safe_open(new, "pt") as now:
        keys, others = set(then.keys()), set(now.keys())
        found.count("tensors", len(keys))
        found.notes += [f"{name}: {key}: not recorded then" for key in sorted(others - keys)]
        lines = [f"{file}: {key}: not there now" for key in sorted(keys - others)]
        largest: dict[str, float] = {}
        for key in sorted(keys & others) if not filecmp.cmp(old, new, shallow=False) else ():
            a, b = then.get_tensor(key), now.get_tensor(key)
            if a.shape != b.shape or a.dtype != b.dtype:
                lines.append(f"{file}: {key}: {_form(a)} → {_form(b)}")
            elif not _same_bits(a, b):
                largest[key] = _distance(a, b)
                lines += [_of_images(key, a, b)] if file == "outputs" else []
        if largest and file != "outputs":
            most = max(largest, key=lambda key: largest[key])
            amount = f"{len(largest)} of {counted(len(keys), 'tensor')} differ, by at most {largest[most]:.3g} ({most})"
            lines.append(f"{file}: {amount}")
    for line in lines:
        found.differs(where, line)


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _same_bits(a: Tensor, b: Tensor) -> bool:
    # By bytes: numbers that are equal may differ in bits (0 and −0), and NaN is unequal to itself.
    return torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8))


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().nan_to_num(nan=torch.inf).max())


def _of_images(key: str, a: Tensor, b: Tensor) -> str:
    """Return in words how the outputs of one part differ: logits float [n,…,C], or confusion counts int [n,C+1,C+1]."""
    n, most = len(a), f"{_distance(a, b):.3g}"
    if not a.is_floating_point():
        other = int((a != b).flatten(1).any(1).sum())
        return f"outputs of {key}: the counts of {other:,} of {counted(n, 'image')} differ, by at most {most}"
    changed = int((a.argmax(-1) != b.argmax(-1)).reshape(n, -1).any(1).sum()) if a.dim() > 1 else 0
    return f"outputs of {key}: differ by at most {most}; predictions of {changed:,} of {counted(n, 'image')} changed"


def _numbers(found: _Found, name: str, old: Path, new: Path, members: Sequence[str]) -> None:
    """Compare JSON leaf by leaf; the numbers of a member's are told with the member."""
    then, now = (dict(_leaves(_unhashed(json.loads(path.read_text(encoding="utf-8"))))) for path in (old, new))
    if members and name == "metrics.json":
        wanted = tuple(f"systems.{member}.metrics." for member in members)
        then, now = ({k: v for k, v in leaves.items() if k.startswith(wanted)} for leaves in (then, now))
    shared = [key for key in then if key in now]
    found.count("numbers", sum(isinstance(then[key], int | float) for key in shared))
    for word, only in (("then", set(then) - set(now)), ("now", set(now) - set(then))):
        if only:
            found.notes.append(f"{name}: {counted(len(only), 'value')} only {word} ({sorted(only)[0]})")
    lines: dict[str, list[str]] = {}
    for key in shared:
        if then[key] == now[key] and type(then[key]) is type(now[key]):
            continue
        if key.startswith(_WORDS):
            found.notes.append(f"{name}: {key}: other words")
            continue
        parts = key.split(".")
        of_member = parts[0] == "systems" and len(parts) > 2
        place, short = (parts[1], ".".join(parts[2:]).removeprefix("metrics.")) if of_member else (_where(name), key)
        lines.setdefault(place, []).append(f"{short.removesuffix('.value')} {then[key]} → {now[key]}")
    for place, texts in lines.items():
        # The ends of intervals go with their values.
        told = [text for text in texts if not text.split()[0].endswith((".low", ".high"))] or texts
        more = f", and {counted(len(texts) - len(told[:_SHOWN]), 'more number')}" if len(texts) > _SHOWN else ""
        found.differs(place, f"{Path(name).stem}: {', '.join(told[:_SHOWN])}{more}")


def _unhashed(value: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object without hashes of itself and of other files: what these hold is compared itself."""
    return {key: item for key, item in value.items() if key not in (SEAL, "files", "results")}


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of each leaf; items of lists go by their name, where they have one."""
    if isinstance(value, dict):
        items = [(str(key), inner) for key, inner in value.items() if key != "name"]
    elif isinstance(value, list):
        items = [(_name_of(inner, i), inner) for i, inner in enumerate(value)]
    else:
        yield place, value
        return
    for key, inner in items:
        yield from _leaves(inner, f"{place}.{key}" if place else key)


def _name_of(item: Any, index: int) -> str:
    named = item.get("name", item.get("member")) if isinstance(item, dict) else None
    return str(index if named is None else named)


def _rows(found: _Found, name: str, old: Path, new: Path, members: Sequence[str]) -> None:
    """Compare CSV row by row, in the columns that both have."""
    then, now = (list(csv.DictReader(_lines(path))) for path in (old, new))
    found.count("rows", len(then))
    where, file = _where(name), name if not name.startswith("members/") else name.rpartition("/")[2]
    if len(then) != len(now):
        found.differs(where, f"{file}: {counted(len(then), 'row')} → {len(now):,}")
        return
    columns = [c for c in (then[0] if then else {}) if c in now[0]]
    other = [i for i, row in enumerate(then) if any(row[c] != now[i][c] for c in columns)]
    if other:
        row, here = then[other[0]], now[other[0]]
        column = next(c for c in columns if row[c] != here[c])
        first = f"{next(iter(row.values()))}: {column} {row[column]} → {here[column]}"
        found.differs(where, f"{file}: {len(other):,} of {counted(len(then), 'row')} differ, such as {first}")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)


def _masks(found: _Found, folder: str, pairs: Sequence[tuple[Path, Path]]) -> None:
    """Compare masks pixel by pixel; the words for those of one folder are one line."""
    found.count("masks", len(pairs))
    other, pixels, total = 0, 0, 0
    for old, new in pairs:
        if filecmp.cmp(old, new, shallow=False):
            continue
        with Image.open(old, formats=["PNG"]) as then, Image.open(new, formats=["PNG"]) as now:
            a, b = np.asarray(then.convert("RGB")), np.asarray(now.convert("RGB"))
        if a.shape != b.shape:
            found.differs(folder, f"{folder}/{old.name}: {a.shape[1]}×{a.shape[0]} → {b.shape[1]}×{b.shape[0]} pixels")
        elif changed := int((a != b).any(axis=2).sum()):
            other, pixels, total = other + 1, pixels + changed, total + a[..., 0].size
    if other:
        share = f"{100 * pixels / total:.2g} % of their pixels"
        found.differs(folder, f"{folder}: {other:,} of {counted(len(pairs), 'mask')} differ, in {share}")


_COMPARE: Mapping[str, Callable[[_Found, str, Path, Path, Sequence[str]], None]] = {
    ".safetensors": _tensors,
    ".json": _numbers,
    ".csv": _rows,
}
