"""The page: everything in one file, all text as text, tables and pictures as they should be read."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octavo.looks.look import Look, Points, Shown, Table
from octavo.page.cells import columns_of, number, percent, written
from octavo.page.inline import inlined
from octavo.page.page import Fact, Headline, Page, Ranked, Ranking, Section, render
from octavo.page.scatter import as_json

EVIL = "</script><script>alert(1)</script>"
EVIL_FILE = 'val/"><img src=x onerror=alert(1)>\u2028.png'


def picture(side: int = 60, form: str = "PNG", seed: int = 0) -> bytes:
    """A photograph, as far as its many colours go."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    buffer = BytesIO()
    Image.fromarray(noise).save(buffer, form)
    return buffer.getvalue()


def drawing(side: int = 900) -> bytes:
    """A figure: few colours."""
    pixels = np.full((side, side, 4), 255, np.uint8)
    pixels[::7, ::3, :3] = np.arange(pixels[::7, ::3].shape[1])[None, :, None] % 200
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def points(count: int = 40, classes: int = 12) -> Points:
    draw = np.random.default_rng(0)
    truth = np.arange(count) % classes
    return Points(
        title="map of " + EVIL,
        x=tuple(draw.normal(size=count)),
        y=tuple(draw.normal(size=count)),
        truth=tuple(truth.tolist()),
        predicted=tuple(((truth + (np.arange(count) % 5 == 0)) % classes).tolist()),
        confidence=tuple(draw.random(count)),
        names=tuple(f"{i}{EVIL_FILE}" for i in range(count)),
        classes=(EVIL, *(f"class {i}" for i in range(1, classes))),
        thumbs="map.png",
        side=12,
        across=8,
    )


def look(name: str = "map", **more: object) -> Look:
    return Look.model_validate(
        {"name": name, "title": f"Map {EVIL}", "sees": EVIL, "source": "predictions/a b.csv"} | more
    )


def whole() -> Page:
    table = Table(title=EVIL, columns=("class " + EVIL, "share"), rows=((EVIL_FILE, 0.5),), kinds=("text", "share"))
    shown = Shown(file="a.png", caption=EVIL, alt=EVIL_FILE)
    evil = look(points=points(), tables=(table,), shown=(shown,), texts={EVIL: EVIL}, warnings=(EVIL,))
    return Page(
        title=EVIL,
        lead=EVIL,
        headlines=(Headline(EVIL, EVIL, EVIL, EVIL, EVIL, (EVIL,), "metrics.json"),),
        rankings=(Ranking(EVIL, (Ranked(EVIL_FILE, 0.5, EVIL, EVIL),)),),
        facts=(Fact(EVIL, EVIL),),
        warnings=("one " + EVIL,),
        checked=(EVIL,),
        notes=(EVIL,),
        sections=(Section(evil, {"a.png": picture()}, picture(96)),),
    )


