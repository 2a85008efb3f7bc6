"""TOML files of a user's: what no person writes is refused at once, in one short line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from octavo.data.classes import load_table
from octavo.errors import UserError
from octavo.recipe import load
from octavo.toml import LARGEST, parse_toml

HOSTILE = {
    "a dotted key": b"a." * 50_000 + b"a = 1",
    "a dotted key in an inline table": b"x = {" + b"a ." * 50_000 + b"a = 1}",
    "quoted parts": b'"a".' * 30_000 + b"a = 1",
    "a header": b"[" + b"a." * 50_000 + b"a]",
    "brackets": b"a = " + b"[" * 50_000,
    "braces": b"a = " + b"{a = " * 50_000,
    "a long number": b"seed = " + b"1" * 10_000,
    "JSON's list": b"[]",
    "JSON's object": b"{}",
    "no text": b"\xff\xfe",
    "too large": b"#" * (LARGEST + 1),
    "a long word": b"a" * 1_000_000,
    "a long key": b"a" * 100_000 + b" = 1",
    "many keys": b"".join(b"k%d = 1\n" % i for i in range(3_000)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_recipe_is_refused_at_once(content: bytes, tmp_path: Path) -> None:
    path, start = tmp_path / "mine.toml", time.process_time()
    path.write_bytes(content)
    for read in (load, load_table):
        with pytest.raises(UserError) as caught:
            read(path)
        lines = str(caught.value).splitlines()
        assert lines[0].startswith(str(path)) and len(lines) < 40 and max(map(len, lines)) < len(str(path)) + 400
    assert time.process_time() - start < 5


def test_keys_as_deep_as_people_write_are_read() -> None:
    assert parse_toml(b'a.b.c."d.e" = "1.2.3.4.5.6.7.8.9"', Path("x.toml")) == {
        "a": {"b": {"c": {"d.e": "1.2.3.4.5.6.7.8.9"}}}
    }
