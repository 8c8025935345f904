"""The classes found in an image, written below it with their scores as bars."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from .colours import class_colour
from .fonts import write
from .predictions import add_room, choose_scale

LINE, TEXT, PAD = 24, 15, 6  # pixels: height of a line, of its letters, and what surrounds them
WIDEST = 1024  # pixels of the longer side of an image, which is shrunk to it
PALE = 0.65  # of a bar's colour, how far it goes to white


def draw_classes(pixels: np.ndarray, found: Sequence[tuple[int, str, float]]) -> np.ndarray:
    """Draws a line for each class below an image, which is enlarged if it is small.

    Args:
        pixels: (H, W, 3) uint8 RGB
        found: index, name and score of some classes, by falling score

    Returns:
        (h, w, 3) uint8 RGB
    """
    image = Image.fromarray(pixels)
    image.thumbnail((WIDEST, WIDEST))
    scale = choose_scale(*image.size)
    image = image.resize((scale * image.width, scale * image.height), Image.Resampling.BICUBIC)
    canvas = add_room(image, LINE * len(found) + 2 * PAD)
    width = canvas.width
    draw = ImageDraw.Draw(canvas)
    for row, (index, name, score) in enumerate(found):
        top = image.height + PAD + row * LINE
        colour = tuple(round(value + (255 - value) * PALE) for value in class_colour(index))
        draw.rectangle((0, top, round(score * (width - 1)), top + LINE - 4), fill=colour)
        share = write(f"{score:.1%}", TEXT)
        shown = write(name, TEXT, room=width - share.width - 4 * PAD)
        draw.text((PAD, top + LINE / 2 - 2), shown.text, "black", shown.font, anchor="lm")
        draw.text((width - PAD, top + LINE / 2 - 2), share.text, "black", share.font, anchor="rm")
    return np.asarray(canvas)
