"""Label Studio's format, "JSON": a list of tasks with the annotations of each; places are percentages of the image."""

import base64
import functools
import io
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from PIL import Image

from ...file_kinds import SUFFIXES
from .account import Account
from .objects import (
    DataSet,
    Labelled,
    LabelledImage,
    make_box,
    make_curve,
    make_mask,
    make_polygon,
    outline_box,
    outline_ellipse,
)
from .reading import locate, read_json, report_file
from .recognition import find_file
from .run_lengths import unpack_brush
from .source import ImageFolder, Source

FORM = "an export of Label Studio as JSON"
# What is an object, and what only it has under "value".
KINDS = {"brush": "rle", "bitmask": "imageDataURL", "polygon": "points", "ellipse": "radiusX", "rectangle": "width"}
UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the names of uploaded files


def read_label_studio(source: Source, account: Account) -> DataSet:
    """Reads an export of Label Studio's: rectangles, polygons, ellipses, brush strokes and bitmaps.

    Of several annotations of a task, that marked as ground truth is taken, else the one that was changed last.

    Args:
        source: `annotations` is the JSON file, or the folder that holds it
        account: of tasks without an annotation, cancelled and further annotations, predictions, regions of other kinds

    Raises:
        InputError: something is missing or can't be read; names it.
    """
    path = find_file(source.annotations, "label-studio", "the JSON file")
    folder = source.open_images(account)
    with report_file(path, FORM):
        tasks = read_json(path)
        if not isinstance(tasks, list):
            raise ValueError("it is no list of tasks")
        images = [
            image for number, task in enumerate(tasks, 1) if (image := _read_task(task, number, folder, path, account))
        ]
    return DataSet(images, folder.root, FORM, available=folder.paths)


def _read_task(task: dict, number: int, folder: ImageFolder, path: Path, account: Account) -> LabelledImage | None:
    with locate(place := f"task {task.get('id', number)}" if isinstance(task, dict) else f"task {number}"):
        name = _find_image_name(task["data"])
        annotations = task["annotations"] if "annotations" in task else task["completions"]
        account.leave_out("predictions", place, len(task.get("predictions") or ()))
        account.leave_out("drafts of annotations", place, len(task.get("drafts") or ()))
        valid = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
        account.leave_out("cancelled annotations", place, len(annotations) - len(valid))
        if not valid:
            account.leave_out("tasks without an annotation, with their images", place)
            return None
        account.leave_out("further annotations of a task that has several", place, len(valid) - 1)
        order = [(bool(item.get("ground_truth")), str(item.get("updated_at") or ""), i) for i, item in enumerate(valid)]
        regions = valid[max(order)[-1]]["result"] or []
        sizes = {
            (int(region["original_width"]), int(region["original_height"]))
            for region in regions
            if "original_width" in region
        }
        if len(sizes) > 1:
            raise ValueError("its regions are of images of different sizes, but one image is wanted for each task")
    stated = next(iter(sizes), None)
    image = _find_image(name, folder, path, stated)
    if image is None:
        return None
    return LabelledImage(image, path, functools.partial(_list_objects, regions, place, account), stated)


def _find_image_name(data: dict) -> str:
    """Finds the path in a task's data that is an image's.

    Raises:
        ValueError: there is none, or several.
    """
    values = [data["image"]] if isinstance(data.get("image"), str) else data.values()
    names = {str(value): _read_address(value) for value in values if isinstance(value, str)}
    images = [name for name in names.values() if name.lower().endswith(SUFFIXES)] or list(names.values())
    if len(images) != 1:
        raise ValueError(f"its data name {len(images)} images, but one is wanted for each task")
    return images[0]


def _read_address(address: str) -> str:
    """Reads the path in an address: of an upload, of local files (?d=path), of a store."""
    parts = urlsplit(address)
    return parse_qs(parts.query).get("d", [unquote(parts.path)])[0]


def _find_image(name: str, folder: ImageFolder, path: Path, stated: tuple[int, int] | None) -> Path | None:
    """Finds an image by its name, or, where it isn't there, by that which it had before it was uploaded."""
    last = name.rpartition("/")[2]
    original = UPLOAD.sub("", last)
    return folder.find(original if original != last and not folder.has(last) else name, path, stated=stated)


def _list_objects(regions: Sequence[dict], place: str, account: Account, width: int, height: int) -> list[Labelled]:
    objects = []
    labelled = {region.get("id") for region in regions if _list_labels(region)} - {None}
    for number, region in enumerate(regions, 1):
        with locate(where := f"{place}, region {number}"):
            labels = _list_labels(region)
            if not labels and (region.get("id") in labelled or "value" not in region):
                continue  # the place, without a label, of a region that follows with it; a relation
            if region.get("image_rotation"):
                raise ValueError(
                    f"its image was turned by {region['image_rotation']} degrees: turn it back, and annotate it"
                )
            value = region["value"]
            if not (kind := _find_kind(region)):
                account.leave_out(f"results of the type {region.get('type')}, which are no objects", place)
            elif not labels:
                account.leave_out("regions without a label", place)
            elif kind == "polygon" and len(value["points"]) < 3:
                account.leave_out("polygons of fewer than three corners", place)
            else:
                found = _make_object(kind, value, (width, height), where)
                account.leave_out("masks without a pixel", place, not found)
                objects += [found._replace(label=label) for label in labels] if found else []
    return objects


def _list_labels(region: dict) -> list[str]:
    """Lists the labels of a region, under "labels", "rectanglelabels", …; several make an object of each."""
    value = region.get("value") or {}
    return [
        label
        for key, labels in value.items()
        if key.endswith("labels") and isinstance(labels, list)
        for label in labels
    ]


def _find_kind(region: dict) -> str:
    """Finds what a region is, by its type, or by its place where that says only that it has a label.

    Returns:
        A key of KINDS; "" if it is no object.
    """
    kind = region["type"].removesuffix("labels")
    if kind:
        return kind if kind in KINDS else ""
    return next((kind for kind, key in KINDS.items() if key in region["value"]), "")


def _make_object(kind: str, value: dict, size: tuple[int, int], place: str) -> Labelled | None:
    """Makes an object without a label of a region."""
    scale, degrees = np.array(size) / 100, float(value.get("rotation") or 0)
    if kind == "brush":
        return make_mask("", unpack_brush(value["rle"], *size), (0, 0), size, place)
    if kind == "bitmask":
        with Image.open(io.BytesIO(base64.b64decode(value["imageDataURL"].partition(",")[2]))) as image:
            pixels = np.array(image.convert("RGBA"))
        if pixels.shape[:2] != size[::-1]:
            raise ValueError(f"its bitmap is {pixels.shape[1]}×{pixels.shape[0]}, but its image {size[0]}×{size[1]}")
        return make_mask("", pixels[:, :, 3] * (pixels[:, :, :3].max(axis=2) > 0), (0, 0), size, place)
    if kind == "polygon":
        return make_polygon("", np.asarray(value["points"], float) * scale, place)
    corner = np.array([value["x"], value["y"]], float) * scale
    if kind == "ellipse":
        return make_curve(
            "", outline_ellipse(corner, [value["radiusX"], value["radiusY"]] * scale, degrees), size, place
        )
    sides = np.array([value["width"], value["height"]], float) * scale
    box = [*corner, *(corner + sides)]
    turned = outline_box(box, degrees, corner)
    return make_curve("", turned, size, place) if degrees else make_box("", box, place)