class Elements(HTMLParser):
    """What a browser's parser makes of a page: the elements with their attributes, and the text of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script":
            self.scripts.append(data)


def test_names_stay_text() -> None:
    html = render(whole())
    elements = Elements(html)
    tags = [tag for tag, _ in elements.found]
    assert tags.count("script") == 4  # Bokeh, the page's two, and the points' data
    assert [attributes for tag, attributes in elements.found if tag == "img" and "onerror" in attributes] == []
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert EVIL not in html and "<img src=x" not in html
    data = json.loads(next(text for text in elements.scripts if text.startswith("{")))
    assert data["classes"][0] == EVIL  # and yet they are all there
    assert data["names"][3] == f"3{EVIL_FILE}"
    assert EVIL not in json.dumps(data["item"]) and "class 1" not in json.dumps(data["item"])


def test_json_in_a_script_can_not_end_it() -> None:
    text = as_json({"a": "<!--<script>&amp;\u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "<!--<script>&amp;\u2028"}


def test_a_page_loads_nothing() -> None:
    elements = Elements(render(whole()))
    for tag, attributes in elements.found:
        if tag in ("img", "link", "script", "iframe", "source"):
            for name in ("src", "href"):
                assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
        if tag == "a":
            assert attributes["href"] in ("#top", "#content", "#look-map", "metrics.json", "predictions/a%20b.csv")
    policy = next(attributes["content"] for tag, attributes in elements.found if "http-equiv" in attributes)
    assert policy and "default-src 'none'" in policy and "unsafe-eval" not in policy
    assert re.search(r"script-src ('sha256-[^']+' ?){3};", policy)


def test_bokeh_comes_only_with_points() -> None:
    bare = Page(title="a", sections=(Section(look(), {}),))
    assert len(render(bare)) < 60_000
    assert len(render(whole())) > 1_000_000


def test_a_source_with_a_scheme_is_no_link_out() -> None:
    html = render(
        Page(
            title="a",
            sections=(Section(look(source="javascript:alert(1)")), Section(look("b", source="m/*"))),
        )
    )
    assert 'href="javascript%3Aalert%281%29"' in html
    assert "m/*" in html and 'href="m/' not in html


def test_long_tables_are_folded_and_short_ones_are_not() -> None:
    def table(rows: int) -> Table:
        return Table(title=f"of {rows}", columns=("n",), rows=tuple((i,) for i in range(rows)), kinds=("count",))

    html = render(Page(title="a", sections=(Section(look(tables=(table(15), table(16)))),)))
    assert "<h3>of 15</h3>" in html
    assert "<summary>of 16 <small>(16 rows)</small></summary>" in html


def test_warnings_of_looks_come_to_the_first_screen_once() -> None:
    sections = (Section(look(warnings=("careful", "its page's"))), Section(look("b", warnings=("careful",))))
    html = render(Page(title="a", warnings=("its page's",), sections=sections))
    first = html[: html.index("</header>")]
    assert first.count("careful") == 1 and first.count("its page&#39;s") == 1
    assert "What is wrong" in first and 'href="#look-map"' in first


def test_a_page_without_warnings_says_what_was_checked() -> None:
    html = render(Page(title="a", checked=("no broken files", "no twins")))
    assert "Nothing found wrong" in html
    assert "no broken files; no twins." in html


def test_a_percent_sign_stays_on_the_line_of_its_number() -> None:
    page = render(Page(title="a", lead="It is 12.3 % of 45 % and a %."))
    assert "It is 12.3\N{NO-BREAK SPACE}% of 45\N{NO-BREAK SPACE}% and a %." in page


def test_a_missing_picture_is_named() -> None:
    html = render(Page(title="a", sections=(Section(look(shown=(Shown(file="x.png", caption="c", alt="a"),))),)))
    assert "The picture x.png is missing" in html


def test_styles_know_dark_paper_and_motion() -> None:
    html = render(Page(title="a"))
    for query in ("prefers-color-scheme: dark", "@media print", "prefers-reduced-motion", "color-scheme"):
        assert query in html
    style = (Path(__file__).parents[1] / "src/octavo/page/page.css").read_text()
    sizes = [16 * float(rem) for rem in re.findall(r"font-size: ([\d.]+)rem", style)]
    assert min(sizes) >= 14 and "url(" not in style


@pytest.mark.parametrize(
    ("cell", "kind", "text"),
    [
        ("a", "text", "a"),
        (None, "share", "–"),
        (12345, "count", "12,345"),
        (0.12345, "share", "12.3 %"),
        (-0.02, "share", "−2.0 %"),
        (0.5, "number", "0.5000"),
        (-12.345, "number", "−12.35"),
        (12345.6, "number", "12,346"),
        (1e-6, "number", "1e-06"),
        (0, "number", "0.0000"),
        (7, "text", "7"),
    ],
)
def test_cells_are_written_by_kind(cell: str | float | None, kind: str, text: str) -> None:
    assert written(cell, kind) == text


def test_columns_sort_by_their_values() -> None:
    table = Table(title="t", columns=("a", "b"), rows=(("x", 0.25), ("y", None)), kinds=("text", "share"))
    first, second = columns_of(table)
    assert first.cells == (("x", "x"), ("y", "y"))
    assert second.cells == (("25.0 %", "0.25"), ("–", ""))
    assert number(0.1) == "0.1000" and percent(1) == "100.0 %"


def opened(uri: str) -> Image.Image:
    import base64

    return Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_drawings_stay_sharp_and_shrink() -> None:
    content = drawing()
    uri = inlined({"a": content}, 10**7)["a"]
    assert uri.startswith("data:image/png") and len(uri) < len(content) / 3
    image = opened(uri).convert("RGB")
    with Image.open(BytesIO(content)) as before:
        assert image.size == before.size
        assert np.abs(np.asarray(image, int) - np.asarray(before.convert("RGB"), int)).max() <= 3


def test_photographs_fit_into_the_room() -> None:
    pictures = {i: picture(700, seed=i) for i in range(4)}
    free = inlined(pictures, 10**8)
    assert all(uri.startswith("data:image/webp") for uri in free.values())
    assert opened(free[0]).size == (700, 700)
    tight = sum(map(len, free.values())) // 3
    assert sum(map(len, inlined(pictures, tight).values())) <= tight


def test_small_pictures_and_svg_are_taken_as_they_are() -> None:
    import base64

    svg = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>"
    found = inlined({"s": svg, "p": picture(20)}, 10**6)
    assert found["s"] == "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    assert base64.b64decode(found["p"].partition(",")[2]) == picture(20)


def test_a_heavy_page_stays_below_its_room() -> None:
    shown = tuple(Shown(file=f"{i}.png", caption="c", alt="a") for i in range(4))
    heavy = Section(look(shown=shown, points=points()), {s.file: picture(700, seed=1) for s in shown}, picture(700))
    page, room = Page(title="a", sections=(heavy,)), 3 * 2**20
    assert len(render(page)) > room
    assert len(render(page, room).encode()) <= room
