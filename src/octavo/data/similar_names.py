"""Class names that may well be two ways of writing one: `cat` and `Cat`, `sea_lion` and `sea lion`, `1` and `1.0`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from octavo.data.walk import one_line

_SHOWN = 5


def similar_names(root: str, classes: Iterable[str]) -> tuple[str, ...]:
    """Return a warning, or none, of the classes whose names differ only in how they are written.

    That is in capitals, in spaces, underscores and hyphens between words, in characters that look alike or aren't
    shown, and of numbers in their zeros.
    """
    ways: dict[str, list[str]] = {}
    for name in classes:
        ways.setdefault(_plain(name), []).append(name)
    found = [names for names in ways.values() if len(names) > 1]
    if not found:
        return ()
    listed = "; ".join(" and ".join(f'"{name}"' for name in names) for names in found[:_SHOWN])
    more = "; …" if len(found) > _SHOWN else ""
    return (
        one_line(
            f"{root}: these names are classes of their own, but differ only in how they are written: {listed}{more}; "
            "where one is meant, write it in one way"
        ),
    )


def _plain(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold()
    text = "".join(mark for mark in text if unicodedata.category(mark) != "Cf").strip()
    if re.fullmatch(r"[+-]?\d+(\.\d*)?", text):
        sign, digits = ("-", text[1:]) if text[0] == "-" else ("", text.lstrip("+"))
        whole, _, part = digits.partition(".")
        part = part.rstrip("0")
        return f"{sign}{whole.lstrip('0') or '0'}{f'.{part}' if part else ''}"
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", " ", text)
