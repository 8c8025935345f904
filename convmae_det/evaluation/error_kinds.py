"""What is wrong with wrong detections and with objects that aren't found, and what mending it would give.

The kinds, their order and the gains are those of TIDE (arXiv 2008.08115), at an intersection over union of 0.5 for what
is found and 0.1 for what is touched. Crowds take no part: what matches one doesn't count.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .comparison import Comparison
from .curves import IOUS, interpolate, split_by_class
from .overlaps import Overlaps

# Of detections; an object that none finds, nor would after mending one of the first two, is "missed".
KINDS = ("localisation", "class", "duplicate", "both", "background")
MISSED, FALSE_POSITIVES, FALSE_NEGATIVES = "missed", "false_positives", "false_negatives"
CORRECT, IGNORED = "correct", "ignored"
VERDICTS = (*KINDS, CORRECT, IGNORED)
FOUND = IOUS[0]


@dataclass(frozen=True)
class Verdicts:
    """What each detection is.

    Attributes:
        verdict: (D,) places in VERDICTS
        target: (D,) row of the object that the verdict is about, -1 in the background
        iou: (D,) intersection over union with it, 0 in the background
    """

    verdict: np.ndarray
    target: np.ndarray
    iou: np.ndarray


def judge(comparison: Comparison) -> Verdicts:
    """Judges all detections.

    A wrong one is, by the first that holds: "localisation", touching an object of its class, but not finding it;
    "class", on an object of another class; "duplicate", on an object of its class that another has found; "both",
    touching an object of another class; "background".
    """
    overlaps, count = comparison.overlaps, len(comparison.detections.score)
    overlaps = overlaps.select(np.lexsort((overlaps.object, -overlaps.iou, overlaps.detection)))
    category = comparison.objects.category[overlaps.object]
    same = category == comparison.detections.category[overlaps.detection]
    single = ~comparison.objects.crowd[overlaps.object]
    own, own_iou = _find_best(overlaps, same & single, count)
    other, other_iou = _find_best(overlaps, ~same & single, count)
    match, match_iou = _find_best(overlaps, comparison.matched[overlaps.detection] == overlaps.object, count)
    conditions = {
        CORRECT: (comparison.right, match, match_iou),
        IGNORED: (comparison.ignored, match, match_iou),
        "localisation": ((own >= 0) & (own_iou < FOUND), own, own_iou),
        "class": (other_iou >= FOUND, other, other_iou),
        "duplicate": (own_iou >= FOUND, own, own_iou),
        "both": (other >= 0, other, other_iou),
        "background": (np.ones(count, bool), np.full(count, -1), np.zeros(count)),
    }
    holds, targets, ious = zip(*conditions.values(), strict=True)
    verdict = np.select(holds, [VERDICTS.index(name) for name in conditions])
    return Verdicts(verdict, np.select(holds, targets), np.select(holds, ious))


def _find_best(overlaps: Overlaps, chosen: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the first chosen pair of each detection: its object, -1 without any, and its overlap, 0 without any."""
    pairs = overlaps.select(chosen)
    detection, first = np.unique(pairs.detection, return_index=True)
    target, iou = np.full(count, -1), np.zeros(count)
    target[detection], iou[detection] = pairs.object[first], pairs.iou[first]
    return target, iou


def find_missed(comparison: Comparison, verdicts: Verdicts, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the objects that no kept detection, (D,) bool, finds; and which of them are missed.

    Returns:
        (G,) bool, and (G,) bool without those on which a kept detection is of kind "class" or "localisation"
    """
    found, covered = (np.zeros(len(comparison.objects.area), bool) for _ in range(2))
    found[comparison.matched[kept & comparison.right]] = True
    mendable = np.isin(verdicts.verdict, [KINDS.index("class"), KINDS.index("localisation")])
    covered[verdicts.target[kept & mendable]] = True
    unfound = ~found & ~comparison.objects.crowd
    return unfound, unfound & ~covered


def compute_gains(comparison: Comparison, verdicts: Verdicts) -> dict[str, float]:
    """Computes how many points of AP50 mending each kind alone would give, over all detections.

    Detections of kind "class" or "localisation" become right, on each object the one of the highest score; others of
    the kind go, as all do of "duplicate", "both", "background" and "false_positives". Objects of "missed" and
    "false_negatives" are no longer to be found. A class of which nothing is left to find has an AP50 of 0 with
    detections, of 100 without.

    Returns:
        By kind; empty without any object.
    """
    classes, positives = len(comparison.names), comparison.positives
    if not positives.any():
        return {}
    order = np.argsort(-comparison.detections.score, kind="stable")
    order = order[~comparison.ignored[order]]
    right, category = comparison.right[order], comparison.detections.category[order]
    kind, target = verdicts.verdict[order], verdicts.target[order]
    unfound, missed = find_missed(comparison, verdicts, np.ones(len(comparison.matched), bool))

    def score(
        kept: np.ndarray, right: np.ndarray = right, category: np.ndarray = category, left: np.ndarray = positives
    ) -> float:
        members, hits = split_by_class(category[kept], classes), right[kept]
        return _average_ap50([hits[members[k]] for k in np.flatnonzero(positives)], left[positives > 0])

    every = np.ones(len(order), bool)
    present = score(every)
    scores = {}
    for name in KINDS:
        of_kind = kind == KINDS.index(name)
        mended = np.zeros(len(order), bool)
        if name in ("class", "localisation"):
            rows = np.flatnonzero(of_kind & unfound[target])
            mended[rows[np.unique(target[rows], return_index=True)[1]]] = True
        classes_then = np.where(mended, comparison.objects.category[target], category) if len(unfound) else category
        scores[name] = score(~of_kind | mended, right | mended, classes_then)
    found, unmissed = (
        positives - np.bincount(comparison.objects.category[gone], minlength=classes) for gone in (unfound, missed)
    )
    scores[MISSED] = score(every, left=unmissed)
    scores[FALSE_POSITIVES] = score(right)
    scores[FALSE_NEGATIVES] = score(every, left=found)
    return {name: value - present for name, value in scores.items()}


def _average_ap50(hits: list[np.ndarray], positives: np.ndarray) -> float:
    """Computes the mean AP50 of classes, in percent, of (n,) bool by falling score and objects to find of each."""
    scores = [
        interpolate(right[None], ~right[None], number)[0].mean() if number else float(not len(right))
        for right, number in zip(hits, positives, strict=True)
    ]
    return 100 * float(np.mean(scores))


def count_errors(comparison: Comparison, verdicts: Verdicts, kept: np.ndarray) -> Mapping[str, int]:
    """Counts the errors of kept detections, (D,) bool, by kind."""
    counts = np.bincount(verdicts.verdict[kept], minlength=len(VERDICTS)).tolist()
    unfound, missed = find_missed(comparison, verdicts, kept)
    return dict(zip(KINDS, counts, strict=False)) | {
        MISSED: int(missed.sum()),
        FALSE_POSITIVES: int(comparison.wrong[kept].sum()),
        FALSE_NEGATIVES: int(unfound.sum()),
    }
