"""Datumaro's format: a JSON file for each split, in the folder "annotations", beside the folder "images"."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as run_lengths

from ....errors import InputError
from ..annotation_file import find_geometry_problems
from ..outlines import compress_run_lengths
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
    outline_box,
    outline_ellipse,
)
from .reading import locate, read_json, report_file
from .recognition import recognize_file
from .source import ImageFolder, Source

FORM = "an annotation file of Datumaro"
SPLITS = {"default": "", "validation": "val"}  # what subsets are called here, where it is something else
OBJECTS = ("bbox", "polygon", "mask", "ellipse")


def read_datumaro(source: Source, account: Account) -> DataSet:
    """Reads a data set of Datumaro's: boxes, polygons, masks and ellipses; those of one group and label are one object.

    Args:
        source: `annotations` is a JSON file, the folder of these, or that in which "annotations" and "images" lie
        account: of annotations that are no objects

    Raises:
        InputError: something is missing or can't be read; names it.
    """
    given = source.annotations
    inner = given / "annotations" if (given / "annotations").is_dir() else given
    files = (
        [path for path in sorted(inner.glob("*.json")) if recognize_file(path) == "datumaro"]
        if given.is_dir()
        else [given]
    )
    if not files:
        raise InputError(f"{given} holds no annotation file of Datumaro: name one")
    top = files[0].parent.parent if files[0].parent.name == "annotations" else files[0].parent
    folder = source.open_images(account, top / "images" if (top / "images").is_dir() else top)
    images: list[LabelledImage] = []
    classes: list[str] = []
    for path in files:
        with report_file(path, FORM):
            content = read_json(path)
            names = [label["name"] for label in content["categories"]["label"]["labels"]]
            if classes and names != classes:
                raise ValueError(f"its classes are not those of {files[0].name}")
            classes = names
            images += _list_images(content["items"], names, folder, path, account)
    return DataSet(images, folder.root, FORM, classes, str(files[0]), folder.paths)


def _list_images(
    items: Sequence[dict], names: Sequence[str], folder: ImageFolder, path: Path, account: Account
) -> list[LabelledImage]:
    split, images = SPLITS.get(path.stem, path.stem), []
    for number, item in enumerate(items, 1):
        with locate(f"item {number}"):
            media = item.get("image") or {}
            name = media.get("path") or item["id"]
            size = media.get("size")
            stated = (int(size[1]), int(size[0])) if size else None
            annotations = item["annotations"]
        if image := folder.find(name, path, path.stem, stated):
            read = functools.partial(_list_objects, annotations, names, item["id"], account)
            images.append(LabelledImage(image, path, read, stated, split))
    return images


def _list_objects(
    annotations: Sequence[dict], names: Sequence[str], item: str, account: Account, width: int, height: int
) -> list[Labelled]:
    objects = []
    for number, annotation in enumerate(annotations, 1):
        with locate(place := f"item {item}, annotation {number}"):
            kind = annotation["type"]
            if kind not in OBJECTS:
                account.leave_out(f"annotations of the type {kind}, which are no objects", item)
                continue
            if (index := annotation.get("label_id")) is None:
                account.leave_out("annotations without a label", item)
                continue
            if not 0 <= index < len(names):
                raise ValueError(f"its label_id {index} is not one of the {len(names)} labels")
            found = _make_object(annotation, names[index], (width, height), place)
            if found:
                crowd = bool((annotation.get("attributes") or {}).get("is_crowd"))
                objects.append((annotation.get("group"), found._replace(crowd=crowd)))
            else:
                account.leave_out("masks without a pixel", item)
    return group(objects, (width, height))


def _make_object(annotation: dict, label: str, size: tuple[int, int], place: str) -> Labelled | None:
    kind = annotation["type"]
    if kind == "mask":
        mask = annotation["rle"]
        if problem := next(
            find_geometry_problems({"bbox": (0, 0, 0, 0), "segmentation": mask}, size[1], size[0]), None
        ):
            raise ValueError(f"it {problem}")
        return make_mask(label, run_lengths.decode(compress_run_lengths(mask, *mask["size"])), (0, 0), size, place)
    if kind == "bbox":
        x, y, width, height = map(float, annotation["bbox"])
        degrees = float((annotation.get("attributes") or {}).get("rotation") or 0)
        corners = [x, y, x + width, y + height]
        turned = outline_box(corners, degrees)
        return make_curve(label, turned, size, place) if degrees else make_box(label, corners, place)
    if kind == "ellipse":
        x0, y0, x1, y1 = map(float, annotation["points"])
        outline = outline_ellipse([(x0 + x1) / 2, (y0 + y1) / 2], [(x1 - x0) / 2, (y1 - y0) / 2])
        return make_curve(label, outline, size, place)
    return make_polygon(label, np.reshape(annotation["points"], (-1, 2)), place)
