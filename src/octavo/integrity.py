"""SHA-256 checksums: of files, checked while they are read, and of JSON objects, which carry their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
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


@contextmanager
def hashing(path: Path) -> Iterator[Future[str]]:
    """Hash a file in a thread while the body reads it; its SHA-256 is there at the end of the body."""
    with ThreadPoolExecutor(1, "hash") as thread:
        yield thread.submit(sha256_of, path)


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
        raise Damaged(_missing(path, sha256, remedy)) from None
    check(path, hashlib.sha256(content).hexdigest(), sha256, remedy)
    return content


def check(path: Path, found: str, expected: str, remedy: str) -> None:
    """Compare the SHA-256 that a file has with the one that it should have.

    Raises:
        Damaged: they differ.
    """
    if found != expected:
        raise Damaged(f"{path}: damaged or changed: its SHA-256 is {found[:12]}…, expected {expected[:12]}…; {remedy}")


@contextmanager
def checking(path: Path, sha256: str | None, remedy: str) -> Iterator[None]:
    """Hash a file in a thread while the body reads it, and compare in the end; nothing is done if `sha256` is None.

    What the body read must not be used before its end. What it raises counts only of a file that is as it should be.

    Raises:
        Damaged: the file is missing, or holds something else.
    """
    if sha256 is None:
        yield
        return
    with ThreadPoolExecutor(1, "hash") as thread:
        found = thread.submit(_hash_of, path, sha256, remedy)
        try:
            yield
        except Exception:
            check(path, found.result(), sha256, remedy)
            raise
        check(path, found.result(), sha256, remedy)


def _hash_of(path: Path, sha256: str, remedy: str) -> str:
    try:
        return sha256_of(path)
    except FileNotFoundError:
        raise Damaged(_missing(path, sha256, remedy)) from None


def _missing(path: Path, sha256: str, remedy: str) -> str:
    return f"{path}: missing; expected a file with SHA-256 {sha256[:12]}…; {remedy}"


def seal_of(value: Mapping[str, Any], context: str = "") -> str:
    """Return the SHA-256 of a JSON object but for its seal; neither order of keys nor layout of the text count.

    Args:
        value: the object.
        context: what it belongs to, where the same object elsewhere is to have another seal.
    """
    content = {key: item for key, item in value.items() if key != SEAL}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    begin = f"{context}\0" if context else ""
    return hashlib.sha256(f"{begin}{text}".encode("utf-8", "surrogateescape")).hexdigest()


def sealed(value: Mapping[str, Any], context: str = "") -> bytes:
    """Return an object as JSON text that ends with its own SHA-256, as `unsealed` checks it; `context` as `seal_of`."""
    plain = json.loads(as_json({key: item for key, item in value.items() if key != SEAL}))
    return as_json({**plain, SEAL: seal_of(plain, context)})


def unsealed(content: bytes, path: Path, remedy: str, context: str = "") -> tuple[dict[str, Any], bool]:
    """Return the object that `sealed` wrote, without its seal, and whether it had one.

    Raises:
        Damaged: it is not JSON, not an object, or another one than was sealed in this context.
    """
    value = parse_object(content, path, remedy)
    expected = value.pop(SEAL, None)
    if expected is not None:
        check(path, seal_of(value, context), str(expected), remedy)
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
        raise Damaged(f"{path}: damaged: nested too deeply; {remedy}") from None
    except ValueError as error:
        reason = str(error).split("\n")[0][:120]
        raise Damaged(f"{path}: damaged: not JSON ({reason}); {remedy}") from None
    if not isinstance(value, dict):
        raise Damaged(f"{path}: damaged: expected a JSON object, found {type(value).__name__}; {remedy}")
    return value
