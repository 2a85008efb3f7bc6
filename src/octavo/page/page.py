"""What a page says, and the page itself as HTML."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from octavo.looks.look import Look
from octavo.overwrite import beginning_with
from octavo.page.cells import Column, columns_of
from octavo.page.inline import inlined
from octavo.page.scatter import as_json, bokeh, plane

PAGE = beginning_with("page of a report", b'<meta name="generator" content="Octavo">', 200)
"""The kind of file that a page is."""
ROOM = 10 * 2**20
"""Bytes that a page may have."""
LONG = 15
"""Rows from which on a table is folded until it is opened."""
_TEXT = 2**18  # bytes left for what is neither picture nor plot


@dataclass(frozen=True)
class Fact:
    """Something that the first screen says of what was made of what: `label`, such as "data", and `text`."""

    label: str
    text: str


@dataclass(frozen=True)
class Headline:
    """A number to quote, in words.

    Attributes:
        label: what was measured of what.
        value: the number as it is to be read, such as `65.3 %`.
        interval: how sure it is, such as `95 % interval: 63.4 to 67.2 %`.
        rule: the sentence that defines it.
        details: all about how it was made; folded.
        beside: what to compare it with, a sentence each.
        source: where the number lies, from the page's folder.
    """

    label: str
    value: str
    interval: str
    rule: str
    details: str = ""
    beside: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Ranked:
    """One line of a ranking: a name, its number from 0 to 1 (for a bar), and how it and its interval are written."""

    name: str
    share: float
    value: str
    interval: str = ""


@dataclass(frozen=True)
class Ranking:
    """A few named numbers in order, such as the best classes."""

    title: str
    rows: tuple[Ranked, ...]


@dataclass(frozen=True, eq=False)
class Section:
    """A look and the files it shows.

    Attributes:
        look: what was found.
        pictures: `Shown.file` → the bytes of a PNG or SVG file; a picture that isn't here is said to be missing.
        thumbs: the bytes of the file `Points.thumbs`; None where it is missing.
    """

    look: Look
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    thumbs: bytes | None = None


@dataclass(frozen=True, eq=False)
class Page:
    """What a page says; all text is plain and is escaped.

    Attributes:
        title: of the page, such as the run's name.
        kind: the line above it, such as `Octavo report`.
        lead: a sentence that says what was trained on what.
        headlines: the numbers to quote, one or one a run.
        rankings: such as the best and the worst classes.
        facts: what was made of what.
        warnings: what a reader must know first, a sentence each; those of the looks are added by `render`.
        checked: what was looked for and not found, a phrase each, such as `no broken files`.
        notes: what the page lacks and how to get it.
        sections: the rest of the page, in this order.
    """

    title: str
    kind: str = "Octavo report"
    lead: str = ""
    headlines: tuple[Headline, ...] = ()
    rankings: tuple[Ranking, ...] = ()
    facts: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class Warned:
    """A warning of the first screen, and the section that it came from, if any."""

    text: str
    anchor: str = ""
    title: str = ""


def render(page: Page, room: int = ROOM) -> str:
    """Return a page as HTML: one file that loads nothing, of at most `room` bytes as far as its pictures can shrink."""
    styles, scripts = [_own("page.css")], [_own("page.js")]
    if any(section.look.points for section in page.sections):
        scripts = [bokeh(), *scripts, _own("scatter.js")]
    used = sum(len(text.encode()) for text in (*styles, *scripts)) + _TEXT
    uris = inlined(_pictures(page), room - used - _words(page))
    return _environment().get_template("page.html.j2").render(
        page=page,
        warnings=_warnings(page),
        sections=[_section(section, uris) for section in page.sections],
        styles=[Markup(text) for text in styles],
        scripts=[Markup(text) for text in scripts],
        policy=_policy(scripts),
        long=LONG,
    )  # fmt: skip


def _words(page: Page) -> int:
    """Return about how many bytes the page's tables, texts and points take."""
    return sum(2 * len(section.look.model_dump_json()) for section in page.sections)


def _pictures(page: Page) -> dict[tuple[str, str], bytes]:
    """Return all pictures by the section's name and the file's."""
    found = {(s.look.name, file): content for s in page.sections for file, content in s.pictures.items()}
    sprites = {(s.look.name, s.look.points.thumbs): s.thumbs for s in page.sections if s.look.points and s.thumbs}
    return found | sprites


def _section(section: Section, uris: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Return what the template needs of a section."""
    look = section.look
    points = look.points
    return {
        "look": look,
        "anchor": _anchor(look),
        "shown": [(shown, uris.get((look.name, shown.file), "")) for shown in look.shown],
        "tables": [(table, *_rows(columns_of(table))) for table in look.tables],
        "points": points and {**plane(points), "thumbs": uris.get((look.name, points.thumbs), "")},
    }


def _rows(columns: tuple[Column, ...]) -> tuple[tuple[Column, ...], Iterator[tuple[tuple[str, str], ...]]]:
    return columns, zip(*(column.cells for column in columns), strict=True)


def _warnings(page: Page) -> list[Warned]:
    """Return the page's own warnings and then those of its looks, each once."""
    own = [Warned(text) for text in dict.fromkeys(page.warnings)]
    theirs = [Warned(text, _anchor(s.look), s.look.title) for s in page.sections for text in s.look.warnings]
    first = {warned.text: warned for warned in reversed([*own, *theirs])}
    return list(reversed(first.values()))


def _anchor(look: Look) -> str:
    return f"look-{look.name}"


def _policy(scripts: list[str]) -> str:
    """Return a content security policy: these scripts and no other, pictures from the page, and no request at all."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _own(name: str) -> str:
    """Return a text file that lies beside this module."""
    return (files("octavo.page") / name).read_text(encoding="utf-8")


def _unbroken(value: object) -> object:
    """Keep a percent sign on the line of its number."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", value)


@cache
def _environment() -> Environment:
    loader = PackageLoader("octavo", "page")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, finalize=_unbroken)  # fmt: skip
    environment.filters["link"] = lambda path: quote(path, safe="/")
    environment.filters["json"] = lambda value: Markup(as_json(value))
    return environment
