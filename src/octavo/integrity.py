"""SHA-256 checksums: of files, checked while they are read, and of JSON objects, which carry their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octavo.errors import Damaged
from octavo.files import as_json

SEAL = "sha256"
"""Key of a sealed JSON object that holds the SHA-256 of all its other keys."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checked(path: Path, sha256: str, remedy: str) -> bytes:
    """Return the content of a file whose SHA-256 is known.

    Args:
        path: the file.
        sha256: what its content should hash to, 64 hexadecimal digits.
        remedy: what to do when it doesn't, as an imperative: `restore it from a copy`.

    Raises:
        Damaged: it is missing, or holds something else.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Damaged(f"{path}: missing; expected a file with SHA-256 {sha256[:12]}…; {remedy}") from None
    check(path, hashlib.sha256(content).hexdigest(), sha256, remedy)
    return content


def check(path: Path, found: str, expected: str, remedy: str) -> None:
    """Compare the SHA-256 that a file has with the one that it should have.

    Raises:
        Damaged: they differ.
    """
    if found != expected:
        raise Damaged(f"{path}: damaged or changed: its SHA-256 is {found[:12]}…, expected {expected[:12]}…; {remedy}")


def seal_of(value: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object but for its seal; neither order of keys nor layout of the text count."""
    content = {key: item for key, item in value.items() if key != SEAL}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def sealed(value: Mapping[str, Any]) -> bytes:
    """Return an object as JSON text that ends with its own SHA-256, as `unsealed` checks it."""
    plain = json.loads(as_json({key: item for key, item in value.items() if key != SEAL}))
    return as_json({**plain, SEAL: seal_of(plain)})


def unsealed(content: bytes, path: Path, remedy: str) -> tuple[dict[str, Any], bool]:
    """Return the object that `sealed` wrote, without its seal, and whether it had one.

    Raises:
        Damaged: it is not JSON, not an object, or another one than was sealed.
    """
    value = parse_object(content, path, remedy)
    expected = value.pop(SEAL, None)
    if expected is not None:
        check(path, seal_of(value), str(expected), remedy)
    return value, expected is not None


def read_sealed(path: Path, remedy: str) -> dict[str, Any]:
    """Return the object that `sealed` wrote to a file, without its seal.

    Raises:
        Damaged: the file is missing, has no seal, or isn't what was sealed.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Damaged(f"{path}: missing; {remedy}") from None
    value, was_sealed = unsealed(content, path, remedy)
    if not was_sealed:
        raise Damaged(f"{path}: damaged or of an older version: it has no checksum; {remedy}")
    return value


def parse_object(content: bytes, path: Path, remedy: str) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        Damaged: it is not JSON (numbers of thousands of digits and very deep nesting included), or not an object.
    """
    try:
        value = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise Damaged(f"{path}: damaged: nested too deeply for JSON of Octavo's; {remedy}") from None
    except ValueError as error:
        reason = str(error).split("\n")[0][:120]
        raise Damaged(f"{path}: damaged: not JSON ({reason}); {remedy}") from None
    if not isinstance(value, dict):
        raise Damaged(f"{path}: damaged: expected a JSON object, found {type(value).__name__}; {remedy}")
    return value
