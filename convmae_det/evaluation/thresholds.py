"""From which score on detections are kept: where F1, the harmonic mean of precision and recall, is highest."""

from dataclasses import dataclass

import numpy as np

from .comparison import Comparison
from .curves import split_by_class


@dataclass(frozen=True)
class OperatingPoint:
    """What the detections from a score on are worth, at an intersection over union of 0.5.

    Attributes:
        threshold: the lowest score that is kept; None where no threshold keeps anything right
        precision: share of the kept detections that are objects; None where none is kept
        recall: share of the objects that are found; None where there is none
        F1: harmonic mean of both, 2·hits / (kept + objects); None where there is no object
    """

    threshold: float | None
    precision: float | None
    recall: float | None
    F1: float | None


def find_operating_points(comparison: Comparison) -> tuple[OperatingPoint, list[OperatingPoint]]:
    """Finds the best point with one threshold for all classes, and that of each class."""
    score, category = comparison.detections.score, comparison.detections.category
    counted = ~comparison.ignored
    overall = find_best_point(score[counted], comparison.right[counted], int(comparison.positives.sum()))
    members = split_by_class(category[counted], len(comparison.names))
    score, right = score[counted], comparison.right[counted]
    points = [
        find_best_point(score[rows], right[rows], int(positives))
        for rows, positives in zip(members, comparison.positives, strict=True)
    ]
    return overall, points


def find_best_point(score: np.ndarray, right: np.ndarray, positives: int) -> OperatingPoint:
    """Finds the threshold of the highest F1; of several the highest.

    Args:
        score: (n,) of the detections
        right: (n,) bool, whether they are objects
        positives: objects that there are to find
    """
    if not right.any():
        return OperatingPoint(None, None, *((0.0, 0.0) if positives else (None, None)))
    order = np.argsort(-score, kind="stable")
    score, hits = score[order], np.cumsum(right[order])
    kept = np.arange(1, len(score) + 1)
    f1 = np.where(np.append(score[1:] != score[:-1], True), 2 * hits / (kept + positives), 0)  # equal scores together
    best = int(f1.argmax())
    return OperatingPoint(
        float(score[best]), float(hits[best] / kept[best]), float(hits[best] / positives), float(f1[best])
    )


def list_thresholds(overall: OperatingPoint, points: list[OperatingPoint]) -> np.ndarray:
    """Lists the thresholds of the classes, (K,).

    Where a class has none, since nothing of it was found, it is that of all classes; 0 where these have none.
    """
    rest = 0.0 if overall.threshold is None else overall.threshold
    return np.array([rest if point.threshold is None else point.threshold for point in points])


def compute_f1(score: np.ndarray, right: np.ndarray, positives: int, thresholds: np.ndarray) -> np.ndarray:
    """Computes F1 at any thresholds, (n,), with at least one object; else as :func:`find_best_point`."""
    kept = len(score) - np.searchsorted(np.sort(score), thresholds)
    hits = right.sum() - np.searchsorted(np.sort(score[right]), thresholds)
    return 2 * hits / (kept + positives)
