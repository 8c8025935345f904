"""COCO's metrics of a detector: average precision (AP) and recall (AR) of boxes and masks, in percent."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from tabulate import tabulate

from .comparison import LIMIT, Comparison, compare
from .curves import AREAS, IOUS, NOTHING

MEASURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR")  # COCO's
COLUMNS = 6  # of the table of classes


def evaluate_results(
    truth: Mapping, results: Sequence[dict], tasks: Sequence[str], max_detections: int = LIMIT
) -> dict[str, dict[str, float]]:
    """Computes COCO's metrics.

    Args:
        truth: from :func:`~.coco.read_ground_truth`
        results: entries of COCO's results format, with the ids that `truth` has
        tasks: bbox, segm
        max_detections: detections of a class in an image that are also counted, if this is more than COCO's 100

    Returns:
        By task: MEASURES; with `max_detections` N above 100 also these as "AP@N", …; and of several classes "AP-" with
        the name of each. All in percent; NaN where there is no object to find.

    Raises:
        InputError: a result of an image or category that `truth` doesn't have.
    """
    _, comparisons = compare(truth, results, tasks, max_detections)
    return {task: summarize(comparison) for task, comparison in comparisons.items()}


def summarize(comparison: Comparison) -> dict[str, float]:
    """Computes the measures of :func:`evaluate_results`."""
    scores = average(comparison, slice(None))
    if len(comparison.names) > 1:
        average_precision = comparison.precision[:, :, :, 0, 0]
        scores |= {f"AP-{name}": _average(average_precision[:, :, k]) for k, name in enumerate(comparison.names)}
    return scores


def average(comparison: Comparison, classes: slice) -> dict[str, float]:
    """Computes MEASURES of some classes, and at more detections than COCO's 100 with their number in the names."""
    scores = {}
    for place, limit in enumerate(comparison.limits):
        names = [name if limit == LIMIT else f"{name}@{limit}" for name in MEASURES]
        scores |= dict(zip(names, _average_at(comparison, classes, place), strict=True))
    return scores


def _average_at(comparison: Comparison, classes: slice, place: int) -> list[float]:
    """Computes the values of MEASURES at one of the comparison's limits."""
    precision, recall = comparison.precision[:, :, classes, :, place], comparison.recall[:, classes, :, place]
    overlaps, areas = np.round(IOUS, 2).tolist(), list(AREAS)
    parts = [precision[:, :, :, 0]]
    parts += [precision[overlaps.index(overlap), :, :, 0] for overlap in (0.5, 0.75)]
    parts += [precision[:, :, :, areas.index(size)] for size in ("small", "medium", "large")]
    parts.append(recall[:, :, 0])
    return [_average(part) for part in parts]


def _average(values: np.ndarray) -> float:
    values = values[values > NOTHING]
    return float(100 * np.mean(values)) if values.size else float("nan")


def format_metrics(scores: Mapping[str, float]) -> str:
    """Formats the measures of a task: a row for each number of detections that counts."""
    suffixes = dict.fromkeys(name.removeprefix("AR") for name in scores if name == "AR" or name.startswith("AR@"))
    rows = [
        [suffix[1:] or f"{LIMIT} (as COCO does)"] + [scores[name + suffix] for name in MEASURES] for suffix in suffixes
    ]
    headers = ["detections counted", *MEASURES]
    return tabulate(rows, headers, "pipe", floatfmt=".3f", disable_numparse=[0])


def format_table(scores: Mapping[str, float]) -> str:
    """Formats the measures of a task, then the AP of the classes."""
    tables = [format_metrics(scores)]
    cells = list(itertools.chain(*((name[3:], scores[name]) for name in scores if name.startswith("AP-"))))
    if cells:
        columns = min(COLUMNS, len(cells))
        lines = [cells[start : start + columns] for start in range(0, len(cells), columns)]
        headers = ["class", "AP"] * (columns // 2)
        tables.append(tabulate(lines, headers, "pipe", floatfmt=".3f", disable_numparse=[0, 2, 4][: columns // 2]))
    return "\n\n".join(tables)
