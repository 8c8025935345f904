"""Labels of objects: placed where there is room, so that they hide neither small objects nor each other."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .colours import class_colour, text_colour
from .fonts import Writing, write

COVERED = 0.1  # share of an object that a label may hide
AWAY = 3  # heights of a label from its object to where a line still leads from one to the other
SMALL = 0.75  # of the letters' size, for objects that have no room for more
LEAST_SIZE = 10  # pixels of letters
CROWD, TINY = 60, 2  # in pictures of more objects, those smaller than some sizes of letters have no label
GAP = 1  # pixels between labels
LEGEND_LINES = 6


class Label(NamedTuple):
    """What is written on an object.

    Attributes:
        box: of the object, x0 y0 x1 y1 in pixels
        index: of its class
        text: on the label
        name: of its class
        track: its number in a video; None: not followed
    """

    box: Sequence[float]
    index: int
    text: str
    name: str
    track: int | None = None


def draw_labels(picture: Image.Image, labels: Sequence[Label], size: int) -> None:
    """Draws labels on a picture, in place; objects that have room for none are counted in a corner.

    Args:
        size: of the letters, in pixels
    """
    draw = ImageDraw.Draw(picture)
    boxes = np.array([label.box for label in labels], dtype=float).reshape(-1, 4)
    placed, without = _place_labels(labels, boxes, picture.size, size)
    for label, place, _ in placed:
        _draw_leader(draw, place, label)
    for label, place, writing in placed:
        x0, y0, x1, y1 = place.tolist()
        colour = class_colour(label.index)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), colour)
        draw.text(((x0 + x1) / 2, (y0 + y1) / 2), writing.text, text_colour(colour), writing.font, anchor="mm")
    if without:
        used = np.vstack([boxes, *(place for _, place, _ in placed)])
        _draw_legend(draw, without, Counter((label.index, label.name) for label in labels), used, picture.size, size)


def _place_labels(
    labels: Sequence[Label], boxes: np.ndarray, picture: tuple[int, int], size: int
) -> tuple[list[tuple[Label, np.ndarray, Writing]], Counter]:
    """Places the labels of small objects first, since large ones have more room.

    Returns:
        The labels that have a place, with it and with what is written; how many have none, by index and name of class.
    """
    placed, without = [], Counter()
    sides = boxes[:, 2:] - boxes[:, :2]
    for number in np.argsort(sides.prod(axis=1), kind="stable"):
        label, left_out = labels[number], len(labels) > CROWD and sides[number].min() < TINY * size
        taken = np.array([place for _, place, _ in placed]).reshape(-1, 4) + (-GAP, -GAP, GAP, GAP)
        for letters in () if left_out else (size, max(LEAST_SIZE, round(SMALL * size))):
            writing = write(label.text, letters, picture[0] / 2)
            place = _find_place(number, _measure(writing, letters), boxes, taken, picture)
            if place is not None:
                placed.append((label, place, writing))
                break
        else:
            without[label.index, label.name] += 1
    return placed, without


def _measure(writing: Writing, size: int) -> tuple[int, int]:
    """Computes width and height of a label, in pixels."""
    return round(writing.width + 0.6 * size), round(1.35 * size)


def _find_place(
    number: int, size: tuple[int, int], boxes: np.ndarray, taken: np.ndarray, picture: tuple[int, int]
) -> np.ndarray | None:
    """Finds the nearest place for the label of an object where it hides hardly anything; None: there is none.

    Args:
        number: the object's, among `boxes`
        size: width and height of the label
        boxes: (n, 4), of the objects
        taken: (k, 4), other labels

    Returns:
        (4), x0 y0 x1 y1
    """
    places, costs = _list_places(boxes[number], size, picture)
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1), axis=1)
    covered = (_intersect(places, boxes) / areas).max(axis=1)
    free = (covered <= COVERED) & ~(_intersect(places, taken) > 0).any(axis=1)
    costs = np.where(free, costs + covered / COVERED, np.inf)
    best = costs.argmin()
    return places[best] if free[best] else None


def _list_places(box: np.ndarray, size: tuple[int, int], picture: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Lists places (m, 4) at a box and around it, inside the picture, and costs (m) that rise with distance."""
    (x0, y0, x1, y1), (width, height) = box, size
    corners, costs = [(x0, y0), (x0, y1 - height)], [1.0, 2.0]  # inside
    for step in range(AWAY + 1):
        away = step * height
        left, top, right, bottom = x0 - width - away, y0 - height - away, x1 + away, y1 + away
        middle = (x0 + x1 - width) / 2
        corners += [(x0, top), (x1 - width, top), (x0, bottom), (x1 - width, bottom), (middle, top), (middle, bottom)]
        corners += [(right, y0), (left, y0), (right, y1 - height), (left, y1 - height)]
        corners += [(right, top), (left, top), (right, bottom), (left, bottom)]
        costs += [3 * step + rank / 10 for rank in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 21, 22, 23)]
    places = np.round(np.clip(corners, 0, np.maximum(np.subtract(picture, size), 0)))
    return np.hstack((places, places + size)), np.array(costs)


def _intersect(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Computes areas (m, n) of what boxes (m, 4) and boxes (n, 4) share."""
    sides = np.minimum(one[:, None, 2:], other[None, :, 2:]) - np.maximum(one[:, None, :2], other[None, :, :2])
    return np.prod(np.maximum(sides, 0), axis=-1)


def _draw_leader(draw: ImageDraw.ImageDraw, place: np.ndarray, label: Label) -> None:
    """Draws a line from a label to its object, where it lies apart."""
    box = np.asarray(label.box)
    end = np.clip((place[:2] + place[2:]) / 2, box[:2], box[2:])  # of the object, the point nearest to the label
    start = np.clip(end, place[:2], place[2:])
    if np.abs(end - start).max() > 1:
        draw.line([*start, *end], class_colour(label.index), 2)


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    without: Counter,
    counts: Counter,
    used: np.ndarray,
    picture: tuple[int, int],
    size: int,
) -> None:
    """Says in the emptiest corner how many objects there are of the classes of which some have no label.

    Args:
        without: by index and name of class, how many objects have none
        counts: likewise, of all objects
        used: (n, 4), objects and labels
    """
    shown = [(index, f"{name} × {counts[index, name]:,}") for (index, name), _ in without.most_common(LEGEND_LINES)]
    writings = [write(text, size, picture[0] / 2) for _, text in shown]
    pad, line = round(0.4 * size), round(1.5 * size)
    extent = np.array((max(writing.width for writing in writings) + size + 3 * pad, line * len(shown) + 2 * pad))
    corners = np.array([(x, y) for y in (picture[1] - extent[1], 0) for x in (0, picture[0] - extent[0])])
    hidden = _intersect(np.hstack((corners, corners + extent)), used).sum(axis=1)
    x, y = np.maximum(corners[hidden.argmin()].round(), 0).tolist()
    draw.rectangle((x, y, x + extent[0], y + extent[1]), "white", "dimgray")
    for row, ((index, _), writing) in enumerate(zip(shown, writings, strict=True)):
        middle = y + pad + (row + 0.5) * line
        draw.rectangle((x + pad, middle - size / 2, x + pad + size, middle + size / 2), class_colour(index))
        draw.text((x + 2 * pad + size, middle), writing.text, "black", writing.font, anchor="lm")
