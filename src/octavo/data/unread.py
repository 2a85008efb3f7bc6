"""Files that lie among images and aren't read: counted by their endings, with a reason for those that are images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from octavo.data.formats import SUFFIXES, advice
from octavo.data.walk import entries_below, format_in, is_image, one_line

_SHOWN = 8
_TABLES = (".csv", ".tsv", ".jsonl")  # few of them are named
_NAMED = 3


def unread_below(folders: Sequence[Path], read: Collection[Path] = (), *, images: bool = True) -> str:
    """Return what in and below `folders` isn't read, in one line: `not read: 3 .heic (…), 2 .txt, 1 without ending`.

    Few tables are named: `1 .csv (licenses.csv)`. `read` are tables and lists that are read. Without `images`, files
    that are images by ending or first bytes don't count. The line is empty where everything is read.
    """
    counts: Counter[tuple[str, str]] = Counter()
    tables: dict[str, list[str]] = {}
    known = {path.resolve() for path in read}
    for folder in folders:
        for _, entry in entries_below(folder):
            if is_image(entry) or (known and Path(entry.path).resolve() in known):
                continue
            image = format_in(entry) or ""
            if images or not image:
                suffix = Path(entry.name).suffix.lower()
                counts[suffix, image] += 1
                if suffix in _TABLES:
                    tables.setdefault(suffix, []).append(entry.name)
    if not counts:
        return ""
    ordered = sorted(counts.items(), key=lambda item: (not item[0][1], -item[1], item[0]))  # images first
    texts = [_text(suffix, image, count, tables.get(suffix, [])) for (suffix, image), count in ordered]
    more = f", {len(texts) - _SHOWN} more endings" if len(texts) > _SHOWN else ""
    return one_line(f"not read: {', '.join(texts[:_SHOWN])}{more}")


def _text(suffix: str, image: str, count: int, tables: Sequence[str]) -> str:
    what = f"{count:,} {suffix or 'without ending'}"
    if not image:
        return f"{what} ({', '.join(tables)})" if 0 < len(tables) <= _NAMED else what
    if image not in SUFFIXES:
        return f"{what} ({advice(image)})"
    return f"{what} ({image} by first bytes; rename to end in {SUFFIXES[image][0]})"
