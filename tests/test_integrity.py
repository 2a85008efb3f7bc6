"""Checksums: every change of a sealed object or of a hashed file is found, and told in one line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import Damaged
from octavo.integrity import SEAL, read_checked, seal_of, sealed, sha256_of, unsealed

REMEDY = "restore it from a copy"
VALUES: dict[str, Any] = {"name": "é\udcff", "list": [1, 2.5, None, True], "nested": {"b": -0.0, "a": ""}}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)


def test_the_hash_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    assert sha256_of(path) == hashlib.sha256(b"content").hexdigest()
    assert read_checked(path, sha256_of(path), REMEDY) == b"content"


@pytest.mark.parametrize("content", [b"", b"contenu", b"content "])
def test_a_changed_file_names_itself_and_what_to_do(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(Damaged, match=rf"a: damaged or changed: .*expected .*; {REMEDY}"):
        read_checked(path, hashlib.sha256(b"content").hexdigest(), REMEDY)


def test_a_missing_file_is_damage_too(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="missing; expected a file with SHA-256 0000"):
        read_checked(tmp_path / "a", "0" * 64, REMEDY)


@given(st.dictionaries(st.text(max_size=6), SCALARS | st.lists(SCALARS, max_size=4), max_size=5))
def test_what_is_sealed_comes_back(value: dict[str, Any]) -> None:
    value.pop(SEAL, None)
    assert unsealed(sealed(value), Path("a.json"), REMEDY) == (json.loads(json.dumps(value)), True)


def test_the_seal_is_the_hash_of_sorted_compact_json() -> None:
    text = json.dumps(VALUES, sort_keys=True, separators=(",", ":"))
    assert seal_of(VALUES) == hashlib.sha256(text.encode()).hexdigest()


def test_an_object_without_seal_says_so() -> None:
    assert unsealed(b'{"a": 1}', Path("a.json"), REMEDY) == ({"a": 1}, False)


def test_every_flipped_bit_is_found_or_changes_nothing() -> None:
    content = sealed(VALUES)
    silent = 0
    for place in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            try:
                found, had = unsealed(bytes(flipped), Path("a.json"), REMEDY)
            except Damaged:
                continue
            # What is left: another blank between two tokens, or the seal's own key, which its reader refuses.
            assert found == VALUES or (not had and found.keys() - VALUES.keys())
            silent += found == VALUES
    assert silent < len(content)  # of eight times as many


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "expected a JSON object, found list"),
        (b"3", "expected a JSON object, found int"),
        (b"\xff", "not JSON"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "not JSON"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b'{"a": 1', "not JSON"),
    ],
)
def test_what_is_no_object_is_damage_in_one_line(content: bytes, reason: str) -> None:
    with pytest.raises(Damaged, match=rf"^a\.json: damaged: {reason}.*; {REMEDY}$") as caught:
        unsealed(content, Path("a.json"), REMEDY)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
