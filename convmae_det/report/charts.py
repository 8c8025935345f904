"""Figures of a page: lines, bars and matrices as SVG and HTML in the colours of the page, light or dark.

Colours are CSS: `var(--c0)` to `var(--c9)`, which the page's style defines, or any other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import EngFormatter, MaxNLocator

from .page import make_name, render

Point = tuple[float, float]

WIDTH, HEIGHT = 320, 212  # units of a chart, about pixels
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 20, 34  # what surrounds the plane, with the numbers at its axes
MOST_POINTS = 250  # of a line; more are thinned out
CELL = 30  # units of a matrix's cell


@dataclass(frozen=True)
class Line:
    """A line of a chart; where a value isn't finite, it is interrupted."""

    name: str
    points: Sequence[Point]
    colour: str = "var(--c0)"
    style: str = ""  # pale, strong, dashed
    dots: bool = False


@dataclass(frozen=True)
class Axis:
    """A name, and the numbers at both ends; None: those of the data."""

    name: str
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True)
class Bar:
    """A bar with its name, and a sentence below it."""

    name: str
    value: float
    colour: str = "var(--c0)"
    detail: str = ""
    text: str = ""  # in place of the number


@dataclass(frozen=True)
class Stack:
    """A part of each of several columns."""

    name: str
    values: Sequence[float]
    colour: str = "var(--c0)"


@dataclass(frozen=True)
class Scale:
    """From numbers to units of a chart."""

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float] = field(default=())

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def _make_scale(axis: Axis, values: Sequence[float], start: float, end: float) -> Scale:
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low = min(finite) if axis.lowest is None else axis.lowest
    high = max(finite) if axis.highest is None else axis.highest
    if high <= low:
        low, high = (low - 1, high + 1) if axis.lowest is None else (low, low + 1)
    ticks = MaxNLocator(nbins=4).tick_values(low, high)
    if axis.lowest is None:
        low = min(low, max([tick for tick in ticks if tick <= low], default=low))
    if axis.highest is None and start > end:  # upwards; along the way the data end where they end
        high = max(high, min([tick for tick in ticks if tick >= high], default=high))
    return Scale(low, high, start, end, [tick for tick in ticks if low <= tick <= high])


def draw_lines(
    title: str, lines: Sequence[Line], x: Axis, y: Axis, *, note: str = "", legend: bool = True, chosen: bool = False
) -> Markup:
    """Draws lines in a plane.

    Args:
        title: above the chart
        lines: later ones lie on top
        x, y: its axes
        note: a few words beside the title, such as the last value
        legend: whether the names of several lines are listed below
        chosen: whether one of the lines can be chosen by name, to stand out
    """
    across = _make_scale(x, [px for line in lines for px, _ in line.points], LEFT, WIDTH - RIGHT)
    up = _make_scale(y, [py for line in lines for _, py in line.points], HEIGHT - BOTTOM, TOP)
    drawn = [(line, _make_path(line.points, across, up), _make_dots(line, across, up)) for line in lines]
    return render(
        "lines.html",
        name=make_name("lines"),
        title=title,
        note=note,
        lines=drawn,
        legend=[line for line in lines if line.name] if legend and len(lines) > 1 else [],
        chosen=chosen,
        x=x.name,
        y=y.name,
        size=(WIDTH, HEIGHT),
        plane=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        x_ticks=[(across(tick), format_number(tick)) for tick in across.ticks],
        y_ticks=[(up(tick), format_number(tick)) for tick in up.ticks],
    )


def _make_path(points: Sequence[Point], across: Scale, up: Scale) -> str:
    """Makes the path of a line: thinned out to means if it has many points, and interrupted at what isn't finite."""
    parts, begun = [], False
    for x, y in thin_out(points):
        if not math.isfinite(y):
            begun = False
            continue
        parts.append(f"{'L' if begun else 'M'}{across(x):g} {up(min(max(y, up.low), up.high)):g}")
        begun = True
    return "".join(parts)


