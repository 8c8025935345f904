"""Finds errors in the JSON of COCO's panoptic format, and describes the first in one sentence."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import InputError
from .annotation_file import find_problems_of_images, find_section_problems, is_one_of, read_content
from .segments import LARGEST_ID
from .variants import convert_whole_number

FORMAT = "which must be in COCO's panoptic format"
ANNOTATION, SEGMENT = ("image_id", "file_name", "segments_info"), ("id", "category_id")


def read_panoptic_file(path: str | os.PathLike, image_root: str | None = None) -> dict:
    """Reads and checks a file; its PNGs are not looked at.

    Args:
        path: of the file
        image_root: the image folder, to which paths in the file become relative

    Returns:
        Its content: "images", "categories" by rising id, each with "isthing" True or False, and "annotations", one for
        each image, of whose segments each has "iscrowd"

    Raises:
        InputError: it can't be used.
    """
    content = read_content(path, image_root)
    if problem := next(_find_problems(content), None):
        raise InputError(f"{path}: {problem}; correct the file, {FORMAT}.")
    content["categories"] = sort_categories(content["categories"])
    return content


def sort_categories(categories: list[dict]) -> list[dict]:
    """Sorts checked categories by id; their "isthing" becomes True or False."""
    ordered = sorted(categories, key=lambda category: category["id"])
    return [category | {"isthing": bool(category["isthing"])} for category in ordered]


def _find_problems(content: Any) -> Iterator[str]:
    """Yields what is wrong, most serious first. Each check relies on those before it, so only the first is valid."""
    yield from find_problems_of_images(content)
    yield from find_section_problems(content, "categories")
    yield from find_category_problems(content["categories"])
    if not isinstance(content.get("annotations"), list):
        yield "it has no list 'annotations'"
    images = {image["id"]: image for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for number, annotation in enumerate(content["annotations"], start=1):
        yield from _find_annotation_problems(annotation, number, images)
        for segment in annotation["segments_info"]:
            for problem in _find_segment_problems(segment, categories):
                yield f"the annotation of image {annotation['image_id']} has a segment {problem}"
        ids = Counter(segment["id"] for segment in annotation["segments_info"])
        if len(ids) < len(annotation["segments_info"]):
            yield f"two segments of image {annotation['image_id']} have the id {ids.most_common(1)[0][0]}"
    counts = Counter(annotation["image_id"] for annotation in content["annotations"])
    missing = [image for image in content["images"] if not counts[image["id"]]]
    if missing:
        yield (
            f"image {missing[0]['id']} ({missing[0]['file_name']}) has no annotation ({len(missing):,} of "
            f"{len(images):,} images have none)"
        )
    if len(counts) < len(content["annotations"]):
        yield f"image {counts.most_common(1)[0][0]} has {counts.most_common(1)[0][1]} annotations"


def find_category_problems(categories: list[dict]) -> Iterator[str]:
    """Yields what is wrong with entries that have all fields but "isthing"; the first is valid."""
    for category in categories:
        if not isinstance(category["name"], str):
            yield f"category {category['id']} has the name {category['name']!r}, which is not a string"
        if category.get("isthing") not in (0, 1):
            yield (
                f"category {category['id']} ({category['name']}) has {category.get('isthing')!r} as 'isthing', which "
                "must be 1 for objects that are counted, and 0 for stuff"
            )
    for kind, value, instead in (("things", 1, "a segmentor"), ("stuff", 0, "a detector")):
        if not any(category["isthing"] == value for category in categories):
            yield f"it has no category of {kind} ('isthing': {value}): train {instead} instead, or add one"


def _find_annotation_problems(annotation: Any, number: int, images: Mapping) -> Iterator[str]:
    if not isinstance(annotation, dict):
        yield f"entry {number} of 'annotations' is not an object"
    for field in ANNOTATION:
        if field not in annotation:
            hint = ": this is the file of objects, instances_….json, not that of segments" * ("bbox" in annotation)
            yield f"entry {number} of 'annotations' has no field {field!r}{hint}"
    if not is_one_of(images, annotation["image_id"]):
        yield f"entry {number} of 'annotations' belongs to image {annotation['image_id']!r}, which is not in 'images'"
    name = annotation["file_name"]
    if not isinstance(name, str) or os.path.isabs(name) or ".." in name.replace("\\", "/").split("/"):
        yield f"the annotation of image {annotation['image_id']} has the file name {name!r}, which is not in its folder"
    if not isinstance(annotation["segments_info"], list):
        yield f"the 'segments_info' of image {annotation['image_id']} is not a list"


def _find_segment_problems(segment: Any, categories: set[int]) -> Iterator[str]:
    """Yields what is wrong with a segment, whose numbers become whole ones in place; the first is valid."""
    if not isinstance(segment, dict):
        yield "that is not an object"
    for field in SEGMENT:
        if field not in segment:
            yield f"without the field {field!r}"
        segment[field] = convert_whole_number(segment[field])
    segment["iscrowd"] = convert_whole_number(segment.get("iscrowd") or 0)
    if type(segment["id"]) is not int or not 1 <= segment["id"] <= LARGEST_ID:
        yield f"with the id {segment['id']!r}, which is not a whole number from 1 to {LARGEST_ID:,}"
    if not is_one_of(categories, segment["category_id"]):
        yield f"{segment['id']} of the category {segment['category_id']!r}, which is not in 'categories'"
    if segment["iscrowd"] not in (0, 1):
        yield f"{segment['id']} with {segment['iscrowd']!r} as 'iscrowd', which must be 0 or 1"
