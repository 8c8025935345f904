"""Panels in rows and columns with their titles, and pictures as PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..errors import InputError
from ..files import atomic_write
from .fonts import write

# Pixels of a panel's longer side. Smaller ones are enlarged, pixel by pixel; a title needs the room, too.
MIN_PANEL, MAX_PANEL = 224, 1024
GAP = 8  # pixels between panels, and around all
TITLE_HEIGHT, CAPTION_HEIGHT, FONT_SIZE = 22, 20, 15  # pixels


def draw_sheet(
    rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], captions: Sequence[str] | None = None
) -> Image.Image:
    """Draws panels on white, a title above each column and, if given, a caption below each row.

    Args:
        rows: of as many panels as there are titles, each (h, w, 3) uint8, of any sizes
    """
    panels = [[_resize_panel(pixels) for pixels in row] for row in rows]
    widths = [max(MIN_PANEL, *(row[column].width for row in panels)) for column in range(len(titles))]
    heights = [max(panel.height for panel in row) for row in panels]
    lefts = np.cumsum([GAP, *(width + GAP for width in widths)]).tolist()
    below = GAP + (CAPTION_HEIGHT if captions else 0)
    tops = np.cumsum([GAP + TITLE_HEIGHT, *(height + below for height in heights)]).tolist()

    sheet = Image.new("RGB", (lefts[-1], tops[-1]), "white")
    for top, row in zip(tops, panels, strict=False):
        for left, panel in zip(lefts, row, strict=False):
            sheet.paste(panel, (left, top))
    draw = ImageDraw.Draw(sheet)
    for left, width, title in zip(lefts, widths, titles, strict=False):
        text, font = write(title, FONT_SIZE)
        draw.text((left + width / 2, GAP), text, "black", font, anchor="mt")
    for top, height, caption in zip(tops, heights, captions or (), strict=False):
        text, font = write(caption, FONT_SIZE)
        draw.text((GAP, top + height + GAP / 2), text, "dimgray", font, anchor="lt")
    return sheet


def _resize_panel(pixels: np.ndarray) -> Image.Image:
    panel = Image.fromarray(pixels)
    panel.thumbnail((MAX_PANEL, MAX_PANEL))
    scale = -(-MIN_PANEL // max(panel.size))
    return panel.resize((scale * panel.width, scale * panel.height), Image.Resampling.NEAREST)


def check_png(path: str | Path) -> None:
    """Checks that a file is named as a picture that :func:`save_png` writes.

    Raises:
        InputError: it isn't.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path} would hold a PNG picture: let its name end in .png")


def save_png(picture: Image.Image, path: str | Path) -> None:
    """Writes the file whole or not at all.

    Raises:
        InputError: it can't be written, or as :func:`check_png`.
    """
    check_png(path)
    with atomic_write(path) as file:
        picture.save(file, format="PNG")
