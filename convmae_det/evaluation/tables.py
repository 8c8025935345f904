"""Annotated objects and detections as columns: G objects and D detections of all images, K classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from ..data.detection.coco_format import sort_images
from ..data.detection.outlines import compress_run_lengths, encode_outline
from ..errors import InputError

AT_A_TIME = 255  # masks whose areas pycocotools computes in one call: with numpy 2 it fails on more


@dataclass(frozen=True)
class Objects:
    """The annotated objects, image after image.

    Attributes:
        index: (G,) places in the list of annotations
        image: (G,) numbers of images, rising
        category: (G,) numbers of classes
        crowd: (G,) bool
        area: (G,) in pixels
    """

    index: np.ndarray
    image: np.ndarray
    category: np.ndarray
    crowd: np.ndarray
    area: np.ndarray


@dataclass(frozen=True)
class Detections:
    """What was found, image after image, in each by falling score.

    Attributes:
        index: (D,) places in the list of results
        image: (D,) numbers of images, rising
        category: (D,) numbers of classes
        score: (D,)
        rank: (D,) how many results of the same image and class come before
    """

    index: np.ndarray
    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    rank: np.ndarray


class Numbering:
    """Numbers of the images, from 0 in the order of `sort_images`, and of the categories, in their order, by id."""

    def __init__(self, truth: Mapping):
        """Takes the content of an annotation file."""
        self.images: list[dict] = list(sort_images(truth["images"]))
        self.image_numbers = {image["id"]: number for number, image in enumerate(self.images)}
        self.category_numbers = {category["id"]: number for number, category in enumerate(truth["categories"])}


def tabulate_objects(truth: Mapping, numbers: Numbering) -> Objects:
    """Makes columns of the annotations, which have "iscrowd" and "area" all."""
    annotations = truth["annotations"]
    image = np.array([numbers.image_numbers[a["image_id"]] for a in annotations], np.int64)
    order = np.argsort(image, kind="stable")
    columns = {
        "category": np.array([numbers.category_numbers[a["category_id"]] for a in annotations], np.int64),
        "crowd": np.array([a["iscrowd"] for a in annotations], bool),
        "area": np.array([a["area"] for a in annotations], float),
    }
    return Objects(order, image[order], **{name: column[order] for name, column in columns.items()})


def tabulate_detections(results: Sequence[Mapping], numbers: Numbering, limit: int) -> Detections:
    """Makes columns of results.

    Args:
        results: entries of COCO's results format
        numbers: of the data set
        limit: results of one class in an image that count, those with the highest scores; others are left out

    Raises:
        InputError: a result of an image or category that the data set doesn't have.
    """
    image = np.array([numbers.image_numbers.get(result["image_id"], -1) for result in results], np.int64)
    category = np.array([numbers.category_numbers.get(result["category_id"], -1) for result in results], np.int64)
    if (foreign := np.minimum(image, category) < 0).any():
        result = results[int(foreign.argmax())]
        raise InputError(
            f"a result is of image {result['image_id']!r} and category {result['category_id']!r}, one of which the "
            "annotations don't have: evaluate it with the annotations of its images"
        )
    score = np.array([result["score"] for result in results], float)
    order = np.lexsort((-score, image))  # stable: of equal scores, in the order of the results
    image, category, score = image[order], category[order], score[order]
    rank = rank_in_groups(image * len(numbers.category_numbers) + category)
    kept = rank < limit
    return Detections(order[kept], image[kept], category[kept], score[kept], rank[kept])


def rank_in_groups(group: np.ndarray) -> np.ndarray:
    """Counts for each entry those of the same group before it; (n,) of (n,) integers."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(group) else np.zeros(0, np.int64)
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))
    return rank


def list_object_shapes(truth: Mapping, objects: Objects, numbers: Numbering, task: str) -> Any:
    """Lists what overlaps of objects are computed of: boxes (G, 4) x y width height, or for segm masks."""
    annotations = [truth["annotations"][i] for i in objects.index.tolist()]
    if task == "bbox":
        return np.array([a["bbox"] for a in annotations], float).reshape(-1, 4)
    sizes = [(image["height"], image["width"]) for image in numbers.images]
    return [
        encode_outline(a["segmentation"], *sizes[image])
        for a, image in zip(annotations, objects.image.tolist(), strict=True)
    ]


def list_found_shapes(results: Sequence[Mapping], detections: Detections, task: str) -> tuple[Any, np.ndarray]:
    """Lists what overlaps of detections are computed of, as :func:`list_object_shapes`, and their areas (D,).

    A result that has a mask alone has the box around it.
    """
    chosen = [results[i] for i in detections.index.tolist()]
    if task == "bbox":
        boxes = np.array([r["bbox"] if "bbox" in r else _bound(r["segmentation"]) for r in chosen], float)
        boxes = boxes.reshape(-1, 4)
        return boxes, boxes[:, 2] * boxes[:, 3]
    masks: Any = [compress_run_lengths(r["segmentation"], *r["segmentation"]["size"]) for r in chosen]
    parts = [run_lengths.area(masks[i : i + AT_A_TIME]) for i in range(0, len(masks), AT_A_TIME)]
    return masks, np.concatenate([np.zeros(0), *parts])


def _bound(mask: dict) -> np.ndarray:
    return run_lengths.toBbox(compress_run_lengths(mask, *mask["size"]))
