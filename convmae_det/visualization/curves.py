"""Curves of one or several runs, drawn from the metrics.json that Detectron2's JSONWriter leaves in OUTPUT_DIR."""

import math
import re
from collections.abc import Collection, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter
from PIL import Image

from ..evaluation.metrics_file import Curve

# What is drawn, in this order: a regular expression for names in the file, and the panel's title for them.
PANELS = (
    (r"total_loss", "total loss"),
    (r"loss_(\w+)", r"loss: \1"),
    (r"(?:(.+)/)?bbox/AP", r"box AP (%) \1"),
    (r"(?:(.+)/)?segm/AP", r"mask AP (%) \1"),
    (r"probe/(.+)/knn_top1", r"k-NN top-1 (%) \1"),
    (r"(?:probe/(.+)|features)/rank", r"rank of features \1"),
    (r"(?:(.+)/)?top1", r"top-1 accuracy (%) \1"),
    (r"lr", "learning rate"),
    (r"grad_norm", "gradient norm"),
    (r"images_per_second", "images / s"),
    (r"time", "s / iteration"),
)
COLUMNS = 4  # at most
PANEL_SIZE = 3.6, 2.7  # inches
DPI = 110
SMOOTHING = 40  # a moving average takes this part of a curve's points


def choose_titles(names: Collection[str]) -> dict[str, str]:
    """Chooses those of the names that are drawn, in their order, and the title of each."""
    return {
        name: re.sub(pattern, title, name).strip()
        for pattern, title in PANELS
        for name in names
        if re.fullmatch(pattern, name)
    }


def draw_curves(runs: Mapping[str, Mapping[str, Curve]]) -> Image.Image:
    """Draws a panel for each number, in which all runs, label → `read_metrics`, are laid over one another."""
    titles = choose_titles(dict.fromkeys(name for curves in runs.values() for name in curves))
    rows = math.ceil(len(titles) / COLUMNS)
    columns = math.ceil(len(titles) / rows)
    figure = Figure((PANEL_SIZE[0] * columns, PANEL_SIZE[1] * rows + 0.5), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax in axes[len(titles) :]:
        ax.remove()
    last = max((curves[name][-1][0] for curves in runs.values() for name in titles if curves.get(name)), default=1)
    for ax, (name, title) in zip(axes, titles.items(), strict=False):
        lines = [
            _draw(ax, curves.get(name, []), f"C{number % 10}", is_smoothed=name != "lr")
            for number, curves in enumerate(runs.values())
        ]
        ax.set_title(title, fontsize=10)
        ax.set_xlim(-0.03 * last, 1.03 * last)  # the same for all, also where there is one point
        ax.tick_params(labelsize=8)
        ax.ticklabel_format(axis="y", scilimits=(-3, 4))
        ax.yaxis.get_offset_text().set_size(8)
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.grid(alpha=0.3)
    figure.legend(lines, list(runs), loc="outside upper left", ncols=columns, frameon=False, fontsize=9)
    figure.supxlabel("iteration", fontsize=9)
    return rasterise(figure)


def rasterise(figure: Figure) -> Image.Image:
    """Makes an image of a figure, at its own resolution."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def smooth(curve: Curve) -> Curve:
    """Computes a moving average over 1/SMOOTHING of a curve's points; itself, if that is one point."""
    window = len(curve) // SMOOTHING
    if window < 2:
        return curve
    kernel = np.full(window, 1 / window)
    iterations, values = (np.convolve(column, kernel, "valid").tolist() for column in np.array(curve, dtype=float).T)
    return list(zip(iterations, values, strict=True))


def _draw(ax: Axes, curve: Curve, colour: str, is_smoothed: bool) -> Line2D:
    """Draws a curve, if it has many points as a moving average over its pale self; returns the line for the legend."""
    iterations, values = np.array(curve, dtype=float).reshape(-1, 2).T
    marker = "." if len(values) < SMOOTHING else None  # a point alone draws no line
    (line,) = ax.plot(iterations, values, color=colour, linewidth=1.3, marker=marker)
    if is_smoothed and (averaged := smooth(curve)) is not curve:
        line.set(alpha=0.3, linewidth=1)
        (line,) = ax.plot(*zip(*averaged, strict=True), color=colour, linewidth=1.3)
    return line
