"""LabelMe's format: a JSON file for each image, which names it and lists shapes in pixels."""

import base64
import functools
import io
import os
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image

from ....errors import InputError
from .account import Account
from .objects import (
    DataSet,
    Labelled,
    LabelledImage,
    group,
    make_box,
    make_curve,
    make_mask,
    make_polygon,
    outline_ellipse,
)
from .reading import locate, read_json, report_file
from .recognition import COCO, describe_file, recognize_file
from .source import Source, check_folder, list_files

FORM = "an annotation file of LabelMe"
LEAST = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2, "oriented_rectangle": 4}  # points of what is an object


def read_labelme(source: Source, account: Account) -> DataSet:
    """Reads a data set of LabelMe's: shapes that enclose something, those of one group and label being one object.

    Args:
        source: `annotations` is the folder of label files, each of which names its image
        account: of points and lines, which are left out

    Raises:
        InputError: something is missing or can't be read; names it.
    """
    labels = source.annotations
    check_folder(labels)
    folder = source.open_images(account, labels)
    files = list_files(labels, [".json"])
    others = [path for path in sorted(labels.iterdir()) if path.suffix.lower() in (".txt", ".xml")]
    if others and not files:
        raise InputError(f"{labels} holds no .json files; {others[0].name} is {describe_file(others[0])}")
    images = []
    for path in files:
        try:
            with report_file(path, FORM):
                content = _read_labels(path)
        except InputError:
            if recognize_file(path) == COCO:  # written by an earlier conversion
                account.leave_out("files in COCO's format", path.name)
                continue
            if "LabelMe" not in (kind := describe_file(path)):
                raise InputError(f"{path} is not {FORM} (it is {kind}): correct or remove it") from None
            raise
        name = content["imagePath"]
        if source.images is None:  # relative to the label file
            name = os.path.normpath(path.parent.relative_to(labels) / name.replace("\\", "/"))
        stated = _read_size(content)
        if image := folder.find(name, path, stated=stated):
            read = functools.partial(_list_objects, content["shapes"], path, account)
            images.append(LabelledImage(image, path, read, stated))
    return DataSet(images, folder.root, FORM, available=folder.paths)


def _read_labels(path: Path) -> dict:
    content = read_json(path)
    if not isinstance(content["imagePath"], str) or not PureWindowsPath(content["imagePath"]).name:
        raise ValueError("imagePath names no image")
    if not isinstance(content["shapes"], list):
        raise ValueError("its shapes are not a list")
    content.pop("imageData", None)  # the image itself
    for side in ("imageWidth", "imageHeight"):
        content[side] = int(content.get(side) or 0)
    return content


def _read_size(content: dict) -> tuple[int, int] | None:
    width, height = content["imageWidth"], content["imageHeight"]
    return (width, height) if width and height else None


def _list_objects(shapes: Sequence[dict], path: Path, account: Account, width: int, height: int) -> list[Labelled]:
    objects = []
    for number, shape in enumerate(shapes, 1):
        with locate(place := f"shape {number}"):
            kind = shape.get("shape_type") or "polygon"
            if not isinstance(shape["label"], str) or not shape["label"]:
                raise ValueError("it has no label")
            if kind not in LEAST:
                account.leave_out(f"shapes of the kind {kind}, which enclose nothing", path.name)
                continue
            points = np.array(shape["points"], float)
            if points.ndim != 2 or points.shape[1] != 2 or len(points) < LEAST[kind]:
                raise ValueError(f"a {kind} has fewer than {LEAST[kind]} points, or some that are not pairs of x and y")
            found = _make_object(kind, shape, points, (width, height), place)
        if found:
            objects.append((shape.get("group_id"), found))
        else:
            account.leave_out("masks without a pixel", path.name)
    return group([(None if key is None else (key,), found) for key, found in objects], (width, height))


def _make_object(kind: str, shape: dict, points: np.ndarray, size: tuple[int, int], place: str) -> Labelled | None:
    label = shape["label"]
    if kind == "rectangle":
        return make_box(label, [*points.min(0), *points.max(0)], place)
    if kind == "circle":  # its centre, and a point on it
        radius = np.hypot(*(points[1] - points[0]))
        return make_curve(label, outline_ellipse(points[0], [radius, radius]), size, place)
    if kind == "mask":
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
            pixels = np.array(image)
        left, top = np.round(points.min(0)).astype(int).tolist()
        return make_mask(label, pixels, (left, top), size, place)
    if kind == "oriented_rectangle":
        return make_curve(label, points, size, place)
    return make_polygon(label, points, place)
