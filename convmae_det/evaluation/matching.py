"""Which detection is which object: COCO's rule, for all images and several thresholds at a time.

Detections choose one after another, by falling score, among the objects that are still free: the one they overlap most,
of equal ones the last; objects that are to be ignored only where no other is left. A crowd is always free.
"""

import numpy as np

from .overlaps import Overlaps
from .tables import rank_in_groups


def match(
    overlaps: Overlaps, group: np.ndarray, thresholds: np.ndarray, ignored: np.ndarray, crowd: np.ndarray
) -> np.ndarray:
    """Matches detections with objects.

    All groups take turns at once: first each one's first detection, then each one's second.

    Args:
        overlaps: the pairs that may become matches
        group: (D,) number of what a detection competes in, such as its image and class; objects belong to one group
        thresholds: (T,) least intersection over union
        ignored: (G,) bool, objects that only make detections be ignored
        crowd: (G,) bool, objects that any number of detections may match

    Returns:
        (T, D) rows of the objects; -1 for none
    """
    matched = np.full((len(thresholds), len(group)), -1, np.int64)
    overlaps = overlaps.select(overlaps.iou >= thresholds.min())
    if not len(overlaps.iou):
        return matched
    competing, place = np.unique(overlaps.detection, return_inverse=True)
    turn = rank_in_groups(group[competing])[place]
    wish = (-overlaps.object, -overlaps.iou, ignored[overlaps.object], overlaps.detection, turn)
    order = np.lexsort(wish)
    overlaps, turn = overlaps.select(order), turn[order]
    free = np.ones((len(thresholds), len(ignored)), bool)
    ends = np.append(np.flatnonzero(turn[1:] != turn[:-1]) + 1, len(turn)).tolist()
    for start, end in zip([0, *ends], ends, strict=False):
        detection, target = overlaps.detection[start:end], overlaps.object[start:end]
        possible = free[:, target] & (overlaps.iou[start:end] >= thresholds[:, None])
        firsts = np.flatnonzero(np.append(True, detection[1:] != detection[:-1]))
        choice = np.where(possible, np.arange(end - start), end - start)
        choice = np.minimum.reduceat(choice, firsts, axis=1)  # (T, detections of this turn)
        level, chooser = np.nonzero(choice < end - start)
        chosen = target[choice[level, chooser]]
        matched[level, detection[firsts[chooser]]] = chosen
        free[level, chosen] = crowd[chosen]
    return matched
