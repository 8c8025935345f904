"""What is wrong with an annotation file in COCO's format, in one sentence.

Detectron2 and pycocotools fail on a bad file with whatever exception the first bad entry causes, or pass over it.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterator

import numpy as np

from convmae_det.errors import InputError

SECTIONS = {
    "images": ("id", "file_name", "height", "width"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
}


def check_annotation_file(path: str | os.PathLike, *, is_train: bool, class_names: list[str] | None = None) -> None:
    """Check all that Detectron2 takes on trust.

    Objects whose polygons have fewer than three corners are no error: Detectron2 leaves them out and logs how many.

    Args:
        path: the annotation file
        is_train: annotations are needed
        class_names: what the data set's categories, by ascending id, must be called; None for any

    Raises:
        InputError: the first thing that is wrong, and where.
    """
    problem = next(_problems(_read_json(path), is_train, class_names), None)
    if problem:
        raise InputError(f"{path}: {problem}; correct the file, which must be in COCO's format.")


def read_images(path: str | os.PathLike) -> list[dict]:
    """The entries of "images", whatever else the file holds.

    Raises:
        InputError: it is not JSON, or has no images.
    """
    content = _read_json(path)
    problem = next(_image_problems(content), None)
    if problem:
        raise InputError(f"{path}: {problem}; correct the file, which must be in COCO's format.")
    return content["images"]


def _read_json(path: str | os.PathLike):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}); it must be a readable annotation file.") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except (UnicodeDecodeError, RecursionError) as error:
        place = str(error)
    raise InputError(f"{path} is not JSON ({place}); restore the file, which must be in COCO's format.")


def _problems(content, is_train: bool, class_names: list[str] | None) -> Iterator[str]:
    """What is wrong, the gravest first. Each check relies on those before it, so only the first result holds."""
    yield from _image_problems(content)
    for section in ("categories", "annotations"):
        if section in content or section != "annotations" or is_train:
            yield from _section_problems(content, section)
    if not content["categories"]:
        yield "it lists no categories"
    names = [category["name"] for category in sorted(content["categories"], key=lambda category: category["id"])]
    if class_names is not None and names != list(class_names):
        yield (
            f"its {len(names)} categories ({_shortened(names)}) are not the {len(class_names)} "
            f"({_shortened(class_names)}) that the data set is registered with"
        )
    images = {image["id"]: image for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for annotation in content.get("annotations", []):
        for problem in _annotation_problems(annotation, images, categories):
            yield f"annotation {annotation['id']} {problem}"


def _image_problems(content) -> Iterator[str]:
    if not isinstance(content, dict):
        yield f"its top level is a {type(content).__name__}, not an object with images, annotations and categories"
    yield from _section_problems(content, "images")
    if not content["images"]:
        yield "it lists no images"
    for image in content["images"]:
        if not isinstance(image["file_name"], str):
            yield f"image {image['id']} has the file name {image['file_name']!r}, which is not a string"
        sides = [image["width"], image["height"]]
        if not (_are_finite(sides) and min(sides) > 0):
            yield f"image {image['id']} ({image['file_name']}) has width and height {sides}, which are not positive"


def _section_problems(content: dict, section: str) -> Iterator[str]:
    if section not in content:
        yield f"it has no field {section!r}"
    if not isinstance(content[section], list):
        yield f"its field {section!r} is not a list"
    for number, entry in enumerate(content[section], start=1):
        if not isinstance(entry, dict):
            yield f"entry {number} of {section!r} is not an object"
        for field in SECTIONS[section]:
            if field not in entry:
                yield f"entry {number} of {section!r}{_identity(entry)} has no field {field!r}"
        if not isinstance(entry["id"], int if section == "categories" else (int, str)):
            yield f"entry {number} of {section!r} has the id {entry['id']!r}, which is not a number"
    ids = Counter(entry["id"] for entry in content[section])
    if len(ids) < len(content[section]):
        yield f"{ids.most_common(1)[0][1]} entries of {section!r} have the id {ids.most_common(1)[0][0]!r}"


def _annotation_problems(annotation: dict, images: dict, categories: set) -> Iterator[str]:
    if not _is_one_of(images, annotation["image_id"]):
        yield f"belongs to image {annotation['image_id']!r}, which is not in 'images'"
    if not _is_one_of(categories, annotation["category_id"]):
        yield f"has the category {annotation['category_id']!r}, which is not in 'categories'"
    if annotation.get("ignore"):
        yield "is marked 'ignore', which Detectron2 doesn't support"
    box = annotation["bbox"]
    if not (_are_finite(box) and len(box) == 4 and min(box[2:]) >= 0):
        yield f"has the box {box!r}, but a box is x, y, width, height in pixels, the last two not negative"
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        image, counts = images[annotation["image_id"]], segmentation.get("counts")
        size = [image["height"], image["width"]]
        if segmentation.get("size") != size:
            yield f"has a mask of size {segmentation.get('size')}, but the height and width of its image are {size}"
        if not isinstance(counts, str) and not (_are_finite(counts) and sum(counts) == math.prod(size)):
            yield "has a mask whose run lengths don't add up to its image"
    elif segmentation and not (isinstance(segmentation, list) and all(_are_finite(part) for part in segmentation)):
        yield "has a segmentation that is neither run lengths nor a list of polygons, lists of finite coordinates"


def _are_finite(numbers) -> bool:
    if not isinstance(numbers, list):
        return False
    try:
        return bool(np.isfinite(numbers).all()) and np.ndim(numbers) == 1
    except (TypeError, ValueError):  # not all are numbers
        return False


def _is_one_of(ids: dict | set, key) -> bool:
    return isinstance(key, (int, str)) and key in ids


def _identity(entry: dict) -> str:
    return f" (id {entry['id']!r})" if "id" in entry else ""


def _shortened(names: list[str]) -> str:
    return ", ".join(map(str, names[:3])) + (", …" if len(names) > 3 else "")
