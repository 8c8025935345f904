"""The shape of an annotated object, its mask or else its box, which tiles cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from detectron2.structures import BoxMode
from shapely.errors import ShapelyError

from ..runs import Runs
from ..tiles import Tile
from .outlines import list_polygons, split_outline

Box = tuple[float, float, float, float]  # x0 y0 x1 y1

# What annotations raise that can't be used.
UNUSABLE = (ValueError, TypeError, LookupError, AttributeError, AssertionError, ShapelyError)


def describe_unusable(file_name: str, error: Exception) -> str:
    """Makes the sentence of an InputError about an image's annotations."""
    return (
        f"The annotations of {file_name} can't be used ({str(error) or type(error).__name__}): correct them, or take "
        "the image out of the data set."
    )


@dataclass(frozen=True)
class Shape:
    """A box and, if there is a mask, its polygons or its runs.

    Attributes:
        box: x0 y0 x1 y1
        outlines: that don't cross themselves
        runs: of a mask in run lengths
    """

    box: Box
    outlines: tuple[shapely.Polygon, ...] | None = None
    runs: Runs | None = None

    @property
    def area(self) -> float:
        if self.runs is not None:
            return self.runs.area
        if self.outlines is not None:
            return sum(outline.area for outline in self.outlines)
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, 0) * max(y1 - y0, 0)

    def clip(self, tile: Tile) -> "Shape":
        """Returns the part in a tile, where it is in the image."""
        if self.runs is not None:
            runs = self.runs.clip(tile)
            return Shape(_intersect(self.box, runs.find_extent().box), runs=runs)
        if self.outlines is None:
            return Shape(_intersect(self.box, tile.box))
        frame = shapely.box(*tile.box)
        parts = (outline if frame.contains(outline) else outline & frame for outline in self.outlines)
        outlines = tuple(polygon for part in parts for polygon in list_polygons(part))
        bounds = shapely.MultiPolygon(outlines).bounds if outlines else (0, 0, 0, 0)
        return Shape(_intersect(_intersect(self.box, tile.box), bounds), outlines)

    def describe_mask(self, tile: Tile) -> Any:
        """Returns the mask in COCO's format, within a tile that contains it; None without one."""
        if self.runs is not None:
            return self.runs.move(-tile.top, -tile.left).to_coco(tile.height, tile.width)
        if self.outlines is None:
            return None
        corners = (np.asarray(outline.exterior.coords)[:-1] for outline in self.outlines)
        return [(points - (tile.left, tile.top)).ravel().tolist() for points in corners]


def _intersect(one: Sequence[float], other: Sequence[float]) -> Box:
    """Returns what two boxes share."""
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])


def read_shape(annotation: dict) -> Shape:
    """Reads the shape of an annotation in Detectron2's format."""
    box = BoxMode.convert(list(annotation["bbox"][:4]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    x0, y0, x1, y1 = (float(side) for side in box)
    mask = annotation.get("segmentation")
    if isinstance(mask, dict):
        return Shape((x0, y0, x1, y1), runs=Runs.from_coco(mask))
    if not mask:
        return Shape((x0, y0, x1, y1))
    outlines = [shapely.Polygon(np.reshape(part, (-1, 2))) for polygon in mask for part in split_outline(polygon)]
    return Shape((x0, y0, x1, y1), tuple(outline for outline in outlines if outline.is_valid))
