"""From which score on detections are kept: where F1, the harmonic mean of precision and recall, is highest."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.detection.annotation_file import read_json
from ..errors import InputError, shorten_list
from .comparison import Comparison
from .curves import split_by_class

FOLDER, THRESHOLDS = "inference", "thresholds.json"  # where an evaluation leaves them in OUTPUT_DIR
SHOWN = 5  # names in a sentence


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


def list_chosen_thresholds(explanation: Mapping) -> dict:
    """Lists the best thresholds of the last task of an explanation, as a file that :func:`read_thresholds` takes.

    Returns:
        "task"; "overall", that of all classes, None if nothing was found; and "classes", by name, those that have none
        of their own with that of all.
    """
    task, described = list(explanation["tasks"].items())[-1]
    overall = described["overall"]["threshold"]
    classes = {c["name"]: overall if c["threshold"] is None else c["threshold"] for c in described["classes"]}
    return {"task": task, "overall": overall, "classes": classes}


def find_thresholds(given: str | os.PathLike | None, *beside: str | os.PathLike) -> str:
    """Finds the file of thresholds that a detector's evaluation left.

    Args:
        given: the file; None: it is searched for
        beside: files in whose folders it may lie, under inference/

    Raises:
        InputError: there is none, or there are several, of different data or weights.
    """
    if given is not None:
        return str(given)
    for folder in dict.fromkeys(Path(path).absolute().parent for path in beside):
        found = sorted((folder / FOLDER).rglob(THRESHOLDS))
        if len(found) > 1:
            names = ", ".join(map(str, found[:SHOWN]))
            raise InputError(f"there are thresholds of several evaluations ({names}): name one of them (--thresholds)")
        if found:
            return str(found[0])
    raise InputError(
        f"there is no {FOLDER}/{THRESHOLDS} beside the weights or their configuration: name one that `convmae-det "
        "evaluate --thresholds FILE` has written (--thresholds), or set the score threshold to a number"
    )


def read_thresholds(path: str | os.PathLike, names: Sequence[str]) -> list[float]:
    """Reads the thresholds of a detector's classes, in their order.

    Raises:
        InputError: the file can't be used, or is of other classes.
    """
    content = read_json(path)
    classes = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(classes, dict):
        raise InputError(f"{path} holds no thresholds: name the thresholds.json that an evaluation wrote")
    if classes.keys() != set(names):
        raise InputError(
            f"{path} has thresholds of {shorten_list(list(classes))}, but the detector's classes are "
            f"{shorten_list(names)}: name the thresholds.json of an evaluation of this detector"
        )
    thresholds = [classes[name] for name in names]
    if None in thresholds:
        raise InputError(f"{path} has no thresholds, for the evaluation found nothing right: set a number instead")
    if not all(type(threshold) in (int, float) and 0 <= threshold <= 1 for threshold in thresholds):
        raise InputError(f"{path} has thresholds that are no numbers from 0 to 1: write it again with an evaluation")
    return thresholds
