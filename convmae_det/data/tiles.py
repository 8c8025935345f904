"""Tiles: overlapping rectangles, all of one size, that cover an image."""

import itertools
import math
from typing import NamedTuple


class Tile(NamedTuple):
    """A rectangle of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0 y0 x1 y1"""
        return self.left, self.top, self.right, self.bottom

    def intersect(self, other: "Tile") -> "Tile":
        """Returns what two tiles share; its height or width is 0 if they share nothing."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        height, width = min(self.bottom, other.bottom) - top, min(self.right, other.right) - left
        return Tile(top, left, max(height, 0), max(width, 0))

    def contains(self, other: "Tile") -> bool:
        return self.intersect(other) == other


def list_tiles(height: int, width: int, size: int, overlap: float) -> list[Tile]:
    """Lists the tiles of an image, row by row.

    Args:
        height: of the image, in pixels
        width: of the image
        size: side of a tile; one side of the image that is shorter is the tile's
        overlap: the least share of a tile's side that neighbours have in common, 0 to below 1, at least one pixel

    Returns:
        As few as cover the image, evenly spread.
    """
    places = itertools.product(_list_starts(height, size, overlap), _list_starts(width, size, overlap))
    return [Tile(top, left, min(size, height), min(size, width)) for top, left in places]


def _list_starts(side: int, size: int, overlap: float) -> list[int]:
    """Lists where tiles begin along a side."""
    last = side - size
    if last <= 0:
        return [0]
    step = max(1, size - max(1, math.ceil(size * overlap)))
    count = math.ceil(last / step)
    return [last * number // count for number in range(count + 1)]
