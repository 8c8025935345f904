"""Outlines of objects: polygons that cross themselves, and areas."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from pycocotools import mask as run_lengths


def split_outline(polygon: Sequence[float]) -> list[Sequence[float]]:
    """Splits an outline that crosses itself into parts that don't, with the same pixels inside by COCO's rule.

    COCO fills what an odd number of turns encloses; cropping would lose all but one side of a crossing.

    Args:
        polygon: x y x y …

    Returns:
        Polygons of the same form without holes; `polygon` itself if it doesn't cross itself, or encloses nothing.
    """
    outline = shapely.Polygon(np.reshape(polygon, (-1, 2)))
    if outline.is_valid:
        return [polygon]
    parts = [part for piece in list_polygons(shapely.make_valid(outline)) for part in _open_holes(piece)]
    return [np.asarray(part.exterior.coords)[:-1].flatten().tolist() for part in parts] or [polygon]


def compress_run_lengths(mask: Any, height: int, width: int) -> Any:
    """Converts the run lengths of a mask in COCO's format, a list or text, to text."""
    return run_lengths.frPyObjects(mask, height, width) if isinstance(mask["counts"], list) else mask


def encode_outline(outline: Any, height: int, width: int) -> Any:
    """Encodes an object, polygons or run lengths, as compressed run lengths, with the pixels that pycocotools fills."""
    if isinstance(outline, dict):
        return compress_run_lengths(outline, height, width)
    return run_lengths.merge(run_lengths.frPyObjects(outline, height, width))


def compute_area(annotation: Mapping, height: int, width: int) -> float:
    """Computes the area of an object in pixels: of its mask if it has one, else of its box.

    Args:
        annotation: "bbox" x y width height and, if there is one, "segmentation", polygons or run lengths
        height: of the image
        width: of the image
    """
    mask = annotation.get("segmentation")
    if isinstance(mask, dict):
        return float(run_lengths.area(compress_run_lengths(mask, height, width)))
    polygons = [np.reshape(part, (-1, 2)) for part in mask or () if len(part) >= 6 and len(part) % 2 == 0]
    parts = [part for polygon in polygons for part in list_polygons(shapely.make_valid(shapely.Polygon(polygon)))]
    return float(shapely.union_all(parts).area) or float(annotation["bbox"][2] * annotation["bbox"][3])


def list_polygons(geometry: shapely.Geometry) -> list[shapely.Polygon]:
    """Lists the polygons among what may also be lines and points."""
    parts = shapely.get_parts(shapely.get_parts(geometry))  # of collections, then of what these hold
    return [part for part in parts if isinstance(part, shapely.Polygon) and not part.is_empty]


def _open_holes(polygon: shapely.Polygon) -> Iterator[shapely.Polygon]:
    """Cuts a polygon at each of its holes, for COCO's polygons can have none."""
    if not polygon.interiors:
        yield polygon
        return
    left, low, right, high = polygon.bounds
    middle = shapely.Polygon(polygon.interiors[0]).representative_point().x
    for side in (shapely.box(left, low, middle, high), shapely.box(middle, low, right, high)):
        for part in list_polygons(polygon.intersection(side)):
            yield from _open_holes(part)
