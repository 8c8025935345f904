"""The two curves of a study: how fast variants learn, and how many labels they need."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, NullLocator, PercentFormatter
from PIL import Image

from ..evaluation.metrics_file import Curve
from .curves import rasterise

PANEL_SIZE = 5.2, 3.8  # inches
DPI = 120


def draw_convergence(
    panels: Mapping[float, Mapping[str, Sequence[Curve]]], names: Sequence[str], metric: str
) -> Image.Image:
    """Draws a metric against iterations: a panel for each share of the data, a colour for each variant.

    Thin lines are runs; the thick one is their mean, where they have been evaluated at the same iterations.

    Args:
        panels: by share and variant, the curve of each run
        names: all variants, in the order of their colours
        metric: its name
    """
    figure = Figure((PANEL_SIZE[0] * len(panels), PANEL_SIZE[1]), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, (share, variants) in zip(axes, panels.items(), strict=True):
        for name, curves in variants.items():
            _draw_runs(ax, curves, _colour(name, names), name)
        ax.set_title(describe_share(share), fontsize=10)
        ax.set_xlabel("iteration", fontsize=9)
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        _finish(ax)
    axes[0].set_ylabel(metric, fontsize=9)
    return rasterise(figure)


def _draw_runs(ax: Axes, curves: Sequence[Curve], colour: str, name: str) -> None:
    for curve in curves if len(curves) > 1 else ():
        iterations, values = zip(*curve, strict=True)
        ax.plot(iterations, values, color=colour, linewidth=0.8, alpha=0.4)
    values = [dict(curve) for curve in curves]
    common = sorted(set.intersection(*map(set, values)))
    means = [np.mean([run[iteration] for run in values]) for iteration in common]
    label = f"{name} (n={len(curves)})"
    ax.plot(common, means, color=colour, linewidth=2, marker="o", markersize=3.5, label=label)


def draw_shares(
    lines: Mapping[str, Sequence[tuple[float, float, float]]], names: Sequence[str], metric: str
) -> Image.Image:
    """Draws a metric against the share of the training images, a line for each variant.

    Args:
        lines: by variant, share, mean and standard deviation, by rising share
        names: all variants, in the order of their colours
        metric: its name
    """
    figure = Figure(PANEL_SIZE, dpi=DPI, layout="constrained")
    ax = figure.subplots()
    for name, line in lines.items():
        shares, means, deviations = zip(*line, strict=True)
        ax.errorbar(
            shares, means, deviations, color=_colour(name, names), marker="o", markersize=4, capsize=3, label=name
        )
    shares = sorted({share for line in lines.values() for share, *_ in line})
    if len(shares) > 1:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(shares))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    ax.set_xlabel("share of the training images", fontsize=9)
    ax.set_ylabel(metric, fontsize=9)
    _finish(ax)
    return rasterise(figure)


def describe_share(share: float) -> str:
    """Describes a share of the training images, as the title of a column or panel."""
    return f"{100 * share:.4g} % of the images" if share < 1 else "all images"


def _colour(name: str, names: Sequence[str]) -> str:
    return f"C{names.index(name) % 10}"


def _finish(ax: Axes) -> None:
    ax.tick_params(labelsize=8)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, frameon=False)
