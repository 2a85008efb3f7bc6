"""A plot that answers the mouse, as data for Bokeh; the names of files and classes stay out of Bokeh's hands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.plotting import figure
from bokeh.resources import Resources

from octavo.looks.look import Points
from octavo.pictures.style import INK, PALE, PALETTE

HEIGHT = 560
"""Pixels of a plot's height; it is as wide as its place."""
_COLUMNS = ("x", "y", "place", "colour", "alpha", "size", "shape")
_UNCHOSEN = "#4477AA"  # of right answers while no class is chosen and there are more classes than colours
_WRONG = "#EE7733"


@cache
def bokeh() -> str:
    """Return the part of Bokeh's script that plots need."""
    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


def plane(points: Points) -> dict[str, Any]:
    """Return points as JSON-able data: theirs without the thumbnails, an empty Bokeh figure, and the colours."""
    data = points.model_dump(mode="json", exclude={"thumbs", "title"})
    item = json_item(_empty(points))
    return data | {"item": item, "colours": list(PALETTE), "unchosen": _UNCHOSEN, "wrong": _WRONG}


def as_json(value: object) -> str:
    """Return JSON that may stand in a script element: no `<`, `>` or `&` in it, so that no text can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _empty(points: Points) -> figure:
    """Return a figure whose points the page fills in."""
    plot = figure(
        height=HEIGHT,
        sizing_mode="stretch_width",
        tools="pan,box_zoom,wheel_zoom,tap,reset,save",
        x_range=_range(points.x),
        y_range=_range(points.y),
        active_drag=None,
        active_scroll=None,
        toolbar_location="above",
        x_axis_label="first axis of the map (no unit)",
        y_axis_label="second axis of the map (no unit)",
    )
    source = ColumnDataSource({name: [] for name in _COLUMNS}, name="points")
    marks = plot.scatter(
        "x",
        "y",
        source=source,
        marker="shape",
        size="size",
        color="colour",
        fill_alpha="alpha",
        line_alpha="alpha",
        line_width=1.5,
    )
    marks.nonselection_glyph = marks.glyph
    plot.add_tools(HoverTool(tooltips=None, renderers=[marks]))
    plot.toolbar.logo = None
    plot.background_fill_color = plot.border_fill_color = "white"
    plot.xgrid.grid_line_color = plot.ygrid.grid_line_color = "#eeeeee"
    for axis in (plot.xaxis, plot.yaxis):
        axis.axis_label_text_color = axis.major_label_text_color = INK
        axis.axis_line_color = axis.major_tick_line_color = PALE
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "14px"
        axis.axis_label_text_font_style = "normal"
        axis.minor_tick_line_color = None
    return plot


def _range(values: Sequence[float]) -> Range1d:
    """Return the values' range with some air around it."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    air = 0.05 * (high - low) or 0.5
    return Range1d(start=low - air, end=high + air)
