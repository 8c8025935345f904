"""Which classes are taken for which."""

import numpy as np

from .comparison import Comparison
from .curves import IOUS
from .matching import match


def count_confusions(comparison: Comparison, kept: np.ndarray) -> np.ndarray:
    """Counts objects by their class and the class of the detection that is on them.

    Every object is one detection at most, of its own class where COCO's rule matches one; of the detections that are
    left, each takes, by falling score, the free object of another class that it overlaps most, by 0.5 at least.

    Args:
        comparison: of K classes
        kept: (D,) bool, the detections that count

    Returns:
        (K + 1, K + 1), by the class of the object, then that of the detection; the last row and column are the
        background. Rows add up to the objects of a class, without crowds, columns to its kept detections.
    """
    objects, detections, overlaps = comparison.objects, comparison.detections, comparison.overlaps
    classes = len(comparison.names)
    found_as = np.where(kept & comparison.right, comparison.matched, -1)
    free = ~objects.crowd
    free[found_as[found_as >= 0]] = False
    rest = overlaps.select((kept & comparison.wrong)[overlaps.detection] & free[overlaps.object])
    nothing = np.zeros(len(free), bool)
    others = match(rest, detections.image, IOUS[:1], nothing, nothing)[0]
    found_as = np.maximum(found_as, others)
    truth = np.append(objects.category, classes)[found_as]  # of -1: the background
    counted = kept & ~comparison.ignored
    confusion = np.zeros((classes + 1, classes + 1), np.int64)
    np.add.at(confusion, (truth[counted], detections.category[counted]), 1)
    free[found_as[found_as >= 0]] = False
    confusion[:classes, classes] = np.bincount(objects.category[free], minlength=classes)
    return confusion
