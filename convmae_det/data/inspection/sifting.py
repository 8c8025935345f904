"""Takes what can be used out of an annotation file, and says what can't."""

from collections.abc import Iterator
from typing import Any

from ..detection.annotation_file import (
    SECTIONS,
    find_annotation_problems,
    find_entry_problems,
    find_evaluation_problems,
    find_image_problems,
)

Sifted = dict[str, list[dict]]


def sift_content(content: Any, *, is_train: bool, masks: bool) -> tuple[Sifted, list[tuple[dict, str]]]:
    """Splits the content of an annotation file into the entries that training takes and those that it refuses.

    Args:
        content: from `annotation_file.read_content`
        is_train: whether annotations are required
        masks: whether masks are evaluated; in training, objects without one are another check's

    Returns:
        The usable entries of "images", "categories" and "annotations", the last missing if the file has none; and
        each refused entry with what is wrong with it, or {} and what is wrong with the whole file.
    """
    refused: list[tuple[dict, str]] = []
    if not isinstance(content, dict):
        return {section: [] for section in SECTIONS}, [
            ({}, f"its top level is a {type(content).__name__}, not an object")
        ]
    usable = {
        section: list(_sift_section(content, section, refused))
        for section in SECTIONS
        if section in content or section != "annotations" or is_train
    }
    usable["images"] = [image for image in usable["images"] if _is_usable(image, find_image_problems(image), refused)]
    usable["categories"] = [entry for entry in usable["categories"] if _has_text_as_name(entry, refused)]
    if "annotations" in usable:
        images = {image["id"]: image for image in usable["images"]}
        categories = {category["id"]: category["name"] for category in usable["categories"]}
        usable["annotations"] = [
            annotation
            for annotation in usable["annotations"]
            if _is_usable(annotation, _find_object_problems(annotation, images, categories, is_train, masks), refused)
        ]
    return usable, refused


def _sift_section(content: dict, section: str, refused: list) -> Iterator[dict]:
    entries = content.get(section)
    if not isinstance(entries, list) or (not entries and section != "annotations"):
        problem = f"has no field {section!r}" if section not in content else f"lists no {section}"
        refused.append(({}, f"it {problem}"))
        return
    known = set()
    for number, entry in enumerate(entries, start=1):
        if problem := next(find_entry_problems(entry, number, section), ""):
            refused.append((entry if isinstance(entry, dict) else {}, problem))
        elif entry["id"] in known:
            refused.append((entry, f"entry {number} of {section!r} has the id {entry['id']!r} of an earlier one"))
        else:
            known.add(entry["id"])
            yield entry


def _has_text_as_name(category: dict, refused: list) -> bool:
    fault = f"category {category['id']} has the name {category['name']!r}, which is not a string"
    return _is_usable(category, iter(() if isinstance(category["name"], str) else (fault,)), refused)


def _find_object_problems(
    annotation: dict, images: dict, categories: dict, is_train: bool, masks: bool
) -> Iterator[str]:
    for problem in find_annotation_problems(annotation, images, categories):
        yield f"annotation {annotation['id']} {problem}"
    if not is_train:
        for problem in find_evaluation_problems(annotation, masks):
            yield f"annotation {annotation['id']} {problem}"


def _is_usable(entry: dict, problems: Iterator[str], refused: list) -> bool:
    problem = next(problems, "")
    if problem:
        refused.append((entry, problem))
    return not problem
