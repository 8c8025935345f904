"""Results compared with annotations: what COCO's metrics, errors, thresholds and calibration are all computed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .curves import compute_curves
from .overlaps import Overlaps, find_overlaps
from .tables import (
    Detections,
    Numbering,
    Objects,
    list_found_shapes,
    list_object_shapes,
    tabulate_detections,
    tabulate_objects,
)

LIMIT = 100  # detections of a class in an image that COCO's metrics count, those with the highest scores


@dataclass(frozen=True)
class Comparison:
    """What a task, boxes or masks, has come to.

    Attributes:
        names: of the K classes
        objects: G of them
        detections: D of them
        overlaps: the pairs that touch
        matched: (D,) row of the object that a detection is at an intersection over union of 0.5, -1 for none
        precision: see :func:`compute_curves`
        recall: see :func:`compute_curves`
        limits: detections of a class in an image that the last axis of both stands for
    """

    names: list[str]
    objects: Objects
    detections: Detections
    overlaps: Overlaps
    matched: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    limits: list[int]

    @cached_property
    def ignored(self) -> np.ndarray:
        """(D,) bool, whether a detection is a crowd, or part of one, and doesn't count."""
        return np.append(self.objects.crowd, False)[self.matched]

    @cached_property
    def right(self) -> np.ndarray:
        """(D,) bool, whether a detection is an object."""
        return (self.matched >= 0) & ~self.ignored

    @cached_property
    def wrong(self) -> np.ndarray:
        """(D,) bool, whether a detection is none."""
        return self.matched < 0

    @cached_property
    def positives(self) -> np.ndarray:
        """(K,) objects of each class, without crowds."""
        return np.bincount(self.objects.category[~self.objects.crowd], minlength=len(self.names))


def compare(
    truth: Mapping, results: Sequence[Mapping], tasks: Sequence[str], max_detections: int = LIMIT
) -> tuple[Numbering, dict[str, Comparison]]:
    """Compares results with annotations; the arguments are those of :func:`~.metrics.evaluate_results`.

    Returns:
        The numbers that images and classes have in the comparisons, and by task its comparison

    Raises:
        InputError: a result of an image or category that `truth` doesn't have.
    """
    numbers, limits = Numbering(truth), sorted({LIMIT, max(max_detections, LIMIT)})
    objects = tabulate_objects(truth, numbers)
    detections = tabulate_detections(results, numbers, limits[-1])
    names = [category["name"] for category in truth["categories"]]
    comparisons = {}
    for task in tasks:
        found_shapes, areas = list_found_shapes(results, detections, task)
        object_shapes = list_object_shapes(truth, objects, numbers, task)
        overlaps = find_overlaps(objects, detections, object_shapes, found_shapes)
        precision, recall, matched = compute_curves(objects, detections, areas, overlaps, limits, len(names))
        comparisons[task] = Comparison(names, objects, detections, overlaps, matched, precision, recall, limits)
    return numbers, comparisons
