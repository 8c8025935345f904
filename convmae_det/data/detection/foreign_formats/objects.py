"""What the readers of all formats give: images with their objects, in pixels.

H, W: height and width of an image; c corners.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from pycocotools import mask as run_lengths

from ..outlines import encode_outline

SAGITTA = 0.05  # pixels: how far the sides of a polygon may lie inside the ellipse that it stands for


class Labelled(NamedTuple):
    """An object of an image."""

    label: str  # its class
    box: np.ndarray  # (4,) float, x0 y0 x1 y1
    polygons: Sequence[np.ndarray] = ()  # (c, 2) float each; none of an object given by a box or a mask
    mask: dict | None = None  # of an object given by pixels: their run lengths, as in COCO's format
    crowd: bool = False
    place: str = ""  # in the label file, such as "line 3"


class LabelledImage(NamedTuple):
    """An image, and how to list its objects.

    `list_objects` takes width and height of the image, and raises a ValueError that says what is wrong, and where.
    """

    path: Path
    label_file: Path
    list_objects: Callable[[int, int], list[Labelled]]
    stated: tuple[int, int] | None = None  # width and height, where the label file says something
    split: str = ""  # such as "train", where the data set is split


class DataSet(NamedTuple):
    """What a reader gives."""

    images: Iterable[LabelledImage]
    root: Path  # folder of the images
    form: str  # what a label file must be, for errors: "an annotation file of LabelMe"
    classes: Sequence[str] | None = None  # in the order of their ids; None: those that occur, in alphabetical order
    named_in: str = "--categories"  # where the classes are named
    available: Sequence[Path] = ()  # images that are left out unless the annotations name them


def make_box(label: str, corners: Sequence[float], place: str = "") -> Labelled:
    """Makes an object of its box.

    Args:
        label: its class
        corners: x and y of a corner, then of the opposite one
        place: in the label file

    Raises:
        ValueError: a number is not finite.
    """
    pairs = np.sort(np.reshape(np.asarray(corners, float), (2, 2)), axis=0)
    _check_finite(pairs)
    return Labelled(label, pairs.flatten(), place=place)


def make_polygon(label: str, points: Sequence | np.ndarray, place: str = "") -> Labelled:
    """Makes an object of its outline, (c, 2).

    Raises:
        ValueError: a number is not finite, or there are fewer than three corners.
    """
    try:
        corners = np.asarray(points, float)
    except (TypeError, ValueError) as error:
        raise ValueError("its points are not pairs of numbers x and y") from error
    if corners.ndim != 2 or corners.shape[1] != 2:
        raise ValueError("its points are not pairs of x and y")
    if len(corners) < 3:
        raise ValueError(f"its outline has {len(corners)} corners, fewer than 3 points")
    _check_finite(corners)
    return Labelled(label, np.concatenate([corners.min(0), corners.max(0)]), [corners], place=place)


def make_curve(label: str, points: np.ndarray, size: tuple[int, int], place: str = "") -> Labelled:
    """Makes an object of an outline (c, 2) that was computed, of an ellipse or a turned box: what lies in the image.

    Raises:
        ValueError: nothing does.
    """
    whole = make_polygon(label, points, place).polygons[0]
    part = shapely.clip_by_rect(shapely.Polygon(whole), 0, 0, *size)
    if not isinstance(part, shapely.Polygon) or part.is_empty:
        raise ValueError(f"it lies outside its image of {size[0]}×{size[1]}")
    inside = (whole >= 0).all() and (whole <= size).all()
    return make_polygon(label, whole if inside else np.asarray(part.exterior.coords)[:-1], place)


def make_mask(
    label: str, pixels: np.ndarray, corner: tuple[int, int], size: tuple[int, int], place: str = ""
) -> Labelled | None:
    """Makes an object of its pixels; None if there are none.

    Args:
        label: its class
        pixels: a part of the image, 2-D, not 0 on the object
        corner: x and y of the part's upper left pixel
        size: W, H of the image
        place: in the label file

    Raises:
        ValueError: the part reaches outside the image.
    """
    (left, top), (width, height) = corner, size
    rows, columns = pixels.shape
    if left < 0 or top < 0 or left + columns > width or top + rows > height:
        raise ValueError(
            f"its mask of {columns}×{rows} pixels at x, y = {left}, {top} reaches outside its image of {width}×{height}"
        )
    y, x = np.nonzero(pixels)
    if not len(x):
        return None
    whole = np.zeros((height, width), np.uint8, order="F")
    whole[top : top + rows, left : left + columns] = pixels != 0
    box = np.array([x.min() + left, y.min() + top, x.max() + left + 1, y.max() + top + 1], float)
    return Labelled(label, box, mask=_pack(run_lengths.encode(whole)), place=place)


def outline_box(
    box: Sequence[float] | np.ndarray, degrees: float = 0, pivot: Sequence[float] | np.ndarray | None = None
) -> np.ndarray:
    """Computes the corners of a box x0 y0 x1 y1, turned clockwise around a point, its centre by default: (4, 2)."""
    x0, y0, x1, y1 = map(float, box)
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    return turn(corners, degrees, [(x0 + x1) / 2, (y0 + y1) / 2] if pivot is None else pivot)


def outline_ellipse(
    centre: Sequence[float] | np.ndarray, radii: Sequence[float] | np.ndarray, degrees: float = 0
) -> np.ndarray:
    """Computes a polygon that stands for an ellipse, turned clockwise: (c, 2).

    Raises:
        ValueError: a radius is negative.
    """
    longest = max(map(float, radii))
    _check_finite(np.array([*radii, *centre, degrees], float))
    if min(map(float, radii)) < 0:
        raise ValueError("its radius is negative")
    half = np.arccos(max(1 - SAGITTA / max(longest, SAGITTA), 0))  # the angle between a corner and a side's middle
    count = 4 * int(np.ceil(max(np.pi / half, 36) / 4))  # so that the ends of the axes are corners
    angles = np.arange(count) * 2 * np.pi / count
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return turn(np.asarray(centre, float) + np.asarray(radii, float) * circle, degrees, centre)


def turn(points: np.ndarray, degrees: float, pivot: Sequence[float] | np.ndarray) -> np.ndarray:
    """Turns points (c, 2) clockwise, as it is seen, around a pivot."""
    if not degrees:
        return points
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return (points - pivot) @ np.array([[cosine, sine], [-sine, cosine]]) + pivot


def group(objects: Sequence[tuple[object, Labelled]], size: tuple[int, int]) -> list[Labelled]:
    """Joins objects of the same class and group.

    Args:
        objects: each with its group; None and 0: it is an object by itself
        size: W, H of the image
    """
    groups: dict[tuple, list[Labelled]] = {}
    for number, (key, found) in enumerate(objects):
        alone = key is None or key == 0
        groups.setdefault((found.label, alone, number if alone else key), []).append(found)
    return [_join(parts, size) for parts in groups.values()]


def _join(parts: Sequence[Labelled], size: tuple[int, int]) -> Labelled:
    """Joins parts. A box around all the outlines is that of the object; other boxes beside outlines are parts."""
    if len(parts) == 1:
        return parts[0]
    outlined = [part for part in parts if part.polygons or part.mask]
    around = _surround(outlined) if outlined else None
    pieces = [
        part if part.polygons or part.mask or around is None else part._replace(polygons=[outline_box(part.box)])
        for part in parts
        if part.polygons or part.mask or around is None or not _encloses(part.box, around)
    ]
    joined = parts[0]._replace(box=_surround(pieces), crowd=any(part.crowd for part in parts))
    if not any(piece.mask for piece in pieces):
        return joined._replace(polygons=[polygon for piece in pieces for polygon in piece.polygons])
    masks = [
        encode_outline(
            piece.mask or [np.clip(part, 0, size).flatten().tolist() for part in piece.polygons], *size[::-1]
        )
        for piece in pieces
    ]
    return joined._replace(polygons=(), mask=_pack(run_lengths.merge(masks)))


def _pack(mask: Mapping) -> dict:
    """Makes JSON of the compressed run lengths of a mask."""
    return {"size": [int(side) for side in mask["size"]], "counts": mask["counts"].decode("ascii")}


def _surround(parts: Sequence[Labelled]) -> np.ndarray:
    boxes = np.stack([part.box for part in parts])
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])


def _encloses(box: np.ndarray, other: np.ndarray, tolerance: float = 1) -> bool:
    return bool((box[:2] <= other[:2] + tolerance).all() and (box[2:] >= other[2:] - tolerance).all())


def _check_finite(numbers: np.ndarray) -> None:
    if not np.isfinite(numbers).all():
        raise ValueError("a number is not finite")
