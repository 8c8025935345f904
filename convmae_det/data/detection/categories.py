"""The categories of registered data sets: their names and their original ids, which need not be contiguous.

Categories are [[id, name], ...] by ascending id, the order in which Detectron2 numbers its classes.
"""

import copy
import functools
import json
import mmap
import os
from collections.abc import Callable
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import InputError
from .variants import distinguish_names, unify_categories

THINGS = "things"  # the name of class 0 of the stuff
KEY = b'"categories"'
OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff")  # byte order marks of UTF-16 and UTF-32
FIRST_LOOK = 2**16  # bytes after the key; more are read only if the categories are longer


def read_categories(path: str | os.PathLike) -> list[list]:
    """Reads the categories of an annotation file in COCO's format; empty if there are none that can be used.

    The file is searched, not parsed: parsing COCO's own takes ten seconds and more. Errors in it
    are reported when the data set is loaded.

    Raises:
        OSError: the file can't be read.
    """
    return [list(category) for category in _sort_categories(read_category_entries(path))]


def read_category_entries(path: str | os.PathLike) -> Any:
    """Reads the value of "categories" in a file as :func:`read_categories` does, whatever it is; None without any.

    Raises:
        OSError: the file can't be read.
    """
    state = os.stat(path)
    return copy.deepcopy(_search_categories(os.fspath(path), state.st_mtime_ns, state.st_size))


@functools.lru_cache
def _search_categories(path: str, changed: int, size: int) -> Any:
    with open(path, "rb") as file:
        if not size:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = content.find(KEY)
            once = content.find(KEY, start + 1) < 0 and content[:2] not in OTHER_ENCODINGS
            entries = _decode_value(content, start + len(KEY)) if once and start >= 0 else None
        if not once:  # some other object has such a field, too
            try:
                entries = json.loads(file.read()).get("categories")
            except (ValueError, AttributeError, RecursionError):
                return None
    return entries


def _decode_value(content: mmap.mmap, start: int) -> Any:
    """Decodes the JSON value that follows a key and a colon; None if there is none."""
    length = FIRST_LOOK
    while True:
        text = content[start : start + length].decode("utf-8", "ignore").lstrip().removeprefix(":").lstrip()
        try:
            return json.JSONDecoder().raw_decode(text)[0]
        except (ValueError, RecursionError):
            if start + length >= len(content):
                return None
        length *= 8


def _sort_categories(entries: Any) -> list[tuple]:
    try:
        unify_categories(entries)
        categories = {entry["id"]: entry["name"] for entry in entries}
    except (AttributeError, TypeError, LookupError):
        return []
    usable = len(categories) == len(entries) and all(type(number) is int for number in categories)
    return sorted(categories.items()) if usable else []


def find_categories(name: str) -> list[list]:
    """Returns the categories of a data set; empty if they aren't known before it is loaded, or if it doesn't exist.

    Detectron2 knows those of its own data sets, so none of their files is needed.
    """
    if name not in DatasetCatalog:
        return []
    metadata = MetadataCatalog.get(name)
    names, numbers = metadata.get("thing_classes"), metadata.get("thing_dataset_id_to_contiguous_id")
    if names and numbers and len(names) == len(numbers):
        categories = [(number, names[index]) for number, index in sorted(numbers.items(), key=lambda item: item[1])]
        distinct = distinguish_names(categories)
        return [[number, name] for (number, _), name in zip(categories, distinct, strict=True)]
    path = metadata.get("json_file")
    if path and metadata.get("evaluator_type") == "coco" and os.path.isfile(path):
        return read_categories(path)
    return []


def find_stuff(name: str) -> list[list]:
    """Returns the categories of a data set that a panoptic FPN doesn't count; empty as :func:`find_categories`."""
    metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
    names = list((metadata and metadata.get("stuff_classes")) or ())
    numbers = (metadata and metadata.get("stuff_dataset_id_to_contiguous_id")) or {}
    if names[:1] != [THINGS]:  # Detectron2 also has data sets that number things and stuff together
        return []
    return [[number, names[index]] for number, index in sorted(numbers.items(), key=lambda item: item[1]) if index]


def read_stated_categories(cfg: CfgNode, key: str = "CATEGORIES") -> list[list]:
    """Reads DATASETS.CATEGORIES, or DATASETS.STUFF_CATEGORIES.

    Raises:
        InputError: they aren't pairs of an integer and a name.
    """
    for category in cfg.DATASETS[key]:
        if not (isinstance(category, (list, tuple)) and len(category) == 2 and type(category[0]) is int):
            raise InputError(f"DATASETS.{key} holds {category!r}: make it a list of pairs, [[id, name], ...].")
    entries = [{"id": number, "name": name} for number, name in cfg.DATASETS[key]]
    unify_categories(entries)
    return [[entry["id"], entry["name"]] for entry in entries]


def find_detector_categories(cfg: CfgNode) -> list[list]:
    """Returns DATASETS.CATEGORIES or, if that is empty, the categories of a data set.

    That is the first of TRAIN, else of TEST, whose categories are known; empty if none are.

    Raises:
        InputError: they aren't pairs of an integer and a name, or another data set of TRAIN or TEST has others.
    """
    return _find_agreed(cfg, "CATEGORIES", find_categories)


def find_stuff_categories(cfg: CfgNode) -> list[list]:
    """Returns DATASETS.STUFF_CATEGORIES or, if that is empty, the stuff of a data set; else as the categories above."""
    return _find_agreed(cfg, "STUFF_CATEGORIES", find_stuff)


def _find_agreed(cfg: CfgNode, key: str, find: Callable[[str], list[list]]) -> list[list]:
    categories, source = read_stated_categories(cfg, key), f"DATASETS.{key}"
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        others = find(name)
        if not categories:
            categories, source = others, f"the data set {name}"
        elif others and others != categories:
            advice = "name data sets of the same categories in DATASETS.TRAIN and DATASETS.TEST"
            if cfg.DATASETS[key]:
                advice = (
                    "use data of the categories that the model was trained on, or train another model, beginning with "
                    "a file of configs/"
                )
            difference = _describe_difference(categories, others)
            raise InputError(f"The categories of {source} and of the data set {name} differ: {difference}; {advice}.")
    return categories


def _describe_difference(categories: list[list], others: list[list]) -> str:
    """Describes the difference between two lists of categories."""
    if len(categories) != len(others):
        return f"{_format_categories(categories)} against {_format_categories(others)}"
    pairs = zip(categories, others, strict=True)
    (number, name), (other_number, other_name) = next((one, other) for one, other in pairs if one != other)
    return f"there is the category {name!r} with the id {number}, here {other_name!r} with the id {other_number}"


def _format_categories(categories: list[list]) -> str:
    names = ", ".join(str(name) for _, name in categories[:3]) + (", …" if len(categories) > 3 else "")
    return f"{len(categories)} categories ({names})"
