"""Counts in words."""

from __future__ import annotations

import pytest

from octavo.words import counted


@pytest.mark.parametrize(
    ("count", "noun", "words"),
    [
        (0, "file", "0 files"),
        (1, "file", "1 file"),
        (2, "file", "2 files"),
        (1, "class", "1 class"),
        (12, "class", "12 classes"),
        (2500, "image", "2,500 images"),
        (2, "box", "2 boxes"),
        (3, "branch", "3 branches"),
    ],
)
def test_a_noun_follows_its_count(count: int, noun: str, words: str) -> None:
    assert counted(count, noun) == words


def test_an_irregular_plural_is_given() -> None:
    assert [counted(n, "is", "are") for n in (1, 2)] == ["1 is", "2 are"]
