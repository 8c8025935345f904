"""Describes a data set in words and a table, so that errors in it are noticed before training."""

import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np
from detectron2.structures import BoxMode
from detectron2.utils.logger import log_first_n
from tabulate import tabulate

SMALL, LARGE = 32**2, 96**2  # COCO's limits, in pixels of the file
TABLE_WIDTH = 110  # characters


def log_summary(name: str, images: Sequence[dict], class_names: Sequence[str], removed: Sequence[str] = ()) -> None:
    """Logs :func:`describe_data_set` once; a data set is loaded again for each evaluation."""
    log_first_n(logging.INFO, describe_data_set(name, images, class_names, removed), key="message", name=__name__)


def describe_data_set(
    name: str, images: Sequence[dict], class_names: Sequence[str], removed: Sequence[str] = ()
) -> str:
    """Describes sizes of images and objects, what is left out, and the number of objects by class.

    Args:
        name: of the data set
        images: the whole data set, in Detectron2's format
        class_names: in the order of the classes; empty if unknown
        removed: what is left out, and why
    """
    table = []
    lines = [f"Data set {name}: {_format_count(len(images), 'image')}, {_describe_image_sizes(images)}"]
    if "annotations" in images[0]:
        annotations = [annotation for image in images for annotation in image["annotations"]]
        crowd = np.fromiter((annotation.get("iscrowd", 0) for annotation in annotations), bool)
        classes = np.fromiter((annotation["category_id"] for annotation in annotations), int)[~crowd]
        sides = _compute_sides(annotations)[~crowd]
        lines.append(
            f"  {_format_count(len(classes), 'object')}" + (f": {_describe_object_sizes(sides)}" if len(sides) else "")
        )
        removed = [*removed, *_describe_ignored_objects(crowd, sides)]
        if len(class_names):
            table = [_format_table(np.bincount(classes, minlength=len(class_names)).tolist(), class_names)]
    return "\n".join([*lines, *(f"  left out: {what}" for what in removed), *table])


def describe_unusable_images(images: Sequence[dict]) -> Iterator[str]:
    """Yields how many images have no object to learn from, and why."""
    empty = sum(not image["annotations"] for image in images)
    crowd = sum(is_unusable(image) for image in images) - empty
    if empty:
        yield f"{_format_count(empty, 'image')} without objects (DATALOADER.FILTER_EMPTY_ANNOTATIONS False keeps them)"
    if crowd:
        yield f"{_format_count(crowd, 'image')} with crowd regions alone"


def is_unusable(image: dict) -> bool:
    """Whether an image has no object, or crowd regions alone."""
    return all(annotation.get("iscrowd", 0) for annotation in image["annotations"])


def _format_count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _describe_image_sizes(images: Sequence[dict]) -> str:
    numbers = itertools.chain.from_iterable((image["width"], image["height"]) for image in images)
    sizes = np.fromiter(numbers, int).reshape(-1, 2)
    order = np.argsort(sizes.prod(1), kind="stable")
    smallest, median, largest = ("×".join(map(str, sizes[order[i]])) for i in (0, len(order) // 2, -1))
    return (
        f"all {smallest} pixels"
        if (sizes == sizes[0]).all()
        else (f"{smallest} (smallest), {median} (median) to {largest} pixels (largest), width×height")
    )


def _compute_sides(annotations: Sequence[dict]) -> np.ndarray:
    """Returns width and height of the boxes in pixels, (n, 2)."""
    numbers = itertools.chain.from_iterable(annotation["bbox"][:4] for annotation in annotations)
    boxes = np.fromiter(numbers, float).reshape(-1, 4)
    modes = np.fromiter((annotation["bbox_mode"] for annotation in annotations), int)
    return boxes[:, 2:] - np.where((modes == BoxMode.XYXY_ABS)[:, None], boxes[:, :2], 0)


def _describe_object_sizes(sides: np.ndarray) -> str:
    areas = sides.prod(1)
    small, large = int((areas < SMALL).sum()), int((areas >= LARGE).sum())
    return (
        f"{small:,} small (box below 32² pixels), {len(areas) - small - large:,} medium, {large:,} large (from 96² "
        f"pixels); the median box is {np.sqrt(np.median(areas)):.0f}² pixels"
    )


def _describe_ignored_objects(crowd: np.ndarray, sides: np.ndarray) -> Iterator[str]:
    if crowd.any():
        yield (
            f"{_format_count(int(crowd.sum()), 'crowd region')}, as in COCO: neither learned nor counted as missed "
            "(DATASETS.CROWD_AS_OBJECTS True takes them as objects)"
        )
    empty = int((sides.min(1, initial=1) <= 0).sum())
    if empty:
        yield f"{_format_count(empty, 'object')} whose box has no width or no height"


def _format_table(counts: Sequence[int], names: Sequence[str]) -> str:
    """Formats as many pairs of columns side by side as fit, each of at least four rows."""
    cells = [(str(name), f"{count:,}") for name, count in zip(names, counts, strict=True)]
    one_below_another = _format_rows(cells, 1)
    pairs = min(TABLE_WIDTH // one_below_another.index("\n"), -(-len(cells) // 4))
    if pairs < 2:
        return one_below_another
    height = -(-len(cells) // pairs)
    parts = [cells[start : start + height] for start in range(0, len(cells), height)]
    rows = itertools.zip_longest(*parts, fillvalue=("", ""))
    return _format_rows([list(itertools.chain(*row)) for row in rows], len(parts))


def _format_rows(rows: Sequence[Sequence[str]], pairs: int) -> str:
    return tabulate(rows, ["class", "objects"] * pairs, "pipe", colalign=("left", "right") * pairs)
