"""Manifest and sealed JSON of a run: each file is known by its hash, kept where the file is referred to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from octavo.engine.manifest import FORMAT, Manifest, OlderManifest
from octavo.errors import Damaged
from octavo.files import write_atomic
from octavo.integrity import SEAL, parse_object, read_checked, sealed, unsealed

MANIFEST = "manifest.json"
T = TypeVar("T")


class Keys(dict[str, Any]):
    """A JSON object of a run, in which a key that isn't there is damage and no KeyError."""

    def __init__(self, value: Mapping[str, Any], path: Path, remedy: str) -> None:
        super().__init__(value)
        self.path, self.remedy = path, remedy

    def copy(self) -> Keys:
        """Return a shallow copy."""
        return Keys(self, self.path, self.remedy)

    def __missing__(self, key: str) -> Any:
        raise Damaged(f'{self.path}: damaged: lacks "{key}"; {self.remedy}')


@dataclass(frozen=True)
class RunFiles:
    """The files of one run, read with their hashes.

    A run that was written before files were hashed has a manifest without seal; nothing of it is checked. What was
    parsed of a file is kept, and the file isn't opened again for as long as it is the same one on disk.

    Attributes:
        root: the run's folder.
    """

    root: Path
    _parsed: dict[tuple[Path, object], tuple[object, Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def once(self, path: Path, what: object, parse: Callable[[], T]) -> T:
        """Return what `parse` makes of a file, made anew only where it or the manifest is another than last time.

        Several callers get the same object, so they must not change it.

        Args:
            path: the file; by inode, size and times of change it is known to be the same.
            what: names what is made of it, where several things are.
            parse: reads and checks the file.
        """
        try:
            stamp = (_stamp(path), _stamp(self._path))  # what is sealed is sealed by the manifest's identity
        except OSError:
            return parse()
        kept = self._parsed.get((path, what))
        if kept is None or kept[0] != stamp:
            kept = self._parsed[path, what] = (stamp, parse())
        return cast(T, kept[1])

    @property
    def restore(self) -> str:
        """What to do about a damaged file that nothing else can make again."""
        return f"restore it from a copy of the run, or accept it as it is by `octavo verify {self.root} --write`"

    @property
    def retrain(self) -> str:
        """The command that makes again what training makes, where it isn't there."""
        return f"`octavo train --resume --out {self.root}`"

    @property
    def _path(self) -> Path:
        return self.root / MANIFEST

    def manifest(self) -> Keys:
        """Return what was fixed before the first step.

        Raises:
            Damaged: it isn't what was written, or nothing that Octavo writes.
        """
        return self.once(self._path, Manifest, self._parse_manifest).copy()

    def _parse_manifest(self) -> Keys:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            raise Damaged(f"{self._path}: missing; {self.restore}") from None
        value, has_seal = unsealed(content, self._path, self.restore)
        newer = value.get("format") == FORMAT
        if newer != has_seal:
            raise Damaged(f"{self._path}: damaged: {'has no seal' if newer else 'has no format'}; {self.restore}")
        checked(value, Manifest if newer else OlderManifest, self._path, self.restore)
        for key in ("data", "hardware", "options"):
            if key in value:
                value[key] = Keys(value[key], self._path, self.restore)
        value.setdefault("options", Keys({}, self._path, self.restore))
        return Keys(value, self._path, self.restore)

    @property
    def hashed(self) -> bool:
        """Whether the run's files have hashes."""
        return "format" in self.manifest()

    @property
    def identity(self) -> str:
        """What its sealed files belong to: the same for all runs of one recipe on the same data and weights."""
        return self.once(self._path, "identity", lambda: identity_of(self.manifest()))

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write what is fixed before the first step, with its seal."""
        write_atomic(self._path, sealed({"format": FORMAT, **manifest}))

    def read(self, path: Path, sha256: str | None, remedy: str) -> bytes:
        """Return the content of a file; `sha256` None is that of a run without hashes, or one that isn't recorded.

        Raises:
            Damaged: it is missing, another than was written, or has no hash in a run where all have.
        """
        if sha256 is not None:
            return read_checked(path, sha256, remedy)
        if self.hashed:
            raise Damaged(f"{path}: no hash is recorded for it; {remedy}")
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise Damaged(f"{path}: missing; {remedy}") from None

    def read_object(self, path: Path, remedy: str, model: type[BaseModel] | None = None) -> Keys:
        """Return a JSON object of the run, by a model of it if there is one.

        Raises:
            Damaged: it is missing, not sealed as part of this run, or not of the model.
        """
        return self.once(path, model, lambda: self._parse_object(path, remedy, model)).copy()

    def _parse_object(self, path: Path, remedy: str, model: type[BaseModel] | None) -> Keys:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise Damaged(f"{path}: missing; {remedy}") from None
        if self.hashed:
            value, has_seal = unsealed(content, path, remedy, self._context(path))
            if not has_seal:
                raise Damaged(f"{path}: damaged: has no seal; {remedy}")
        else:
            value = parse_object(content, path, remedy)
            value.pop(SEAL, None)
        if model is not None:
            checked(value, model, path, remedy)
        return Keys(value, path, remedy)

    def write_object(self, path: Path, value: Mapping[str, Any]) -> None:
        """Write a JSON object, sealed as part of this run and under this name."""
        write_atomic(path, sealed(value, self._context(path)))

    def _context(self, path: Path) -> str:
        return f"{self.identity} {self.name(path)}"

    def name(self, path: Path) -> str:
        """Return the path of a file in the run's folder, with `/`."""
        return path.relative_to(self.root).as_posix()


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def identity_of(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what two trainings have in common that end in the same bits: recipe, data, weights."""
    data = manifest.get("data", {})
    parts = [
        manifest.get("task"),
        manifest.get("recipe"),
        *(data.get(key) for key in ("samples", "pixels", "masks")),
        manifest.get("weights"),
        manifest.get("teacher"),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def checked(value: Mapping[str, Any], model: type[BaseModel], path: Path, remedy: str) -> None:
    """Hold a JSON object against the model of it.

    Raises:
        Damaged: it is another, with the first key that is wrong.
    """
    try:
        model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])[:80] or "whole file"
        raise Damaged(f"{path}: damaged: {place}: {first['msg'][:120]}; {remedy}") from None
