"""Contact sheets and heat maps, looked at by their pixels and by where their text lies."""

from __future__ import annotations

import io
from itertools import combinations

import matplotlib.image
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from octavo.pictures.heat import HeatCell, HeatRow, heat_table, overlay
from octavo.pictures.sheets import SIDE, Tile, contact_sheet, enlarged, fitted
from octavo.pictures.style import drawn

DRAW = np.random.default_rng(0)
LONG = "WWWWWWWWWWWWWWWWWWWWW the $longest$ name of a class_that_there_is"


def picture(height: int, width: int) -> np.ndarray:
    return DRAW.integers(0, 256, (height, width, 3), np.uint8)


def tile(height: int = 32, width: int = 32, name: str = "tarantula") -> Tile:
    return Tile(picture(height, width), ("true ", name, ""), ("→ ", name, ", 97 %"))


def boxes(figure: Figure) -> tuple[list[Bbox], list[Bbox]]:
    """Where texts and pictures lie, in pixels; a square without a picture in it counts as nothing."""
    FigureCanvasAgg(figure).draw()
    texts = [text.get_window_extent() for text in figure.texts if text.get_text()]
    return texts, [axes.get_window_extent() for axes in figure.axes]


def overlapping(boxes: list[Bbox]) -> int:
    """How many pairs share more than a pixel's width."""
    shared = [Bbox.intersection(a, b) for a, b in combinations(boxes, 2)]
    return sum(both is not None and both.width > 1 and both.height > 1 for both in shared)


@pytest.mark.parametrize("count", [1, 5, 24])
def test_long_names_and_odd_shapes_overlap_nowhere_and_stay_on_the_sheet(count: int) -> None:
    shapes = [(32, 32), (8, 8), (3, 500), (500, 3), (64, 300), (1, 1)]
    figure = contact_sheet([tile(*shapes[i % 6], name=LONG) for i in range(count)])
    texts, pictures = boxes(figure)
    assert len(pictures) == count and len(texts) == 3 * count
    assert overlapping([*texts, *pictures]) == 0
    wide, tall = figure.get_size_inches() * figure.dpi
    assert wide <= 11.1 * figure.dpi
    for box in texts:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= wide + 2 and box.y1 <= tall + 2
    assert min(text.get_fontsize() for text in figure.texts) >= 8


def test_captions_keep_what_stands_around_a_name_and_have_a_number() -> None:
    figure = contact_sheet([tile(name="cat"), tile(name=LONG)])
    assert [text.get_text() for text in figure.texts][:3] == ["1", "true cat", "→ cat, 97 %"]
    second = [text.get_text() for text in figure.texts][3:]
    assert second[0] == "2" and second[1].startswith("true WW") and "…" in second[1]
    assert second[2].startswith("→ WW") and second[2].endswith(", 97 %") and "…" in second[2]


def test_images_keep_their_shape_and_their_pixels() -> None:
    red = np.zeros((20, 60, 3), np.uint8)
    red[:, :, 0] = 255
    found = matplotlib.image.imread(io.BytesIO(drawn(contact_sheet([Tile(red, ("", "a", ""), ("", "b", ""))]))))
    rows, columns = np.nonzero((found[..., 0] > 0.9) & (found[..., 1] < 0.1))
    tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert wide == pytest.approx(SIDE * 130, abs=3) and wide / tall == pytest.approx(3, rel=0.05)


def test_tiny_images_become_blocks_and_others_are_smooth() -> None:
    tiny = picture(8, 8)
    np.testing.assert_array_equal(enlarged(tiny, 320), tiny.repeat(40, 0).repeat(40, 1))
    ramp = np.repeat(np.arange(0, 250, 8, dtype=np.uint8)[None, :, None], 32, 0).repeat(3, 2)
    steps = np.diff(enlarged(ramp, 320)[0, :, 0].astype(int))
    assert steps.max() <= 2 and (steps >= 0).all()  # a ramp stays one: no steps of 8 as in blocks
    assert enlarged(picture(100, 1000), 320).shape == (32, 320, 3)
    assert enlarged(picture(1, 5000), 320).shape == (1, 320, 3)


def test_a_line_is_shortened_only_where_it_must_be() -> None:
    assert fitted(("true ", "short", "!"), 2, 8) == "true short!"
    found = fitted(("true ", LONG, "!"), 1.5, 8)
    assert "…" in found and len(found) < len(LONG)
    wider = fitted(("true ", LONG, "!"), 2.5, 8)
    assert len(found) < len(wider) < len(LONG)
    assert fitted(("", "", ""), 1, 8) == ""
    assert fitted(("", "日本語の名前" * 20, ""), 1, 8).count("…") == 1  # letters that the font lacks


def test_sheets_without_images_are_refused() -> None:
    with pytest.raises(ValueError, match="expected images"):
        contact_sheet([])
    with pytest.raises(ValueError, match="at least one in a row"):
        contact_sheet([tile()], across=0)


def test_heat_is_yellow_where_it_is_highest_and_leaves_the_image_visible() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[0, 3] = 7
    found = overlay(np.full((32, 32, 3), 128, np.uint8), heat, 320).astype(int)
    low, high = (np.array(colormaps["viridis"](v)[:3]) * 255 for v in (0.0, 1.0))
    np.testing.assert_allclose(found[-1, 0], 0.6 * low + 0.4 * 128, atol=2)
    np.testing.assert_allclose(found[0, -1], 0.6 * high + 0.4 * 128, atol=2)
    np.testing.assert_array_equal(found, overlay(np.full((32, 32, 3), 128, np.uint8), heat * 9, 320))
    half = np.concatenate([np.zeros((32, 16, 3), np.uint8), np.full((32, 16, 3), 255, np.uint8)], 1)
    none = overlay(half, np.zeros((4, 4), np.float32), 64).astype(int)
    np.testing.assert_allclose(none[0, -1] - none[0, 0], 0.4 * 255, atol=2)


@pytest.mark.parametrize("members", [1, 3, 8])
@pytest.mark.parametrize("rows", [1, 8])
def test_a_table_of_heat_fits_and_says_where_there_is_none(members: int, rows: int) -> None:
    cells = [HeatCell(picture(32, 32), DRAW.random((2, 2)), "97 %") for _ in range(members - 1)]
    cells.append(HeatCell(picture(32, 32), None, "3 %"))
    lines = ("a_file_with_a_very_long_name_indeed.png", f"true: {LONG}", f"→ {LONG}", "97 %, wrong")
    table = [HeatRow(lines, picture(20, 60), tuple(cells))] * rows
    figure = heat_table(table, [f"resnext101_32x8d_{i}" for i in range(members)])
    texts, pictures = boxes(figure)
    assert overlapping([*texts, *pictures]) == 0
    wide, tall = figure.get_size_inches() * figure.dpi
    assert wide <= 11 * figure.dpi
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= wide + 1 and b.y1 <= tall + 1 for b in texts)
    shown = [text.get_text() for text in figure.texts]
    assert shown.count("no spatial\nmap") == rows and shown[0] == "original"
    assert len(figure.axes) == rows * members + 1  # the original, maps but one, and one legend
    assert "highest value" in figure.axes[-1].get_xlabel()
    assert min(text.get_fontsize() for text in figure.texts) >= 8


def test_a_table_of_heat_needs_a_cell_a_network() -> None:
    with pytest.raises(ValueError, match="rows of 2 cells"):
        heat_table([HeatRow(("a",), picture(8, 8), (HeatCell(picture(8, 8), None),))], ["a", "b"])
    with pytest.raises(ValueError, match="rows of 1 cells"):
        heat_table([], ["a"])
