"""The page in a real browser: it asks for nothing, throws no error, and answers mouse, keyboard and narrow screens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octavo.looks.look import Look, Points, Shown, Table
from octavo.page.page import Fact, Headline, Page, Ranked, Ranking, Section, render
from octavo.run import ReportFile

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

EVIL = "<script>alert(1)</script>"
CLASSES = (EVIL, *(f"class {i}" for i in range(1, 12)))
COUNT = 48
NAMES = tuple(f'val/{i}"><img src=x onerror=alert(1)>.png' for i in range(COUNT))


def sprite() -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6 * 16, 8 * 16, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def points() -> Points:
    """A grid of points, far enough from each other to be met one by one."""
    truth = np.arange(COUNT) % len(CLASSES)
    predicted = truth.copy()
    predicted[7] = 0
    return Points(
        title="grid",
        x=tuple(float(i % 8) for i in range(COUNT)),
        y=tuple(float(i // 8) for i in range(COUNT)),
        truth=tuple(truth.tolist()),
        predicted=tuple(predicted.tolist()),
        confidence=(0.625,) * COUNT,
        names=NAMES,
        classes=CLASSES,
        thumbs="map.png",
        side=16,
        across=8,
    )


def page_text() -> str:
    wide = tuple(f"a column with number {i}" for i in range(14))
    rows = tuple((f"image {i}", (i * 7) % 20, None if i == 3 else i / 20, *(0.1,) * 11) for i in range(20))
    tables = (
        Table(title="short", columns=("name", "n", "share"), rows=tuple(row[:3] for row in rows[:12]),
              kinds=("text", "count", "share")),
        Table(title="wide", columns=wide, rows=rows, kinds=("text", "count", "share", *("number",) * 11)),
    )  # fmt: skip
    seen = Look(
        name="map",
        title="Map",
        sees="See " + EVIL,
        source="metrics.json",
        points=points(),
        shown=(Shown(file="a.png", caption="a picture", alt="noise"),),
        tables=tables,
        texts={"net": "x" * 400},
        warnings=("w" * 300,),
    )
    return render(
        Page(
            title=EVIL,
            lead="long" * 40,
            headlines=(Headline("accuracy", "77.2 %", "75 to 79 %", "rule", "details", (), "metrics.json"),),
            rankings=(Ranking("Best", (Ranked("a-very-long-class-name-without-any-space-in-it" * 2, 0.5, "50 %"),)),),
            facts=(Fact("data", "folder" * 20),),
            sections=(Section(seen, {"a.png": sprite()}, sprite()),),
        )
    )


@dataclass
class Watched:
    """A page in the browser with all that it said and asked for."""

    page: sync_api.Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_text(), encoding="utf-8")
    return path


@pytest.fixture
def watched(browser: sync_api.Browser, file: Path, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """The page, opened from disk at the size and scheme of the test's parameter; nothing may be said or asked for."""
    width, height, options = getattr(request, "param", (1280, 800, {}))
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    seen = Watched(context.new_page())
    seen.page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
    seen.page.on("pageerror", lambda error: seen.said.append(f"error: {error}"))
    seen.page.on("dialog", lambda dialog: (seen.said.append("error: a dialog"), dialog.dismiss()))
    seen.page.on("request", lambda asked: seen.asked.append(asked.url))
    seen.page.goto(file.as_uri())
    seen.page.wait_for_selector(".plot[data-ready]", timeout=20_000)
    yield seen
    context.close()
    assert [line for line in seen.said if line.startswith(("error", "warning"))] == []
    assert [url for url in seen.asked if not url.startswith("data:")] == [file.as_uri()]


AT = """place => {
  const document_ = Bokeh.documents[0], source = document_.get_model_by_name("points");
  const i = source.data.place.indexOf(place);
  const plot = document_.roots()[0], view = Bokeh.index.find_one(plot), frame = view.frame;
  const box = view.canvas.el.getBoundingClientRect();
  return [box.x + frame.x_scale.compute(source.data.x[i]), box.y + frame.y_scale.compute(source.data.y[i])];
}"""
LOOK = """place => {
  const data = Bokeh.documents[0].get_model_by_name("points").data, i = data.place.indexOf(place);
  return {colour: data.colour[i], alpha: data.alpha[i], shape: data.shape[i]};
}"""


def point(page: sync_api.Page, place: int) -> tuple[float, float]:
    page.locator(".plot").scroll_into_view_if_needed()
    x, y = page.evaluate(AT, place)
    return x, y


def test_a_point_shows_its_card(watched: Watched) -> None:
    page, card = watched.page, watched.page.locator(".card-of-point")
    assert card.is_hidden()
    for place, truth, predicted in ((9, "class 9", "class 9"), (7, "class 7", f"{EVIL} (wrong)")):
        page.mouse.move(*point(page, place), steps=3)
        card.wait_for(state="visible")
        assert card.locator(".name").text_content() == NAMES[place]
        assert card.locator(".truth").text_content() == truth
        assert card.locator(".predicted").text_content() == predicted
        assert card.locator(".confidence").text_content() == "62.5 %"
        style = card.locator(".thumb").evaluate(
            "e => [e.style.backgroundPosition, e.style.backgroundImage.slice(0, 15)]"
        )
        assert style == [f"{-(place % 8) * 112}px {-(place // 8) * 112}px", 'url("data:image']
        inside = card.evaluate(
            "e => { const a = e.getBoundingClientRect(), b = e.parentNode.getBoundingClientRect();"
            "return a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom }"
        )
        assert inside
    page.mouse.move(2, 2)
    card.wait_for(state="hidden")


