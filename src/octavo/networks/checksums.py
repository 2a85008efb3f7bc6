"""Checksums of weights files: SHA256SUMS beside them, their own NAME.sha256, or digits in torchvision's names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import torchvision

from octavo.errors import Damaged
from octavo.files import write_atomic

SUMS = "SHA256SUMS"
"""Name of the list of hashes in a packed folder, in the form of the `sha256sum` tool."""
_OWN = ".sha256"  # behind the name of a file that is alone, in the same form
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *]?(\S.*)")


@dataclass(frozen=True)
class Expected:
    """What a weights file should be: the first digits of its SHA-256 (all 64 or fewer), who says so, what to do."""

    digits: str
    source: str
    remedy: str


def expected(path: Path) -> Expected | None:
    """Return what a weights file should be; None where nothing says so.

    Raises:
        Damaged: what lies beside it and should say so can't be read.
    """
    again = f"copy {path.parent} again, or collect it again by octavo weights pack"
    if (digest := sums_of(path.parent).get(path.name)) is not None:
        return Expected(digest, SUMS, again)
    own = path.with_name(path.name + _OWN)
    if own.is_file():
        digest = _parsed(own, "delete it and the file beside it, which is then downloaded again").get(path.name)
        if digest is None:
            raise Damaged(f"{own}: damaged: says nothing of {path.name}; delete both, and it is downloaded again")
        return Expected(digest, own.name, "delete both, and it is downloaded again")
    if path.name in published():
        return Expected(digits_of(path.name), "its name", "delete it, and it is downloaded again")
    return None


def require_as_expected(path: Path, sha256: str) -> None:
    """Compare the SHA-256 that a weights file has with what it should be, where anything says so.

    Raises:
        Damaged: they differ.
    """
    wanted = expected(path)
    if wanted is not None and not sha256.startswith(wanted.digits):
        raise Damaged(
            f"{path}: damaged or changed: its SHA-256 is {sha256[:12]}…, expected {wanted.digits[:12]}… by "
            f"{wanted.source}; {wanted.remedy}"
        )


def sums_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that a folder's SHA256SUMS lists, by name; nothing where there is none.

    Raises:
        Damaged: it isn't such a list, or names a file outside of the folder.
    """
    if not (folder / SUMS).is_file():
        return {}
    return _parsed(folder / SUMS, "copy the folder again, or delete this list and go without its checks")


def write_sums(folder: Path, sums: dict[str, str]) -> None:
    """Write a folder's SHA256SUMS."""
    write_atomic(folder / SUMS, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())


def note_own(path: Path, sha256: str) -> None:
    """Note beside a file, in NAME.sha256, what it should be."""
    write_atomic(path.with_name(path.name + _OWN), f"{sha256}  {path.name}\n".encode())


def digits_of(file_name: str) -> str:
    """Return the first digits of the SHA-256 that a torchvision file carries in its name, or an empty string."""
    found = re.search(r"-([0-9a-f]{8,64})\.pth$", file_name)
    return found[1] if found else ""


@cache
def published() -> frozenset[str]:
    """Return the names of all weights files that torchvision publishes with digits: those of others may be dates."""
    models = torchvision.models
    names = (w.url.rsplit("/", 1)[1] for name in models.list_models() for w in models.get_model_weights(name))
    return frozenset(name for name in names if digits_of(name))


def _parsed(path: Path, remedy: str) -> dict[str, str]:
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise Damaged(f"{path}: damaged: not text in UTF-8; {remedy}") from None
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        if found is None or not found[2].isprintable():
            raise Damaged(f"{path}: line {number}: expected a SHA-256 of 64 digits and a file name; {remedy}")
        name = PurePosixPath(found[2].replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or name.parts[0].endswith(":"):
            raise Damaged(f"{path}: line {number}: names a file outside of the folder ({found[2][:80]}); {remedy}")
        if sums.setdefault(str(name), found[1].lower()) != found[1].lower():
            raise Damaged(f"{path}: line {number}: lists {str(name)[:80]} with another SHA-256 than before; {remedy}")
    return sums
