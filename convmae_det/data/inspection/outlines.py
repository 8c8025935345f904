"""The polygons of many objects at once.

m objects, p polygons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from pycocotools import mask as run_lengths

from ..detection.outlines import compress_run_lengths


@dataclass
class Polygons:
    """The polygons of objects that have three corners and more.

    Attributes:
        objects: (p,) int, the index of each polygon's object
        corners: (p, 4) float, the least x and y and the largest
        areas: (p,) float, what the polygon encloses, by an odd number of turns if it crosses itself
        crossing: (p,) float: 0 of polygons that don't cross themselves, else more than 0, at most 1: how much of the
            polygon the crossing disturbs
    """

    objects: np.ndarray
    corners: np.ndarray
    areas: np.ndarray
    crossing: np.ndarray


def gather_polygons(entries: Sequence[dict]) -> Polygons:
    """Gathers the polygons of objects in COCO's format."""
    parts = [
        (index, polygon)
        for index, entry in enumerate(entries)
        if isinstance(entry.get("segmentation"), list)
        for polygon in entry["segmentation"]
        if is_polygon(polygon)
    ]
    if not parts:
        return Polygons(np.zeros(0, int), np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    lengths = [len(polygon) // 2 for _, polygon in parts]
    points = np.concatenate([np.asarray(polygon, float) for _, polygon in parts]).reshape(-1, 2)
    shapes = shapely.polygons(shapely.linearrings(points, indices=np.repeat(np.arange(len(parts)), lengths)))
    signed = shapely.area(shapes)
    areas, crossing = signed.copy(), np.zeros(len(parts))
    invalid = np.flatnonzero(~shapely.is_valid(shapes))
    areas[invalid] = shapely.area(shapely.make_valid(shapes[invalid]))
    crossing[invalid] = _measure_crossing(areas[invalid], signed[invalid])
    return Polygons(np.array([index for index, _ in parts]), shapely.bounds(shapes), areas, crossing)


def _measure_crossing(enclosed: np.ndarray, signed: np.ndarray) -> np.ndarray:
    """Measures how much of polygons their crossings disturb, more than 0 and at most 1.

    Turns of opposite direction cancel in the sum of the signed areas: it is 0 of the two halves of an 8, which is what
    a square becomes whose corners are clicked in the wrong order.
    """
    return np.maximum(1 - np.minimum(enclosed, signed) / np.maximum(np.maximum(enclosed, signed), 1e-9), 1e-9)


def is_polygon(polygon: Sequence[float]) -> bool:
    """Whether numbers x y x y … are three corners at least, which don't count the first again at the end."""
    if len(polygon) % 2 or len(polygon) < 6:
        return False
    return len(polygon) - 2 * (list(polygon[:2]) == list(polygon[-2:])) >= 6


def compute_mask_corners(entries: Sequence[dict], polygons: Polygons) -> np.ndarray:
    """Computes the least x and y and the largest of the masks of objects, (m, 4) float; nan of those without one."""
    corners = np.full((len(entries), 4), np.nan)
    if len(polygons.objects):
        owners, starts = np.unique(polygons.objects, return_index=True)
        corners[owners, :2] = np.minimum.reduceat(polygons.corners[:, :2], starts)
        corners[owners, 2:] = np.maximum.reduceat(polygons.corners[:, 2:], starts)
    for index, entry in enumerate(entries):
        mask = entry.get("segmentation")
        if isinstance(mask, dict):
            x, y, width, height = run_lengths.toBbox(compress_run_lengths(mask, *mask["size"]))
            corners[index] = x, y, x + width, y + height
    return corners