def _make_dots(line: Line, across: Scale, up: Scale) -> list[tuple[float, float, str]]:
    points = [point for point in line.points if math.isfinite(point[1])]
    if not line.dots and len(points) > 1:
        return []
    return [(across(x), up(y), f"{line.name} {format_number(x)}: {format_number(y)}".strip()) for x, y in points]


def thin_out(points: Sequence[Point], most: int = MOST_POINTS) -> Sequence[Point]:
    """Thins points out to at most so many, each the mean of neighbours."""
    if len(points) <= most:
        return points
    parts = np.array_split(np.asarray(points, dtype=float), most)
    return [(float(x), float(y)) for x, y in (part.mean(axis=0) for part in parts)]


def format_number(value: float) -> str:
    """Formats a number for an axis: short, large ones with k or M."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "–"
    if abs(value) >= 10_000:
        return EngFormatter(sep="", places=None)(value)
    if abs(value) < 0.001:
        return f"{value:.2g}".replace("e-0", "e-")
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:g}"


def draw_bars(bars: Sequence[Bar], caption: str = "", digits: int = 1) -> Markup:
    """Draws a table with a bar in each row, the longest for the largest value."""
    longest = max((bar.value for bar in bars), default=0) or 1
    rows = [(bar, max(0.0, 100 * bar.value / longest), bar.text or f"{bar.value:,.{digits}f}") for bar in bars]
    return render("bars.html", rows=rows, caption=caption)


def draw_columns(title: str, names: Sequence[str], stacks: Sequence[Stack], x: str) -> Markup:
    """Draws columns beside each other.

    Args:
        title: above the chart
        names: of the columns
        stacks: their parts, from below
        x: name of the axis
    """
    totals = [sum(values) for values in zip(*(stack.values for stack in stacks), strict=True)]
    up = _make_scale(Axis("", lowest=0), totals, HEIGHT - BOTTOM, TOP)
    width = (WIDTH - LEFT - RIGHT) / max(len(names), 1)
    boxes, below = [], [0.0] * len(names)
    for stack in stacks:
        for column, value in enumerate(stack.values):
            top, bottom = up(below[column] + value), up(below[column])
            below[column] += value
            left = round(LEFT + (column + 0.1) * width, 1)
            label = f"{names[column]}: {value:g} {stack.name}"
            boxes.append((left, top, round(0.8 * width, 1), bottom - top, stack.colour, label))
    return render(
        "columns.html",
        title=title,
        boxes=boxes,
        names=[(round(LEFT + (column + 0.5) * width, 1), name) for column, name in enumerate(names)],
        stacks=stacks,
        x=x,
        size=(WIDTH, HEIGHT),
        plane=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        y_ticks=[(up(tick), format_number(tick)) for tick in up.ticks],
    )


def choose_most_confused(counts: np.ndarray, most: int, always: Sequence[int] = ()) -> list[int]:
    """Chooses the rows of a square matrix of counts that have most off its diagonal, and those `always` shown."""
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    wrong[list(always)] = wrong.max() + 1
    return sorted(np.argsort(-wrong, kind="stable")[:most].tolist())


def draw_matrix(title: str, names: Sequence[str], counts: Sequence[Sequence[float]]) -> Markup:
    """Draws a square matrix of counts, each cell as dark as its share of its row, the diagonal in another colour.

    Args:
        title: above the matrix
        names: of its rows, and of its columns
        counts: of each row
    """
    margin = min(180, 8 + 7 * max(map(len, names)))
    cells = []
    for i, row in enumerate(counts):
        total = sum(row) or 1
        for j, value in enumerate(row):
            if value:
                share, is_right = value / total, i == j
                label = f"{names[i]} → {names[j]}: {value:,} ({share:.0%})"
                cells.append((margin + j * CELL, margin + i * CELL, share, is_right, label))
    size = (margin + CELL * len(names) + 12, margin + CELL * len(names) + 8)
    return render("matrix.html", title=title, names=names, cells=cells, size=size, margin=margin, cell=CELL)
