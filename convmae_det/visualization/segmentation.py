"""The classes of an image's pixels, drawn over it in a colour each, with a legend."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from .colours import class_colour
from .fonts import write
from .predictions import MIN_SIDE, add_room, choose_scale

OPACITY = 0.55  # of the colours
LINE, TEXT, PAD = 22, 14, 6  # pixels: height of a line of the legend, of its letters, and what surrounds them
WIDEST = 1024  # pixels of the longer side of an image, which is shrunk to it
MOST = 20  # classes in the legend, those with most pixels


def draw_segmentation(
    pixels: np.ndarray, labels: np.ndarray, names: Sequence[str], segments: np.ndarray | None = None
) -> np.ndarray:
    """Draws the classes over an image, which is enlarged if it is small, and a legend of those that occur below it.

    Args:
        pixels: (H, W, 3) uint8 RGB
        labels: (H, W): the number of each pixel's class; others than those with a name are left as they are
        names: of the classes, by number
        segments: (H, W) ids of segments, which white lines part from each other; None: no lines

    Returns:
        (h, w, 3) uint8 RGB
    """
    known = (labels >= 0) & (labels < len(names))
    colours = np.array([class_colour(number) for number in range(len(names))], np.float32)
    mixed = pixels.astype(np.float32)
    mixed[known] = (1 - OPACITY) * mixed[known] + OPACITY * colours[labels[known]]
    image = Image.fromarray(mixed.round().astype(np.uint8))
    image.thumbnail((WIDEST, WIDEST))
    scale = choose_scale(*image.size)
    image = image.resize((scale * image.width, scale * image.height), Image.Resampling.NEAREST)
    if segments is not None:
        image = _part_segments(image, segments)
    counts = np.bincount(labels[known].astype(np.int64), minlength=len(names))
    shown = [number for number in np.argsort(-counts, kind="stable").tolist() if counts[number]][:MOST]
    entries = [(number, f"{names[number]} {counts[number] / labels.size:.0%}") for number in shown]
    return _add_legend(image, entries)


def _part_segments(image: Image.Image, segments: np.ndarray) -> Image.Image:
    """Draws white lines between segments, (H, W), on an image of another size."""
    ids = np.asarray(Image.fromarray(segments.astype(np.int32)).resize(image.size, Image.Resampling.NEAREST))
    border = np.zeros(ids.shape, bool)
    border[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    border[1:] |= ids[1:] != ids[:-1]
    pixels = np.array(image)
    pixels[border] = 255
    return Image.fromarray(pixels)


def make_palette(number: int) -> list[int]:
    """Makes the palette of a mask: the colours of so many classes, and black, as Pillow takes them."""
    colours = [value for index in range(min(number, 256)) for value in class_colour(index)]
    return colours + [0] * (3 * 256 - len(colours))


def _add_legend(image: Image.Image, entries: Sequence[tuple[int, str]]) -> np.ndarray:
    """Writes (class, text) of each entry below an image, in as many columns as fit."""
    written = [(number, write(text, TEXT)) for number, text in entries]
    longest = max((round(text.width) for _, text in written), default=0) + LINE + 3 * PAD
    columns = max(1, max(image.width, MIN_SIDE) // longest)
    rows = -(-len(entries) // columns)
    canvas = add_room(image, rows * LINE + 2 * PAD)
    draw = ImageDraw.Draw(canvas)
    for place, (number, text) in enumerate(written):
        left, top = PAD + place % columns * longest, image.height + PAD + place // columns * LINE
        draw.rectangle((left, top + 3, left + TEXT, top + 3 + TEXT), class_colour(number), "dimgray")
        draw.text((left + LINE, top + LINE / 2), text.text, "black", text.font, anchor="lm")
    return np.asarray(canvas)
