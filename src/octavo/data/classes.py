"""Tables of classes: which value and which colour a class has in a mask, and whether it is trained and scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError

from octavo.errors import UserError, listed, shortened, suggest
from octavo.schema.common import Section
from octavo.toml import read_toml

IGNORE = 255
"""Value of pixels without a class in every uint8 mask in memory: void, unlabelled, outside of the image."""
MOST = 254
"""Most classes that can be trained: a mask in memory is uint8, and 254 and 255 have other meanings."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ClassEntry:
    """One class of a table.

    Attributes:
        name: what it is called.
        value: what grey and palette masks hold for it, 0–255.
        colour: red, green, blue in 0–255, of colour masks and of pictures that are drawn.
        ignored: whether it has no channel; its pixels are IGNORE.
        scored: whether it counts in the mean; a trained class may not, such as the course's "unknown".
    """

    name: str
    value: int
    colour: Colour
    ignored: bool = False
    scored: bool = True


@dataclass(frozen=True)
class ClassTable:
    """The classes of masks. Channel 0 … C-1 of a network is the position among the *trained* classes."""

    name: str
    entries: tuple[ClassEntry, ...]

    @property
    def trained(self) -> tuple[ClassEntry, ...]:
        """The classes that have a channel, in the order of their values."""
        return tuple(sorted((e for e in self.entries if not e.ignored), key=lambda e: e.value))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the trained classes, in the order of channels."""
        return tuple(e.name for e in self.trained)

    @property
    def colours(self) -> np.ndarray:
        """Colours of the trained classes: uint8 [C, 3]."""
        return np.array([e.colour for e in self.trained], dtype=np.uint8).reshape(-1, 3)

    @property
    def scored(self) -> np.ndarray:
        """Which trained classes count in the mean: bool [C]."""
        return np.array([e.scored for e in self.trained], dtype=bool)

    @property
    def void_colour(self) -> Colour:
        """The colour of IGNORE: the first ignored class's, else black."""
        return next((e.colour for e in self.entries if e.ignored), (0, 0, 0))

    def channel(self, entry: ClassEntry) -> int:
        """Return the channel of a class, IGNORE for one that is ignored."""
        return IGNORE if entry.ignored else self.trained.index(entry)

    def to_dict(self) -> dict[str, Any]:
        """Return the table as JSON-able values; `from_dict` gives back an equal one."""
        return {"name": self.name, "classes": [asdict(e) | {"colour": list(e.colour)} for e in self.entries]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassTable:
        """Return the table that `to_dict` gave."""
        entries = (ClassEntry(**(e | {"colour": tuple(e["colour"])})) for e in values["classes"])
        return cls(values["name"], tuple(entries))


Channel = Annotated[int, Field(ge=0, le=255, strict=True)]


class _Class(Section):
    id: Channel
    name: Annotated[str, Field(min_length=1)]
    color: tuple[Channel, Channel, Channel] | None = None
    """An ignored class may do without: it is black then."""
    ignored: bool = False
    scored: bool = True


class _Classes(Section):
    classes: Annotated[tuple[_Class, ...], Field(min_length=1)]


def shipped() -> dict[str, Path]:
    """Return the tables that come with Octavo: name → file."""
    folder = Path(str(resources.files("octavo") / "classes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_table(table: str | Path) -> ClassTable:
    """Return the table of that name or TOML file; it has the file's stem as its name.

    Raises:
        UserError: no such table, TOML that can't be read, or classes that don't fit: all mistakes at once, each with
            its path and the nearest valid name.
    """
    path = _find(table)
    parsed = read_toml(path)
    try:
        read = _Classes.model_validate(parsed)
    except ValidationError as error:
        # pydantic doesn't count the classes that have mistakes of their own.
        mistakes = [item for item in error.errors() if item["type"] != "too_short" or not item["input"]]
        lines = [*(_line(item) for item in mistakes), *_doubles(parsed.get("classes"))]
        raise UserError(listed([f"{table}: {line}" for line in dict.fromkeys(lines)])) from None
    if lines := [*_doubles(parsed["classes"]), *_impossible(read.classes)]:
        raise UserError("\n".join(f"{table}: {line}" for line in lines))
    return ClassTable(
        path.stem, tuple(ClassEntry(c.name, c.id, c.color or (0, 0, 0), c.ignored, c.scored) for c in read.classes)
    )


def dumps(table: ClassTable, notes: Sequence[str] = ()) -> str:
    """Return the table as TOML, which `load_table` reads back; `notes`, one per class, become comments."""
    blocks = []
    for index, entry in enumerate(table.entries):
        lines = [f"[[classes]]  # {notes[index]}" if notes else "[[classes]]", f"id = {entry.value}"]
        lines += [f"name = {_quoted(entry.name)}", f"color = [{', '.join(map(str, entry.colour))}]"]
        lines += ["ignored = true"] if entry.ignored else []
        lines += ["scored = false"] if not entry.scored else []
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _quoted(text: str) -> str:
    """Quote as TOML does: JSON's strings are TOML's, but for the character DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _find(table: str | Path) -> Path:
    known, path = shipped(), Path(table)
    if str(table) in known:
        return known[str(table)]
    if path.is_file():
        return path
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise UserError(f"classes: no file {table}")
    raise UserError(f'classes: no table and no file "{table}"{suggest(str(table), known)}')


def _line(item: Any) -> str:
    """Return one of pydantic's errors in a user's words."""
    path = shortened("".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in item["loc"]).lstrip("."))
    if item["type"] == "extra_forbidden":
        keys = _Classes.model_fields if len(item["loc"]) == 1 else _Class.model_fields
        return f"{path}: unknown key{suggest(str(item['loc'][-1]), keys)}"
    if item["type"] == "missing":
        form = '; expected [[classes]] with id = 0, name = "…", color = [0, 255, 255]' if path == "classes" else ""
        return f"{path}: required, but not given{form}"
    return f"{path}: {item['msg'][0].lower()}{item['msg'][1:]}, got {shortened(repr(item['input']))}"


def _doubles(classes: Any) -> Iterator[str]:
    """Say which classes have the id, the name or the colour of an earlier one; ignored ones may share a colour."""
    seen: dict[tuple[str, str], int] = {}
    rows = [row if isinstance(row, dict) else {} for row in classes] if isinstance(classes, list) else []
    for index, row in enumerate(rows):
        for key in ("id", "name", "color"):
            default = [0, 0, 0] if key == "color" and row.get("ignored") is True else None
            value = row.get(key, default)
            if value is None:
                continue
            first = seen.setdefault((key, repr(value)), index)
            both_ignored = row.get("ignored") is True and rows[first].get("ignored") is True
            if first != index and not (key == "color" and both_ignored):
                yield f"classes[{index}].{key}: {json.dumps(value, default=str)} is that of classes[{first}] already"
        if "color" not in row and row.get("ignored") is not True and row.get("id") is not None:
            yield f"classes[{index}].color: required, but not given; only an ignored class may do without"


def _impossible(classes: Sequence[_Class]) -> Iterator[str]:
    trained = [c for c in classes if not c.ignored]
    if not trained:
        yield "classes: every class is ignored; nothing is left to train"
    elif not any(c.scored for c in trained):
        yield "classes: no trained class is scored; a mean over nothing says nothing"
    if len(trained) > MOST:
        yield f"classes: {len(trained)} classes to train; at most {MOST} fit in a mask"
