"""Masks as vertical runs of pixels: small whatever the size of the image is, and cut and united without drawing them.

H×W pixels of the image, n runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from .tiles import Tile


@dataclass(frozen=True)
class Runs:
    """The pixels of an object: of each run its column, its first row, and the row after its last one.

    They are sorted by column and row, and none touches another of its column.

    Attributes:
        columns: (n,) int64
        tops: (n,) int64
        bottoms: (n,) int64
    """

    columns: np.ndarray
    tops: np.ndarray
    bottoms: np.ndarray

    @classmethod
    def from_mask(cls, mask: np.ndarray, top: int = 0, left: int = 0) -> "Runs":
        """Reads a mask, (h, w) bool, whose first pixel lies at `top` and `left` of the image."""
        edges = np.diff(np.pad(mask, ((1, 1), (0, 0))).T.astype(np.int8))
        columns, tops = np.nonzero(edges == 1)
        return cls(columns + left, tops + top, np.nonzero(edges == -1)[1] + top)

    @classmethod
    def from_box(cls, box: Iterable[float]) -> "Runs":
        """Fills a box, x0 y0 x1 y1, rounded to whole pixels."""
        x0, y0, x1, y1 = (round(side) for side in box)
        columns = np.arange(x0, x1) if y1 > y0 else np.arange(0)
        return cls(columns, np.full(len(columns), y0), np.full(len(columns), y1))

    @classmethod
    def from_coco(cls, mask: dict[str, Any]) -> "Runs":
        """Reads COCO's run lengths of a whole image, compressed or not."""
        height = int(mask["size"][0])
        ends = np.cumsum(decode_run_lengths(mask["counts"]))
        starts, ends = ends[0:-1:2], ends[1::2]
        starts, ends = starts[ends > starts], ends[ends > starts]
        first = starts // height
        spread = (ends - 1) // height - first + 1  # columns that each takes part in
        columns = np.arange(spread.sum()) - np.repeat(np.cumsum(spread) - spread - first, spread)
        tops = np.maximum(np.repeat(starts, spread) - columns * height, 0)
        return cls(columns, tops, np.minimum(np.repeat(ends, spread) - columns * height, height))

    def to_coco(self, height: int, width: int) -> dict[str, Any]:
        """Converts it to COCO's compressed run lengths, "size" and "counts" as text, of an image of H×W pixels."""
        starts, ends = self.columns * height + self.tops, self.columns * height + self.bottoms
        begins = np.append(True, starts[1:] > ends[:-1])[: len(starts)]  # those that touch across columns are one
        starts, ends = starts[begins], ends[np.append(begins[1:], True)[: len(ends)]]
        changes = np.concatenate(([0], np.stack((starts, ends), axis=1).ravel(), [height * width]))
        counts = np.diff(changes)
        counts = counts[: len(counts) - (counts[-1] == 0)]
        lengths = {"counts": counts.tolist(), "size": [height, width]}
        encoded: Any = run_lengths.frPyObjects(lengths, height, width)
        return encoded | {"counts": encoded["counts"].decode("ascii")}

    def to_mask(self, tile: Tile) -> np.ndarray:
        """Draws the part in a tile: (height, width) bool."""
        part = self.clip(tile)
        steps = np.zeros((tile.height + 1, tile.width), np.int8)
        np.add.at(steps, (part.tops - tile.top, part.columns - tile.left), 1)
        np.add.at(steps, (part.bottoms - tile.top, part.columns - tile.left), -1)
        return np.cumsum(steps[:-1], axis=0, dtype=np.int8).astype(bool)

    @property
    def area(self) -> int:
        return int((self.bottoms - self.tops).sum())

    def find_extent(self) -> Tile:
        """Finds the smallest tile around it; of no pixel, one without any."""
        if not len(self.columns):
            return Tile(0, 0, 0, 0)
        top, left = int(self.tops.min()), int(self.columns[0])
        return Tile(top, left, int(self.bottoms.max()) - top, int(self.columns[-1]) + 1 - left)

    def clip(self, tile: Tile) -> "Runs":
        """Returns the part in a tile, where it is in the image."""
        tops, bottoms = np.maximum(self.tops, tile.top), np.minimum(self.bottoms, tile.bottom)
        kept = (self.columns >= tile.left) & (self.columns < tile.right) & (tops < bottoms)
        return Runs(self.columns[kept], tops[kept], bottoms[kept])

    def leave_out(self, tile: Tile) -> "Runs":
        """Returns what lies outside a tile."""
        beside = (self.columns < tile.left) | (self.columns >= tile.right)
        tops, bottoms = np.maximum(self.tops, tile.bottom), np.minimum(self.bottoms, tile.top)
        above, below = ~beside & (self.tops < bottoms), ~beside & (tops < self.bottoms)
        parts = [
            Runs(self.columns[beside], self.tops[beside], self.bottoms[beside]),
            Runs(self.columns[above], self.tops[above], bottoms[above]),
            Runs(self.columns[below], tops[below], self.bottoms[below]),
        ]
        return unite(parts)

    def move(self, down: int, right: int) -> "Runs":
        return Runs(self.columns + right, self.tops + down, self.bottoms + down)

    def resize(self, size: tuple[int, int], new_size: tuple[int, int]) -> "Runs":
        """Resizes it with its image, (height, width) each, by the nearest pixel."""
        (height, width), (new_height, new_width) = size, new_size

        def scale(places: np.ndarray, old: int, new: int) -> np.ndarray:  # the first pixel whose centre is not before
            return -((old - 2 * places * new) // (2 * old))

        first, last = (scale(self.columns + more, width, new_width) for more in (0, 1))
        tops, bottoms = (scale(rows, height, new_height) for rows in (self.tops, self.bottoms))
        copies = np.where(bottoms > tops, last - first, 0)
        columns = np.arange(copies.sum()) - np.repeat(np.cumsum(copies) - copies - first, copies)
        order = np.lexsort((np.repeat(tops, copies), columns))
        return unite([Runs(columns[order], np.repeat(tops, copies)[order], np.repeat(bottoms, copies)[order])])


def unite(parts: Iterable[Runs]) -> Runs:
    """Returns all pixels of several masks."""
    parts = list(parts)
    columns, tops, bottoms = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("columns", "tops", "bottoms")
    )
    if not len(columns):
        return Runs(columns, tops, bottoms)
    order = np.lexsort((tops, columns))
    stride = int(bottoms.max()) + 1  # in which no run touches one of the next column
    starts, ends = (columns * stride + tops)[order], np.maximum.accumulate((columns * stride + bottoms)[order])
    begins = np.append(True, starts[1:] > ends[:-1])
    starts, ends = starts[begins], ends[np.append(begins[1:], True)]
    return Runs(starts // stride, starts % stride, ends % stride)


def compute_agreement(one: Runs, other: Runs) -> float:
    """Computes the intersection over union; 0 of two without pixels."""
    whole = unite([one, other]).area
    return (one.area + other.area - whole) / whole if whole else 0.0


def decode_run_lengths(counts: Any) -> list[int]:
    """Decodes the run lengths of a mask in COCO's format, a list or text; empty if they are invalid."""
    if isinstance(counts, list):
        return counts if all(type(count) is int and count >= 0 for count in counts) else []
    try:
        text = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
    except (TypeError, ValueError):
        return []
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not len(digits) or not ((0 <= digits) & (digits < 64)).all() or digits[-1] & 32:
        return []
    starts = np.flatnonzero(np.append(True, ~digits[:-1] & 32))  # of numbers, in digits of five bits, the lowest first
    ends = np.append(starts[1:], len(digits)) - 1
    places = np.arange(len(digits)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 6:
        return []
    numbers = np.add.reduceat((digits & 31) << 5 * places, starts)
    numbers -= (digits[ends] >> 4 & 1) << 5 * (places[ends] + 1)  # the highest digit has the sign
    for first in (1, 2):  # from the third on, differences to the one before the last
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers.tolist() if (numbers >= 0).all() else []
