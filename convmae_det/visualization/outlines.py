"""Boxes and masks of objects, drawn so that the objects keep their colours: outlines, and a light fill of masks."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from .colours import class_colour
from .labels import Label

Outline = list[np.ndarray]  # closed lines, (k, 1, 2) int32 x y in pixels each, around parts and holes of a mask

OPACITY = 0.18  # of masks
CASING = (25, 25, 25)  # RGB around lines, which are then seen on their own colour
STAIR = 0.75  # pixels of the image, by which an outline of its pixels may be straightened
SMALL = 32  # pixels of the picture; an object that is narrower has the thinnest of lines


def trace_mask(part: np.ndarray, top: int, left: int, scale: int) -> Outline:
    """Traces the smoothed outline of a mask on a picture that is larger by `scale`.

    Args:
        part: (h, w) bool, that holds the whole mask
        top: rows of the image above the part
        left: columns of the image before the part
        scale: how many times as large the picture is
    """
    if not part.size:
        return []
    part = np.pad(part, 1).astype(np.float32)
    if scale > 1:
        part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    offset = (scale * (left - 1), scale * (top - 1))
    lines, _ = cv2.findContours((part > 0.5).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=offset)
    return [cv2.approxPolyDP(line, STAIR * scale, True) for line in lines]


def draw_objects(canvas: np.ndarray, labels: Sequence[Label], outlines: Sequence[Outline], line: int) -> None:
    """Draws boxes and, if there are outlines, masks in the colours of their classes, in place.

    Args:
        canvas: (h, w, 3) uint8 RGB
        labels: of the objects, large ones first
        outlines: of each object; or empty
        line: pixels, the width of lines
    """
    filled = canvas.copy()
    for label, outline in zip(labels, outlines, strict=False):
        cv2.fillPoly(filled, outline, class_colour(label.index))
    cv2.addWeighted(filled, OPACITY, canvas, 1 - OPACITY, 0, dst=canvas)
    for label in labels:
        x0, y0, x1, y1 = map(int, label.box)
        corners = np.array(((x0, y0), (x1, y0), (x1, y1), (x0, y1)))
        _draw_lines(canvas, [corners], label, 1 if outlines else line)
    for label, outline in zip(labels, outlines, strict=False):
        _draw_lines(canvas, outline, label, line)


def draw_traces(
    canvas: np.ndarray, labels: Sequence[Label], traces: Mapping[int, np.ndarray], scale: int, line: int
) -> None:
    """Draws the way that each object has come, in place: centres (k, 2) in pixels of the image, by number of track."""
    for label in labels:
        if label.track in traces:
            way = (scale * traces[label.track]).round().astype(np.int32)
            cv2.polylines(canvas, [way], False, class_colour(label.index), line, cv2.LINE_AA)
            cv2.circle(canvas, way[-1].tolist(), line + 1, class_colour(label.index), -1, cv2.LINE_AA)


def _draw_lines(canvas: np.ndarray, lines: Sequence[np.ndarray], label: Label, width: int) -> None:
    """Draws closed lines, with a casing unless the object is small or the line thin."""
    x0, y0, x1, y1 = label.box
    colour = class_colour(label.index)
    if width == 1 or min(x1 - x0, y1 - y0) < SMALL:
        cv2.polylines(canvas, lines, True, colour, 1, cv2.LINE_AA)
        return
    for paint, thickness in ((CASING, width + 2), (colour, width)):
        cv2.polylines(canvas, lines, True, paint, thickness, cv2.LINE_AA)
