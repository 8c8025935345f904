"""Tables of a page: with columns that sort when their titles are pressed, or of names and values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .page import make_name, render

SEARCHED_FROM = 15  # rows, from which on a table can be searched


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and by what it is sorted; "" is always last."""

    text: str | Markup
    value: float | str = ""
    is_number: bool = False
    colour: str = ""  # of CSS, a square before the text


def make_cell(value: object, digits: int = 1) -> Cell:
    """Makes a cell of a value: numbers with so many digits after the point; nothing for None and NaN."""
    if isinstance(value, Cell):
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Cell("–", "", is_number=True)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(value if isinstance(value, Markup) else str(value), str(value))
    return Cell(f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}", value, is_number=True)


def render_table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "", digits: int = 1, sorts: bool = True
) -> Markup:
    """Renders a table.

    Args:
        headers: the title of each column
        rows: of each column a value for :func:`make_cell`, or a Cell
        caption: a sentence above the table
        digits: after the point of numbers that aren't whole
        sorts: whether it sorts when a title is pressed
    """
    cells = [[make_cell(value, digits) for value in row] for row in rows]
    numeric = [any(row[column].is_number for row in cells) for column in range(len(headers))]
    return render(
        "table.html",
        name=make_name("table"),
        headers=list(zip(headers, numeric, strict=True)),
        rows=cells,
        caption=caption,
        sorts=sorts,
        searched=len(rows) >= SEARCHED_FROM,
    )


def render_facts(facts: Mapping[str, object]) -> Markup:
    """Renders names and values as a table without titles; empty values are left out."""
    return render("facts.html", facts={name: value for name, value in facts.items() if value not in ("", None)})


def render_tiles(tiles: Mapping[str, object]) -> Markup:
    """Renders the numbers that count most, large, each with its name above; numbers that are missing are left out."""
    cells = {name: make_cell(value) for name, value in tiles.items()}
    return render("tiles.html", tiles={name: cell.text for name, cell in cells.items() if cell.text != "–"})
