"""LabelMe's format: a JSON file for each image, which names it and lists shapes in pixels."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path, PureWindowsPath

import numpy as np

from ....errors import InputError
from ...image import DEFAULT, Decoding
from .conversion import LABELME, Labelled, Source, build_content, check_folders, describe_format, name_classes

logger = logging.getLogger(__name__)

CORNERS = {"polygon": 3, "rectangle": 2}  # at least, of the shapes that are objects


def convert_labelme(
    images: Path,
    labels: Path,
    categories: Sequence[str] | None = None,
    chosen: Path | None = None,
    *,
    decoding: Decoding = DEFAULT,
) -> dict:
    """Converts a data set of LabelMe's: rectangles and polygons, those of one group and label being one object.

    Other shapes are left out, and logged. The arguments are those of :func:`convert_voc`, `labels` the folder of the
    .json files, each of which names its image.

    Raises:
        InputError: as :func:`convert_yolo`.
    """
    source = Source(images, labels, ".json", "--categories", chosen, decoding)
    check_folders(source)
    objects: dict[Path, list[Labelled]] = {}
    left_out: Counter[str] = Counter()
    for path in sorted(labels.glob("*.json")):
        content = _read_labels(path)
        image = images / PureWindowsPath(content["imagePath"]).name
        if image in objects:
            raise InputError(f"{path} and an earlier file of {labels} both label {image.name}: remove one")
        objects[image] = _group_shapes([shape for shape in content["shapes"] if shape["shape_type"] in CORNERS])
        left_out.update(shape["shape_type"] for shape in content["shapes"] if shape["shape_type"] not in CORNERS)
    if left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
        logger.warning(f"{labels}: left out {kinds}: only rectangles and polygons are objects")
    classes = name_classes(categories, chain.from_iterable(objects.values()))
    return build_content(source, sorted(objects), classes, lambda path, size: objects[path])


def _read_labels(path: Path) -> dict:
    """Reads and checks a file: "imagePath", and "shapes" with "label", "points" and "shape_type" as in all versions."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content["imagePath"], str) or not PureWindowsPath(content["imagePath"]).name:
            raise ValueError("imagePath names no image")
        for shape in content["shapes"]:
            shape.setdefault("shape_type", "polygon")
            points = np.array(shape["points"], dtype=float)
            least = CORNERS.get(shape["shape_type"], 0)
            if not isinstance(shape["label"], str) or (least and (points.ndim, points.shape[-1]) != (2, 2)):
                raise ValueError("a shape has no label, or points that are not pairs of x and y")
            if len(points) < least or not np.isfinite(points).all():
                raise ValueError(f"a {shape['shape_type']} has fewer than {least} points, or some that are not finite")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        known = f"it is {describe_format(path)}" if path.is_file() else str(error)
        reason = str(error) if LABELME in known else known
        raise InputError(f"{path} is not an annotation file of LabelMe ({reason}): correct or remove it") from error
    return content


def _group_shapes(shapes: Sequence[dict]) -> list[Labelled]:
    """Makes objects of rectangles and polygons: shapes with the same label and a group number are one."""
    groups: dict[tuple, list[dict]] = {}
    for number, shape in enumerate(shapes):
        group = shape.get("group_id")
        key = (shape["label"], "alone", number) if group is None else (shape["label"], "group", group)
        groups.setdefault(key, []).append(shape)
    objects = []
    for (label, *_), group in groups.items():
        points = [np.array(shape["points"], dtype=float) for shape in group]
        corners = np.concatenate(points)
        polygons = [
            points if shape["shape_type"] == "polygon" else _outline_rectangle(points)
            for shape, points in zip(group, points, strict=True)
        ]
        outlined = any(shape["shape_type"] == "polygon" for shape in group)
        box = np.concatenate([corners.min(0), corners.max(0)])
        objects.append(Labelled(label, box, polygons if outlined else []))
    return objects


def _outline_rectangle(points: np.ndarray) -> np.ndarray:
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
