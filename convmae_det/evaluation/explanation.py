"""An evaluation that explains itself: metrics, classes, thresholds, errors, confusions and calibration in one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from .calibration import calibrate
from .comparison import LIMIT, Comparison, compare
from .confusion import count_confusions
from .curves import RECALLS, split_by_class
from .error_kinds import CORRECT, KINDS, MISSED, VERDICTS, Verdicts, compute_gains, count_errors, find_missed, judge
from .metrics import average, summarize
from .thresholds import OperatingPoint, compute_f1, find_operating_points, list_thresholds


def explain_results(
    truth: Mapping,
    results: Sequence[Mapping],
    tasks: Sequence[str],
    max_detections: int = LIMIT,
    verdicts: bool = True,
) -> dict[str, Any]:
    """Computes COCO's metrics and what they come from, ready for JSON.

    Scores and thresholds are 0 to 1, all else in percent; None where there is no number. Unless it is a metric with
    its own overlaps, what is found has an intersection over union of at least 0.5. With `max_detections` above 100
    that many detections count in all but the metrics that COCO names.

    Counts, verdicts and the confusion matrix are those of *kept* detections: from their class's best threshold on.
    Gains, curves and calibration are those of all.

    Args:
        truth: from :func:`~.coco.read_ground_truth`
        results: entries of COCO's results format, with the ids that `truth` has
        tasks: bbox, segm
        max_detections: see :func:`~.metrics.evaluate_results`
        verdicts: whether to judge the detections of each image

    Returns:
        "categories", "images", "objects" without crowds, "detections", "limits" of detections and, by task under
        "tasks": "metrics" as from :func:`~.metrics.evaluate_results`; "classes" and "overall", each at its best
        threshold; "curves"; "errors", by kind their "count" and the "gain" in AP50 that mending them would give;
        "confusion", the class of objects in rows; "calibration"; and with `verdicts` "images", see
        :func:`describe_images`. docs/evaluation.md shows it.

    Raises:
        InputError: a result of an image or category that `truth` doesn't have.
    """
    numbers, comparisons = compare(truth, results, tasks, max_detections)
    images = numbers.images if verdicts else []
    described = {
        task: explain_task(comparison, truth["categories"], images) for task, comparison in comparisons.items()
    }
    return {
        "categories": [{"id": category["id"], "name": category["name"]} for category in truth["categories"]],
        "images": len(numbers.images),
        "objects": sum(not annotation["iscrowd"] for annotation in truth["annotations"]),
        "detections": len(results),
        "limits": sorted({LIMIT, max(max_detections, LIMIT)}),
        "tasks": described,
    }


def list_scores(explanation: Mapping) -> dict[str, dict[str, float]]:
    """Lists the metrics of each task, as :func:`~.metrics.evaluate_results` gives them."""
    return {
        task: {name: math.nan if value is None else value for name, value in described["metrics"].items()}
        for task, described in explanation["tasks"].items()
    }


def explain_task(comparison: Comparison, categories: Sequence[Mapping], images: Sequence[Mapping]) -> dict[str, Any]:
    """Explains the results of a task, as :func:`explain_results` says; `images` are all, described too, or none."""
    overall, points = find_operating_points(comparison)
    thresholds = list_thresholds(overall, points)
    kept = comparison.detections.score >= thresholds[comparison.detections.category]
    verdicts = judge(comparison)
    counts, gains = count_errors(comparison, verdicts, kept), compute_gains(comparison, verdicts)
    counted = ~comparison.ignored
    described = {
        "metrics": _clean(summarize(comparison)),
        "classes": describe_classes(comparison, categories, points),
        "overall": describe_point(overall),
        "curves": describe_curves(comparison),
        "errors": {kind: {"count": count, "gain": gains.get(kind)} for kind, count in counts.items()},
        "confusion": {
            "labels": [*comparison.names, "background"],
            "matrix": count_confusions(comparison, kept).tolist(),
        },
        "calibration": calibrate(comparison.detections.score[counted], comparison.right[counted]),
    }
    return described | ({"images": describe_images(comparison, verdicts, kept, images)} if images else {})


def describe_point(point: OperatingPoint) -> dict[str, float | None]:
    """Describes an operating point, shares in percent."""
    shares = {name: value if value is None else 100 * value for name, value in asdict(point).items()}
    return shares | {"threshold": point.threshold}


def describe_classes(comparison: Comparison, categories: Sequence[Mapping], points: list[OperatingPoint]) -> list[dict]:
    """Describes each class: its objects and detections, measures and best threshold."""
    found = np.bincount(comparison.detections.category, minlength=len(categories)).tolist()
    classes = []
    for k, (category, point) in enumerate(zip(categories, points, strict=True)):
        scores = average(comparison, slice(k, k + 1))
        entry = {"id": category["id"], "name": category["name"], "objects": int(comparison.positives[k])}
        classes.append(entry | {"detections": found[k]} | _clean(scores) | describe_point(point))
    return classes


def describe_curves(comparison: Comparison) -> dict[str, Any]:
    """Describes precision over recall, and F1 over the threshold: of each class with objects; "overall" of all.

    The precision of all is the mean of the classes, their F1 that of one threshold for all.
    """
    counted, steps = ~comparison.ignored, RECALLS.round(2)  # of thresholds
    score, right = comparison.detections.score[counted], comparison.right[counted]
    members = split_by_class(comparison.detections.category[counted], len(comparison.names))
    precision, f1 = {}, {}
    for k in np.flatnonzero(comparison.positives).tolist():
        rows = members[k]
        precision[comparison.names[k]] = 100 * comparison.precision[0, :, k, 0, -1]
        f1[comparison.names[k]] = 100 * compute_f1(score[rows], right[rows], int(comparison.positives[k]), steps)
    overall = {}
    if precision:
        f1_of_all = 100 * compute_f1(score, right, int(comparison.positives.sum()), steps)
        overall = {"precision": np.mean([*precision.values()], axis=0), "F1": f1_of_all}
    curves = {"precision": precision, "F1": f1, "overall": overall}
    listed = {name: {key: curve.round(3).tolist() for key, curve in part.items()} for name, part in curves.items()}
    return {"recall": (100 * RECALLS).round(3).tolist(), "threshold": steps.tolist()} | listed


def describe_images(
    comparison: Comparison, verdicts: Verdicts, kept: np.ndarray, images: Sequence[Mapping]
) -> list[dict]:
    """Describes what became of each image.

    Args:
        comparison: of D detections
        verdicts: on them
        kept: (D,) bool, those that count
        images: all that there are, by number

    Returns:
        For each "id" and "file_name", the numbers of "objects", of "correct" detections and, by kind, of "errors";
        "verdicts" on its kept detections: "result", its place in the results, "verdict", "truth", the place of the
        annotation that it is about, None in the background, and their "iou"; and "missed", places of annotations.
    """
    objects = comparison.objects
    _, missed = find_missed(comparison, verdicts, kept)
    described: list[dict[str, Any]] = [
        {"id": image["id"], "file_name": image["file_name"], "objects": 0, "correct": 0}
        | {"errors": dict.fromkeys((*KINDS, MISSED), 0), "verdicts": [], "missed": []}
        for image in images
    ]
    for image in objects.image[~objects.crowd].tolist():
        described[image]["objects"] += 1
    for image, index in zip(objects.image[missed].tolist(), objects.index[missed].tolist(), strict=True):
        described[image]["missed"].append(index)
        described[image]["errors"][MISSED] += 1
    for image, verdict in _list_verdicts(comparison, verdicts, kept):
        entry, name = described[image], verdict["verdict"]
        entry["verdicts"].append(verdict)
        if name in entry["errors"]:
            entry["errors"][name] += 1
        entry["correct"] += name == CORRECT
    return described


def _list_verdicts(comparison: Comparison, verdicts: Verdicts, kept: np.ndarray) -> list[tuple[int, dict]]:
    """Lists the numbers of images, and verdicts in them, of the kept detections."""
    columns = (comparison.detections.image, comparison.detections.index, verdicts.verdict)
    annotation = np.append(comparison.objects.index, -1)[verdicts.target]
    rows = zip(*(column[kept].tolist() for column in (*columns, annotation, verdicts.iou)), strict=True)
    return [
        (image, {"result": result, "verdict": VERDICTS[verdict], "truth": None if truth < 0 else truth, "iou": iou})
        for image, result, verdict, truth, iou in rows
    ]


def _clean(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in scores.items()}
