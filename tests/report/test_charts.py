"""Charts show the numbers that they are given."""

import math
import re

import pytest

from convmae_det.report.charts import (
    Axis,
    Bar,
    Line,
    Stack,
    draw_bars,
    draw_columns,
    draw_lines,
    draw_matrix,
    format_number,
    thin_out,
)
from convmae_det.visualization.curves import smooth


def list_points(svg):
    """The points of each line, by part of it."""
    paths = re.findall(r'<path class="line[^"]*"[^>]* d="([^"]*)"', svg)
    return [[[tuple(map(float, p.split())) for p in part.split("L")] for part in path.split("M")[1:]] for path in paths]


def test_a_line_rises_to_the_right():
    ((points,),) = list_points(draw_lines("t", [Line("", [(0, 0), (5, 1), (10, 4)])], Axis("x"), Axis("y", 0)))
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)  # of SVG, downwards
    assert points[1][0] == pytest.approx((points[0][0] + points[2][0]) / 2)


def test_a_line_is_interrupted_where_there_is_no_number():
    (parts,) = list_points(draw_lines("t", [Line("", [(0, 1), (1, math.nan), (2, 1), (3, 2)])], Axis("x"), Axis("y")))
    assert [len(part) for part in parts] == [1, 2]


@pytest.mark.parametrize("points", [[], [(0, 1.0)], [(0, math.nan)], [(0, 5.0), (1, 5.0)]])
def test_few_or_equal_points_are_no_problem(points):
    svg = draw_lines("t", [Line("", points)], Axis("x"), Axis("y"))
    assert "nan" not in svg.lower() and "inf" not in svg


def test_long_curves_are_thinned_out_to_means():
    points = [(i, float(i % 2)) for i in range(10_000)]
    thin = thin_out(points)
    assert len(thin) == 250 and all(abs(y - 0.5) < 0.05 for _, y in thin)
    assert thin_out(points[:250]) == points[:250]


def test_smoothing_is_a_moving_average():
    points = [(i, float(i % 2)) for i in range(400)]
    averaged = smooth(points)
    assert len(averaged) == 391 and all(y == pytest.approx(0.5) for _, y in averaged)
    assert smooth(points[:40]) == points[:40]


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (0.5, "0.5"), (1e-5, "1e-5"), (12, "12"), (1200, "1200"), (90_000, "90k"), (math.nan, "–"), (-3, "-3")],
)
def test_numbers_are_short(value, text):
    assert format_number(value) == text


def test_bars_are_as_long_as_their_values():
    html = draw_bars([Bar("a", 10.0), Bar("b", 5.0), Bar("c", -1.0)])
    assert re.findall(r"width:([\d.]+)%", html) == ["100.0", "50.0", "0.0"]


def test_columns_are_as_high_as_their_values():
    svg = draw_columns("t", ["a", "b"], [Stack("found", [4, 0]), Stack("missed", [4, 2])], "x")
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"', svg)]
    assert heights[0] == pytest.approx(heights[2]) == pytest.approx(2 * heights[3], abs=0.2) and heights[1] == 0


def test_a_matrix_names_and_counts():
    svg = draw_matrix("t", ["cat", "dog"], [[3, 1], [0, 0]])
    assert re.findall(r"<title>(.*?)</title>", svg) == ["cat → cat: 3 (75%)", "cat → dog: 1 (25%)"]
    assert svg.count("cell right") == 1


def test_only_the_diagonal_of_a_matrix_is_right():
    svg = draw_matrix("t", ["nothing", "dog", "nothing"], [[3, 0, 2], [0, 1, 0], [4, 0, 0]])
    assert svg.count("<title>") == 4 and svg.count("cell right") == 2


def test_lines_of_equal_names_are_chosen_one_by_one():
    lines = [Line(name, [(0, 1), (1, 2)]) for name in ("all classes", "a  b", "all classes")]
    svg = draw_lines("t", lines, Axis("x"), Axis("y"), chosen=True)
    options = re.findall(r'<option value="(.+?)">(.*?)</option>', svg)
    assert options == list(zip(re.findall(r'data-line="(.*?)"', svg), (line.name for line in lines), strict=True))
    assert len(set(options)) == 3
