"""Brings what other tools write in annotation files to COCO's own form, wherever it can mean one thing only.

Nothing is checked here: what can't be understood stays as it is, for `annotation_file` to name.
"""

import ntpath
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any


def unify_content(content: Any, image_root: str | None = None) -> None:
    """Changes the content of an annotation file in place.

    Ids and sizes that are whole numbers written as 1.0 or "1" become numbers, except that ids of images which are text
    stay text, because they come back in predictions. References to images become the ids that these have. A missing
    "iscrowd" becomes 0. Paths become relative to the image folder, with "/" between folders. Names of categories become
    text, and different from each other.

    Args:
        content: whatever the file holds
        image_root: the image folder; None if it isn't known
    """
    images, annotations = _list_entries(content, "images"), _list_entries(content, "annotations")
    for image in images:
        _convert(image, "id", _convert_float)
        _convert(image, "width", convert_whole_number)
        _convert(image, "height", convert_whole_number)
        _convert(image, "file_name", lambda name: _convert_path(name, image_root))
    unify_categories(_list_entries(content, "categories"))
    ids = [image.get("id") for image in images]
    by_text = {str(number): number for number in ids if isinstance(number, (int, str))}
    unique = len(by_text) == len(ids)  # else 1 and "1" may both be there
    for annotation in annotations:
        _convert(annotation, "id", _convert_float)
        _convert(annotation, "image_id", _convert_float)
        _convert(annotation, "category_id", convert_whole_number)
        mask = annotation.get("segmentation")
        if isinstance(mask, dict) and isinstance(mask.get("size"), list):
            mask["size"] = [convert_whole_number(side) for side in mask["size"]]
        image_id = annotation.get("image_id")
        if unique and isinstance(image_id, (int, str)):
            annotation["image_id"] = by_text.get(str(image_id), image_id)
        crowd = annotation.get("iscrowd")
        annotation["iscrowd"] = 0 if crowd is None else convert_whole_number(int(crowd) if crowd is True else crowd)


def unify_categories(categories: list[dict]) -> None:
    """Changes ids and names of categories as :func:`unify_content` does, in place."""
    for category in categories:
        _convert(category, "id", convert_whole_number)
        _convert(category, "name", lambda name: str(name) if type(name) is int else name)
    if all("id" in category and isinstance(category.get("name"), str) for category in categories):
        names = distinguish_names([(category["id"], category["name"]) for category in categories])
        for category, name in zip(categories, names, strict=True):
            category["name"] = name


def distinguish_names(categories: Sequence[tuple[Any, str]]) -> list[str]:
    """Appends the id to each name that several categories have: "box (1)", "box (3)"."""
    names, ids = [name for _, name in categories], [number for number, _ in categories]
    if len(set(map(str, ids))) < len(ids):
        return names
    while len(set(names)) < len(names):
        count = Counter(names)
        names = [name if count[name] == 1 else f"{name} ({id})" for name, id in zip(names, ids, strict=True)]
    return names


def convert_whole_number(value: Any) -> Any:
    """Converts 1.0, "1" and "1.0" to 1; whatever isn't a whole number stays as it is."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}(\.0*)?", value):
        return int(value.partition(".")[0])
    return _convert_float(value)


def leave_out_masks(entries: Any) -> None:
    """Deletes the masks of annotations or results, in place; those that have no box keep theirs."""
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and "bbox" in entry:
            entry.pop("segmentation", None)


def is_outside_folder(file_name: str) -> bool:
    """Whether a name in an annotation file stands for a file outside the folder of images."""
    absolute = os.path.isabs(file_name) or bool(ntpath.splitdrive(file_name)[0])
    return absolute or ".." in file_name.replace("\\", "/").split("/")


def _list_entries(content: Any, section: str) -> list[dict]:
    entries = content.get(section) if isinstance(content, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _convert(entry: dict, field: str, convert: Any) -> None:
    if field in entry:
        entry[field] = convert(entry[field])


def _convert_float(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _convert_path(name: Any, image_root: str | None) -> Any:
    if not isinstance(name, str) or "\0" in name:
        return name
    if "\\" in name and not (image_root and os.path.exists(os.path.join(image_root, name))):
        name = name.replace("\\", "/")
    if image_root and os.path.isabs(name):
        for resolve in (os.path.abspath, os.path.realpath):
            inside = os.path.relpath(resolve(name), resolve(image_root))
            if inside.split(os.sep)[0] != os.pardir:
                return inside
    return name
