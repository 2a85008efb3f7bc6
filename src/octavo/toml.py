"""TOML files of a user's, refused in one line where they are larger or deeper than a person writes them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from octavo.errors import UserError, shortened

LARGEST = 4 * 2**20
"""Bytes of a file: more than a weight for each of 100,000 classes needs."""
_DEEPEST = 32
_PART = rb"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_TOO_DEEP = re.compile(rb"(?<![A-Za-z0-9_-])(?:%s){%d}" % (_PART, _DEEPEST))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        UserError: it can't be read, or isn't one.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"{path}: not a readable TOML file: {error}") from None
    return parse_toml(content, path)


def parse_toml(content: bytes, path: Path) -> dict[str, Any]:
    """Return the tables in the content of the file `path`.

    Raises:
        UserError: it isn't TOML, or larger or deeper than what people write.
    """
    if len(content) > LARGEST:
        raise UserError(f"{path}: too large; expected a TOML file of at most {LARGEST:,} bytes")
    # tomllib takes time with the square of a dotted key's depth: over a minute for 100 kB.
    if deep := _TOO_DEEP.search(content):
        line = content.count(b"\n", 0, deep.start()) + 1
        raise UserError(f"{path}: line {line}: a key of {_DEEPEST} parts or more; none is that deep")
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError:
        raise UserError(f"{path}: not a readable TOML file: nested too deeply") from None
    except ValueError as error:  # no UTF-8, no TOML, or a number of thousands of digits
        reason = shortened(str(error).split("\n")[0])
        raise UserError(f"{path}: not a readable TOML file: {reason}") from None
