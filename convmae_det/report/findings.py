"""What is wrong with a detector, in sentences: the most important first."""

import math
from collections.abc import Mapping, Sequence

from ..evaluation.metrics_file import Curve
from ..evaluation.text import TASKS
from .errors import KINDS

FEW = 3  # classes that are named
RARE = 20  # objects of a class, below which its numbers say little
NOTABLE = 0.5  # points of AP50, below which an error is not worth mending
OFF = 8.0  # percent of calibration error that is worth a sentence
MUCH = 1.3  # times as good, which is worth a sentence


def find_faults(explanation: Mapping) -> list[str]:
    """Finds what keeps a detector from being better.

    Args:
        explanation: of `explain_results`, with one task at least

    Returns:
        sentences, the most important first
    """
    task, found = list(explanation["tasks"].items())[-1]
    noun = TASKS[task]
    sentences = [*_describe_errors(found, noun), *_describe_classes(found, noun), *_describe_sizes(found, noun)]
    sentences += _describe_threshold(found)
    if "bbox" in explanation["tasks"] and task == "segm":
        sentences += _describe_masks(explanation["tasks"]["bbox"]["metrics"], found["metrics"])
    return sentences


def rank_errors(found: Mapping) -> list[str]:
    """Ranks the kinds of errors by what mending each would give."""
    return sorted(KINDS, key=lambda name: -(found["errors"][name]["gain"] or 0))


def _describe_errors(found: Mapping, noun: str) -> list[str]:
    sentences = []
    for place, name in enumerate(rank_errors(found)[:2]):
        kind, numbers = KINDS[name], found["errors"][name]
        if (numbers["gain"] or 0) < NOTABLE:
            continue
        first = "The largest loss" if place == 0 else "Next"
        sentences.append(
            f"{first}: “{kind.title}” – {kind.meaning} ({numbers['count']:,} at the thresholds below). Mending all of "
            f"the kind would raise {noun} AP50 by {numbers['gain']:.1f} points. What helps: {kind.advice}."
        )
    return sentences or ["No kind of error stands out: none alone costs half a point of AP50."]


def _describe_classes(found: Mapping, noun: str) -> list[str]:
    classes = [entry for entry in found["classes"] if entry["AP"] is not None]
    sentences = []
    if len(classes) > 1:
        worst = sorted(classes, key=lambda entry: entry["AP"])[: min(FEW, len(classes) - 1)]
        names = ", ".join(f"{entry['name']} ({entry['AP']:.1f})" for entry in worst)
        sentences.append(f"The classes with the lowest {noun} AP: {names}; the mean is {found['metrics']['AP']:.1f}.")
    rare = [entry["name"] for entry in found["classes"] if 0 < entry["objects"] < RARE]
    if rare:
        some = ", ".join(rare[:FEW]) + (f" and {len(rare) - FEW} more" if len(rare) > FEW else "")
        sentences.append(
            f"Numbers of these classes say little, for there are fewer than {RARE} objects of each: {some}."
        )
    return sentences


def _describe_sizes(found: Mapping, noun: str) -> list[str]:
    sizes = {"small": "APs", "medium": "APm", "large": "APl"}
    values = {name: found["metrics"].get(key) for name, key in sizes.items()}
    known = {name: value for name, value in values.items() if value is not None}
    if len(known) < 2 or max(known.values()) <= MUCH * min(known.values()):
        return []
    worst, best = (choose(known, key=lambda name: known[name]) for choose in (min, max))
    advice = " Larger images at test and in training help small objects." if worst == "small" else ""
    return [
        f"It finds {worst} objects least well: {noun} AP {known[worst]:.1f}, against {known[best]:.1f} for {best} "
        f"ones.{advice}"
    ]


def _describe_threshold(found: Mapping) -> list[str]:
    best, error = found["overall"], found["calibration"]["error"]
    sentences = []
    if best["threshold"] is not None and best["F1"] is not None:
        sentences.append(
            f"With a score threshold of {best['threshold']:.2f}, {best['precision']:.0f} % of its detections are right "
            f"(precision) and {best['recall']:.0f} % of the objects are found (recall): the best balance of the two. "
            "convmae-det predict --score-threshold auto takes the best of each class."
        )
    if error is not None and error > OFF:
        bins = [entry for entry in found["calibration"]["bins"] if entry["count"]]
        excess = sum(entry["count"] * (100 * entry["score"] - entry["precision"]) for entry in bins)
        how = "too high" if excess > 0 else "too low"
        sentences.append(
            f"Scores are no probabilities: on average they are off by {error:.0f} percent, mostly {how}; compare them "
            "with each other, or choose the threshold by precision and recall."
        )
    return sentences


def _describe_masks(boxes: Mapping, masks: Mapping) -> list[str]:
    if boxes["AP"] and masks["AP"] is not None and boxes["AP"] > MUCH * masks["AP"]:
        return [
            f"Boxes are much better than masks (AP {boxes['AP']:.1f} against {masks['AP']:.1f}): check that outlines "
            "are accurate, and raise MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION if objects are finely shaped."
        ]
    return []


def find_trends(curves: Mapping[str, Curve], task: str) -> list[str]:
    """Finds what the evaluations during training say of its length.

    Args:
        curves: of `read_metrics`
        task: bbox or segm, the one that counts
    """
    metric, name = f"{task}/AP", f"{TASKS[task]} AP"
    points: Sequence[tuple[int, float]] = [point for point in curves.get(metric, ()) if math.isfinite(point[1])]
    if len(points) < 3:
        return []
    (_, before), (_, last) = points[-2:]
    iteration, best = max(points, key=lambda point: point[1])
    if last == best and last > 1.03 * before:
        return [f"The {name} was still rising at the end: longer training (SOLVER.MAX_EPOCHS) will most likely help."]
    if best > 1.03 * last:
        return [
            f"The {name} was best after {iteration + 1:,} iterations ({best:.1f}) and then fell to {last:.1f}: "
            "model_best.pth holds the best weights, and fewer or more varied epochs may do better."
        ]
    return []
