"""Data sets in COCO's format: those that the configuration names, and how the images of any are described."""

import functools
import logging
import os
from collections.abc import Iterable, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ...errors import InputError
from ...files import describe_missing_folder
from .annotation_file import read_annotation_file
from .categories import read_categories
from .entries import Form, choose_entries
from .outlines import compress_run_lengths

logger = logging.getLogger(__name__)


def register_coco_format(
    entries: Iterable[Sequence[str]], *, only: Sequence[str] | None = None, missing_ok: bool = False
) -> None:
    """Registers data sets with Detectron2, with the names of their classes and the ids of their categories.

    Registering again costs nothing; an entry whose paths, or whose file, have changed replaces the earlier one.

    Args:
        entries: of name, annotation file and folder of images, as in DATASETS.COCO_FORMAT
        only: register entries of these names alone; None for all
        missing_ok: ignore entries whose file or folder doesn't exist

    Raises:
        InputError: an entry that isn't such a triple, no such file or folder, or a name used twice or by another data
            set. The content of the file is checked when the data set is loaded.
    """
    for name, json_file, image_root in choose_entries(entries, FORM, only, missing_ok):
        _register(name, json_file, image_root)


def _find_missing(entry: Sequence[str], json_file: str, image_root: str) -> tuple[str, str] | None:
    if not os.path.isfile(json_file):
        return f"{entry[1]}, the annotation file", "doesn't exist: correct it"
    problem = describe_missing_folder(image_root)
    return (f"{entry[2]}, the folder of images", problem) if problem else None


FORM = Form(
    "DATASETS.COCO_FORMAT",
    3,
    "a list of triples, [[name, annotations.json, image folder], ...]",
    "coco_format",
    _find_missing,
)


def _register(name: str, json_file: str, image_root: str) -> None:
    state = os.stat(json_file)
    source = json_file, image_root, state.st_mtime_ns, state.st_size
    if name in DatasetCatalog and MetadataCatalog.get(name).coco_format == source:
        return
    DatasetCatalog.pop(name, None)
    MetadataCatalog.pop(name, None)  # its attributes can't be changed
    try:
        categories = read_categories(json_file)
    except OSError as error:
        raise InputError(f"{json_file} can't be read ({error.strerror}): make it readable.") from error
    DatasetCatalog.register(name, functools.partial(load_coco_format, json_file, image_root, name))
    metadata = MetadataCatalog.get(name)
    metadata.set(json_file=json_file, image_root=image_root, evaluator_type="coco", coco_format=source)
    if categories:
        metadata.thing_classes = [name for _, name in categories]
        metadata.thing_dataset_id_to_contiguous_id = {number: i for i, (number, _) in enumerate(categories)}


def is_coco_format(name: str) -> bool:
    """Whether a registered data set is a file in COCO's format, read by nobody's own code."""
    read = DatasetCatalog[name]
    return isinstance(read, functools.partial) or read.__module__ == "detectron2.data.datasets.coco"


def load_coco_format(json_file: str, image_root: str, name: str) -> list[dict]:
    """Reads and checks a file in COCO's format; returns its images in Detectron2's, as Detectron2 itself would.

    Raises:
        InputError: the file can't be used.
    """
    return describe_images(read_annotation_file(json_file, image_root, is_train=False), image_root, name)


def describe_images(content: dict, image_root: str, name: str = "", masks: bool = True) -> list[dict]:
    """Converts the content of a file in COCO's format to Detectron2's descriptions of images.

    Args:
        content: from :func:`read_content`; not changed
        image_root: the image folder
        name: of the data set, whose classes are noted in Detectron2's catalog; empty: of none, and the objects keep
            their original categories
        masks: whether masks are needed; objects whose outlines have fewer than three corners are then left out

    Returns:
        "file_name", "height", "width", "image_id" and, where the file has any, "annotations" of each image, by rising
        id where these are numbers.
    """
    classes = {category["id"]: category["name"] for category in content["categories"]}
    numbers = {number: index if name else number for index, number in enumerate(sorted(classes))}
    images = {image["id"]: _describe_image(image, image_root) for image in sort_images(content["images"])}
    if "annotations" in content:
        for image in images.values():
            image["annotations"] = []
    left_out = 0
    for annotation in content.get("annotations", ()):
        described = _describe_object(annotation) | {"category_id": numbers[annotation["category_id"]]}
        if masks and annotation.get("segmentation") and "segmentation" not in described:
            left_out += 1
        else:
            images[annotation["image_id"]]["annotations"].append(described)
    if left_out:
        logger.warning(f"{name}: {left_out} objects are left out, whose outlines have fewer than three corners")
    if name:
        metadata = MetadataCatalog.get(name)
        names = [classes[number] for number in numbers]
        for key, value in (("thing_classes", names), ("thing_dataset_id_to_contiguous_id", numbers)):
            if metadata.get(key) is None:  # else it was registered with them
                metadata.set(**{key: value})
    return list(images.values())


def sort_images(images: Sequence[dict]) -> Sequence[dict]:
    """Sorts entries of "images" by id, if all ids are numbers; otherwise their order in the file stays."""
    return sorted(images, key=lambda image: image["id"]) if all(type(x["id"]) is int for x in images) else images


def _describe_image(image: dict, image_root: str) -> dict:
    path = os.path.join(image_root, image["file_name"])
    return {"file_name": path, "height": image["height"], "width": image["width"], "image_id": image["id"]}


def _describe_object(annotation: dict) -> dict:
    described = {key: annotation[key] for key in ("iscrowd", "bbox") if key in annotation}
    mask, keypoints = annotation.get("segmentation"), annotation.get("keypoints")
    if isinstance(mask, dict):
        described["segmentation"] = compress_run_lengths(mask, *mask["size"])
    elif polygons := [polygon for polygon in mask or () if len(polygon) >= 6 and len(polygon) % 2 == 0]:
        described["segmentation"] = polygons
    if keypoints:  # COCO's are numbers of pixels, Detectron2's coordinates: the middle of pixel 0 is 0.5
        described["keypoints"] = [value + 0.5 * (i % 3 != 2) for i, value in enumerate(keypoints)]
    return described | {"bbox_mode": BoxMode.XYWH_ABS}
