"""How the cells of a table are written, and by what they are sorted."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.looks.look import Cell, Table

NONE = "–"
"""Stands where there is no number."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its header.
        kind: `text`, `count`, `number` or `share`.
        cells: as (what is read, what is sorted by); the second is empty where there is no number.
    """

    title: str
    kind: str
    cells: tuple[tuple[str, str], ...]


def columns_of(table: Table) -> tuple[Column, ...]:
    """Return a table's columns with their cells as text."""
    return tuple(
        Column(title, kind, tuple((written(row[place], kind), _key(row[place])) for row in table.rows))
        for place, (title, kind) in enumerate(zip(table.columns, table.kinds, strict=True))
    )


def written(cell: Cell, kind: str) -> str:
    """Return a cell as it is read: text as it is, counts as 1,234, numbers as 0.1234, shares as 12.3 %."""
    if cell is None:
        return NONE
    if isinstance(cell, str):
        return cell
    if kind == "count":
        return f"{cell:,.0f}"
    if kind == "share":
        return percent(cell)
    return number(float(cell)) if kind == "number" else str(cell)


def percent(share: float) -> str:
    """Return a share (0–1) as percent with one decimal."""
    return f"{100 * share:.1f} %".replace("-", "−")


def number(value: float) -> str:
    """Return a number with about four digits that count: 0.1234, 12.34, 1,234."""
    size = abs(value)
    decimals = 4 if size < 10 else 2 if size < 1000 else 0
    text = f"{value:,.{decimals}f}" if size >= 5e-5 or not value else f"{value:.2g}"
    return text.replace("-", "−") if size >= 5e-5 else text


def _key(cell: Cell) -> str:
    return "" if cell is None else cell if isinstance(cell, str) else repr(cell)
