"""Which classes a classifier takes for which, as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from PIL import Image

from .curves import rasterise
from .fonts import choose_font

MOST_NAMED = 60  # classes whose names are written at the axes,
MOST_COUNTED = 25  # and whose shares are written in the cells
CELL, MARGIN, LARGEST = 0.34, 2.6, 14.0  # inches
DPI = 110


def draw_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> Image.Image:
    """Draws the share of each class's images, by row, that each class was found in, by column.

    Args:
        confusion: by label a row of numbers of images
        classes: their names, by label
        title: above the picture
    """
    counts = np.array(confusion, dtype=float)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    number = len(classes)
    side = min(LARGEST, MARGIN + CELL * max(number, 6))
    figure = Figure((side + 0.6, side), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    picture = ax.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    if number <= MOST_NAMED:
        size = 9 if number <= MOST_COUNTED else 6
        names, fonts = zip(*map(choose_font, classes), strict=True)
        ax.set_xticks(range(number), names, rotation=90)
        ax.set_yticks(range(number), names)
        for label, font in zip([*ax.get_xticklabels(), *ax.get_yticklabels()], 2 * fonts, strict=True):
            label.set_fontproperties(FontProperties(fname=font, size=size))
    if number <= MOST_COUNTED:
        for row, column in zip(*shares.nonzero(), strict=True):
            colour = "white" if shares[row, column] > 55 else "black"
            ax.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    ax.set_xlabel("found")
    ax.set_ylabel("class of the image")
    ax.set_title(title, fontsize=11)
    figure.colorbar(picture, ax=ax, label="% of the images of a class", shrink=0.7)
    return rasterise(figure)
