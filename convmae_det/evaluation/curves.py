"""Precision over recall, and the recall reached, as COCO's evaluation computes them, to the last digit."""

from collections.abc import Sequence

import numpy as np

from .matching import match
from .overlaps import Overlaps
from .tables import Detections, Objects

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # pixels
NOTHING = -1.0  # in place of a number where there is no object to find


def compute_curves(
    objects: Objects,
    detections: Detections,
    areas: np.ndarray,
    overlaps: Overlaps,
    limits: Sequence[int],
    classes: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes the curves of all classes, sizes of objects and limits.

    Args:
        objects: G of them
        detections: D of them
        areas: (D,) of the detections, in pixels
        overlaps: of boxes, or of masks
        limits: M numbers of detections of a class in an image that count
        classes: K, their number

    Returns:
        precision, (10 IOUS, 101 RECALLS, K, 4 AREAS, M); recall, (10 IOUS, K, 4 AREAS, M); both NOTHING where there is
        no object; and matched, (D,), the row of the object of any size that a detection is at IOUS[0], -1 for none
    """
    precision = np.full((len(IOUS), len(RECALLS), classes, len(AREAS), len(limits)), NOTHING)
    recall = np.full((len(IOUS), classes, len(AREAS), len(limits)), NOTHING)
    same = objects.category[overlaps.object] == detections.category[overlaps.detection]
    overlaps = overlaps.select(same)
    group = detections.image * classes + detections.category
    thresholds = np.minimum(IOUS, 1 - 1e-10)
    by_score = np.argsort(-detections.score, kind="stable")
    members = split_by_class(detections.category[by_score], classes)
    found = []
    for a, (low, high) in enumerate(AREAS.values()):
        ignored = objects.crowd | (objects.area < low) | (objects.area > high)
        matched = match(overlaps, group, thresholds, ignored, objects.crowd)
        none = matched < 0
        outside = (areas < low) | (areas > high)
        left_out = np.where(none, outside, np.append(ignored, False)[matched])
        right, wrong = (~none & ~left_out)[:, by_score], (none & ~left_out)[:, by_score]
        positives = np.bincount(objects.category[~ignored], minlength=classes)
        found.append(matched[0])
        for k in np.flatnonzero(positives).tolist():
            for m, limit in enumerate(limits):
                counted = members[k][detections.rank[by_score[members[k]]] < limit]
                curve = interpolate(right[:, counted], wrong[:, counted], positives[k])
                precision[:, :, k, a, m], recall[:, k, a, m] = curve
    return precision, recall, found[0]


def split_by_class(category: np.ndarray, classes: int) -> list[np.ndarray]:
    """Lists for each class the places (n,) at which it stands in a column, rising."""
    ends = np.cumsum(np.bincount(category, minlength=classes))[:-1]
    return np.split(np.argsort(category, kind="stable"), ends)


def interpolate(right: np.ndarray, wrong: np.ndarray, positives: int) -> tuple[np.ndarray, np.ndarray]:
    """Computes the curves of a class.

    Args:
        right: (T, n) bool by falling score, detections that are objects
        wrong: (T, n) bool, those that are not; what is neither doesn't count
        positives: objects to find, at least one

    Returns:
        (T, 101) the highest precision at each of RECALLS or above, and (T,) the recall of all
    """
    hits, misses = (np.cumsum(column, axis=1).astype(float) for column in (right, wrong))
    recall, precision = hits / positives, hits / (misses + hits + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.append(precision, np.zeros((len(right), 1)), axis=1)  # beyond the recall that is reached
    places = np.array([np.searchsorted(row, RECALLS, side="left") for row in recall])
    return np.take_along_axis(precision, places, axis=1), recall[:, -1] if right.shape[1] else np.zeros(len(right))