def test_a_class_is_isolated_and_all_come_back(watched: Watched) -> None:
    page = watched.page
    assert page.locator(".classes .one").count() == 12
    wrong, right = page.evaluate(LOOK, 7), page.evaluate(LOOK, 2)
    assert (wrong["shape"], right["shape"]) == ("x", "circle")
    button = page.get_by_role("button", name="class 2", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert page.evaluate(LOOK, 2)["alpha"] > 0.5 > page.evaluate(LOOK, 3)["alpha"]
    assert page.evaluate(LOOK, 14) == page.evaluate(LOOK, 2)  # of the same class
    assert page.locator(".told").text_content() == "Shown in colour: class 2."
    page.mouse.move(*point(page, 3), steps=3)
    page.wait_for_timeout(100)
    assert page.locator(".card-of-point").is_hidden()  # faint ones keep quiet
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.evaluate(LOOK, 3)["alpha"] > 0.5


def test_ten_classes_have_colours_at_a_time(watched: Watched) -> None:
    page, buttons = watched.page, watched.page.locator(".classes .one")
    for i in range(11):
        buttons.nth(i).click()
    assert page.locator('.classes [aria-pressed="true"]').count() == 10
    assert buttons.nth(0).get_attribute("aria-pressed") == "false"  # the first made room for the last
    assert len({page.evaluate(LOOK, i)["colour"] for i in range(1, 11)}) == 10
    page.get_by_role("button", name="All classes").click()
    assert page.locator('.classes [aria-pressed="true"]').count() == 0


def column(page: sync_api.Page, place: int) -> list[str]:
    cells = page.locator("table").first.locator(f"tbody td:nth-child({place})")
    return [text.strip() for text in cells.all_text_contents()]


def test_a_table_sorts_by_mouse_and_keyboard(watched: Watched) -> None:
    page = watched.page
    headers = page.locator("table").first.locator("th")
    headers.nth(1).locator("button").click()
    counts = [int(text) for text in column(page, 2)]
    assert counts == sorted(counts) and headers.nth(1).get_attribute("aria-sort") == "ascending"
    headers.nth(2).locator("button").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    shares = column(page, 3)
    assert headers.nth(2).get_attribute("aria-sort") == "descending"
    assert headers.nth(1).get_attribute("aria-sort") is None
    assert shares[-1] == "–"  # what has no number comes last either way
    values = [float(text.removesuffix("\N{NO-BREAK SPACE}%")) for text in shares[:-1]]
    assert values == sorted(values, reverse=True)
    headers.nth(0).locator("button").click()
    assert column(page, 1)[:3] == ["image 0", "image 1", "image 2"] and column(page, 1)[-1] == "image 11"


def test_a_picture_opens_and_escape_closes_it(watched: Watched) -> None:
    page, dialog = watched.page, watched.page.locator("dialog")
    page.get_by_role("button", name="Enlarge: noise").click()
    assert dialog.is_visible() and dialog.locator("img").evaluate("e => e.naturalWidth") == 128
    assert dialog.locator("p").text_content() == "a picture"
    page.keyboard.press("Escape")
    assert dialog.is_hidden()


@pytest.mark.parametrize(
    "watched", [(400, 800, {}), (640, 800, {}), (1000, 800, {}), (1280, 800, {}), (1600, 900, {})], indirect=True
)
def test_nothing_is_wider_than_the_window(watched: Watched) -> None:
    page = watched.page
    for details in page.locator("details").all():
        details.evaluate("e => { e.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    cut = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre, .plot, .bar, .name')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert cut == []
    sizes = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => e.childNodes.length && e.offsetParent)"
        ".map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 13.9


@pytest.mark.parametrize("watched", [(400, 800, {"has_touch": True})], indirect=True)
def test_a_finger_shows_the_card_too(watched: Watched) -> None:
    page, card = watched.page, watched.page.locator(".card-of-point")
    page.touchscreen.tap(*point(page, 20))
    card.wait_for(state="visible")
    assert card.locator(".name").text_content() == NAMES[20]


@pytest.mark.parametrize("watched", [(1280, 800, {"color_scheme": "dark"})], indirect=True)
def test_dark_is_dark_and_pictures_stay_on_white(watched: Watched) -> None:
    page = watched.page
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert page.evaluate("getComputedStyle(document.querySelector('.picture')).backgroundColor") == "rgb(255, 255, 255)"


def test_paper_opens_tables_and_hides_what_is_clicked(watched: Watched) -> None:
    page = watched.page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details.rows").evaluate("e => e.open")
    assert page.locator(".contents").is_hidden() and page.locator(".classes").is_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.locator("details.rows").evaluate("e => e.open")


def test_the_notebooks_frame_works_too(browser: sync_api.Browser, file: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.set_content(ReportFile(file)._repr_html_())
    page.frame_locator("iframe").locator(".plot[data-ready]").wait_for(timeout=20_000)
    context.close()
    assert said == []
