"""The curves of a training: a small chart for each number that its metrics.json holds."""

from collections.abc import Mapping

from markupsafe import Markup

from ..evaluation.metrics_file import Curve
from ..visualization.curves import choose_titles, smooth
from .charts import Axis, Line, draw_lines, format_number
from .page import Section, join

EXPLANATION = (
    "How the numbers went over the iterations: losses should fall and flatten, measures such as AP rise. The bold line "
    "is a moving average; beside the title stands the last value."
)
FEW = 40  # points, which are drawn as they are, with dots


def build_curves(curves: Mapping[str, Curve]) -> Section:
    """Builds the section on a training.

    Args:
        curves: of `read_metrics`
    """
    charts = [_draw(name, title, curves[name]) for name, title in choose_titles(curves).items()]
    return Section("Training", Markup('<div class="charts">{}</div>').format(join(charts)), EXPLANATION)


def _draw(name: str, title: str, curve: Curve) -> Markup:
    lines = [Line("", curve, dots=len(curve) < FEW)]
    if name != "lr" and (averaged := smooth(curve)) is not curve:
        lines = [Line("", curve, style="pale"), Line("", averaged)]
    return draw_lines(title, lines, Axis("iteration", lowest=0), Axis(""), note=format_number(curve[-1][1]))
