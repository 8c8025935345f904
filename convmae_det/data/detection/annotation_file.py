"""Finds errors in annotation files in COCO's format, and describes the first in one sentence.

Detectron2 and pycocotools fail on a bad file with whatever exception the first bad entry causes, or ignore it.
"""

import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...errors import InputError, shorten_list
from ..runs import decode_run_lengths
from .variants import distinguish_names, is_outside_folder, unify_content

# Coordinates may lie outside the image, but no further than this many times its longer side: drawing an outline costs
# memory and time in proportion to its length.
MAX_DISTANCE = 10
GZIP = b"\x1f\x8b"  # the first bytes of what it has packed

SECTIONS = {
    "images": ("id", "file_name", "height", "width"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
}


def read_annotation_file(path: str | os.PathLike, image_root: str | None = None, **required: Any) -> dict:
    """Reads a file as :func:`read_content` does and checks it; `required` as for :func:`check_content`."""
    content = read_content(path, image_root)
    check_content(content, path, **required)
    return content


def read_content(path: str | os.PathLike, image_root: str | None = None) -> Any:
    """Reads an annotation file, and brings it to one form by `variants.unify_content`; nothing else is checked.

    Args:
        path: of the file, in UTF-8, or in UTF-16 or UTF-32 with a byte order mark
        image_root: the image folder, to which paths in the file become relative; None if it isn't known

    Raises:
        InputError: it can't be read, or is not JSON.
    """
    content = read_json(path)
    unify_content(content, image_root)
    return content


def check_content(
    content: Any,
    path: str | os.PathLike,
    *,
    is_train: bool,
    class_names: Sequence[str] | None = None,
    masks: bool | None = None,
) -> None:
    """Checks everything that training and evaluation assume of an annotation file.

    In training, objects whose polygons have fewer than three corners are no error: they are left out and counted.

    Args:
        content: from :func:`read_content`
        path: of the file, for errors
        is_train: whether annotations are required
        class_names: required names of the data set's categories, by ascending id; None for any
        masks: whether masks are evaluated beside the boxes; None: nothing is evaluated

    Raises:
        InputError: the first thing that is wrong, and where.
    """
    problem = next(_find_problems(content, is_train, class_names, masks), None)
    if problem:
        raise InputError(f"{path}: {problem}; correct the file, which must be in COCO's format.")


def check_masks(content: dict, path: str | os.PathLike) -> None:
    """Checks that all objects have what masks are evaluated with; the content has passed :func:`check_content`.

    Raises:
        InputError: one has not.
    """
    for annotation in content["annotations"]:
        if problem := next(find_evaluation_problems(annotation, True), None):
            raise InputError(f"{path}: annotation {annotation['id']} {problem}")


def read_image_entries(path: str | os.PathLike, image_root: str | None = None) -> list[dict]:
    """Reads the entries of "images", whatever else the file holds.

    Raises:
        InputError: it is not JSON, or has no images.
    """
    content = read_content(path, image_root)
    problem = next(find_problems_of_images(content), None)
    if problem:
        raise InputError(f"{path}: {problem}; correct the file, which must be in COCO's format.")
    return content["images"]


def read_json(path: str | os.PathLike) -> Any:
    """Reads a file of annotations or results.

    Raises:
        InputError: it can't be read, or is not JSON.
    """
    content = b""
    try:
        with open(path, "rb") as file:
            content = file.read()
        return json.loads(content)  # which finds out about byte order marks
    except OSError as error:
        raise InputError(
            f"{path} can't be read ({error.strerror}); it must be a readable file in COCO's format."
        ) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except (ValueError, RecursionError) as error:  # not text, a number of thousands of digits, endless brackets
        if content.startswith(GZIP):
            raise InputError(f"{path} is packed by gzip: unpack it, and name the file that comes out") from error
        place = str(error)
    raise InputError(f"{path} is not JSON ({place}); restore the file, which must be in COCO's format.")


def _find_problems(
    content: Any, is_train: bool, class_names: Sequence[str] | None, masks: bool | None
) -> Iterator[str]:
    """Yields what is wrong, most serious first. Each check relies on those before it, so only the first is valid."""
    yield from find_problems_of_images(content)
    for section in ("categories", "annotations"):
        if section in content or section != "annotations" or is_train:
            yield from find_section_problems(content, section)
    if not content["categories"]:
        yield "it lists no categories"
    for category in content["categories"]:
        if not isinstance(category["name"], str):
            yield f"category {category['id']} has the name {category['name']!r}, which is not a string"
    categories = {category["id"]: category["name"] for category in content["categories"]}
    ids, names = sorted(categories), [categories[number] for number in sorted(categories)]
    known = None if class_names is None else distinguish_names(list(itertools.zip_longest(ids, class_names)))
    if class_names is not None and names != known:
        yield (
            f"its {len(names)} categories ({shorten_list(names, 3)}) are not the {len(class_names)} "
            f"({shorten_list(class_names, 3)}) that the data set is registered with"
        )
    images = {image["id"]: image for image in content["images"]}
    for annotation in content.get("annotations", []):
        evaluation = () if masks is None else find_evaluation_problems(annotation, masks)
        for problem in itertools.chain(find_annotation_problems(annotation, images, categories), evaluation):
            yield f"annotation {annotation['id']} {problem}"


def find_problems_of_images(content: Any) -> Iterator[str]:
    """Yields what is wrong with the content of a file as far as its "images" go; the first is valid."""
    if not isinstance(content, dict):
        yield f"its top level is a {type(content).__name__}, not an object with images, annotations and categories"
    yield from find_section_problems(content, "images")
    if not content["images"]:
        yield "it lists no images"
    for image in content["images"]:
        yield from find_image_problems(image)


def find_image_problems(image: dict) -> Iterator[str]:
    """Yields what is wrong with an entry of "images" that has all fields; the first is valid."""
    if not isinstance(image["file_name"], str):
        yield f"image {image['id']} has the file name {image['file_name']!r}, which is not a string"
    if is_outside_folder(image["file_name"]):
        yield f"image {image['id']} has the file name {image['file_name']!r}, which is outside the image folder"
    sides = [image["width"], image["height"]]
    if not all(type(side) is int and side > 0 for side in sides):
        yield (
            f"image {image['id']} ({image['file_name']}) has width and height {sides}, which are not two positive "
            "whole numbers"
        )


def find_section_problems(content: dict, section: str) -> Iterator[str]:
    """Yields what is wrong with the form of a section: its entries, their fields and ids; the first is valid."""
    if section not in content:
        yield f"it has no field {section!r}"
    if not isinstance(content[section], list):
        yield f"its field {section!r} is not a list"
    for number, entry in enumerate(content[section], start=1):
        yield from find_entry_problems(entry, number, section)
    ids = Counter(entry["id"] for entry in content[section])
    if len(ids) < len(content[section]):
        yield f"{ids.most_common(1)[0][1]} entries of {section!r} have the id {ids.most_common(1)[0][0]!r}"


def find_entry_problems(entry: Any, number: int, section: str) -> Iterator[str]:
    """Yields what is missing in an entry of a section, the `number`-th counted from 1; the first is valid."""
    if not isinstance(entry, dict):
        yield f"entry {number} of {section!r} is not an object"
    for field in SECTIONS[section]:
        if field not in entry:
            yield f"entry {number} of {section!r}{_format_id(entry)} has no field {field!r}"
    if type(entry["id"]) not in ((int,) if section == "categories" else (int, str)):
        kinds = "a whole number" if section == "categories" else "a whole number or text"
        yield f"entry {number} of {section!r} has the id {entry['id']!r}, which is not {kinds}"


def find_annotation_problems(annotation: dict, images: dict, categories: dict) -> Iterator[str]:
    """Yields what is wrong with an entry of "annotations" that has all fields; the first is valid.

    Args:
        annotation: the entry
        images: entries of "images", by id
        categories: with the ids of "categories" as keys
    """
    if not is_one_of(images, annotation["image_id"]):
        yield f"belongs to image {annotation['image_id']!r}, which is not in 'images'"
    if not is_one_of(categories, annotation["category_id"]):
        yield f"has the category {annotation['category_id']!r}, which is not in 'categories'"
    if annotation.get("ignore"):
        yield "is marked 'ignore', which Detectron2 doesn't support"
    if annotation.get("iscrowd", 0) not in (0, 1):
        yield f"has {annotation['iscrowd']!r} as 'iscrowd', which must be 0 or 1"
    box, keypoints = annotation["bbox"], annotation.get("keypoints")
    if not (_are_finite(box) and len(box) == 4 and min(box[2:]) >= 0):
        yield f"has the box {box!r}, but a box is x, y, width, height in pixels, the last two not negative"
    if keypoints and not (_are_finite(keypoints) and len(keypoints) % 3 == 0):
        yield "has keypoints that are not a list of x, y, visibility, x, y, visibility, …"
    image = images[annotation["image_id"]]
    yield from find_geometry_problems(annotation, image["height"], image["width"])


def find_geometry_problems(annotation: dict, height: float, width: float) -> Iterator[str]:
    """Yields what is wrong with the box and mask of an object in an image of this size.

    pycocotools, in C, would crash on these or read memory outside the mask.
    """
    if not _are_near(annotation["bbox"], height, width):
        yield f"has the box {list(annotation['bbox'])!r}, which is far outside its image, {width}×{height}"
    segmentation, size = annotation.get("segmentation"), [height, width]
    if isinstance(segmentation, dict):
        found, counts = segmentation.get("size"), segmentation.get("counts")
        if not isinstance(found, list) or found != size or any(type(side) is not int for side in found):
            yield f"has a mask of size {found}, but the height and width of its image are {size}"
        if sum(decode_run_lengths(counts), start=0) != math.prod(size):
            yield "has a mask whose run lengths don't add up to its image"
    elif segmentation and not (isinstance(segmentation, list) and all(map(_are_finite, segmentation))):
        yield "has a segmentation that is neither run lengths nor a list of polygons, lists of finite coordinates"
    elif segmentation and not all(_are_near(polygon, height, width) for polygon in segmentation):
        yield f"has a polygon that reaches far outside its image, {width}×{height}"


def find_evaluation_problems(annotation: dict, masks: bool) -> Iterator[str]:
    """Yields what is missing for COCO's metrics."""
    mask = annotation.get("segmentation")
    if masks and not (mask and (isinstance(mask, dict) or all(len(part) >= 6 and len(part) % 2 == 0 for part in mask))):
        yield (
            "has no mask, or polygons of fewer than three corners, which evaluation needs unless MASK_ON is False "
            "(convmae-det evaluate: --boxes-only)"
        )


def _are_near(coordinates: Any, height: float, width: float) -> bool:
    return len(coordinates) == 0 or np.abs(coordinates).max() <= MAX_DISTANCE * max(height, width)


def _are_finite(numbers: Any) -> bool:
    if not isinstance(numbers, list):
        return False
    try:
        return bool(np.isfinite(numbers).all()) and np.ndim(numbers) == 1
    except (TypeError, ValueError):  # not all are numbers
        return False


def is_one_of(ids: Any, key: object) -> bool:
    """Whether a value, of any kind, is one of the ids."""
    return isinstance(key, (int, str)) and key in ids


def _format_id(entry: dict) -> str:
    return f" (id {entry['id']!r})" if "id" in entry else ""
