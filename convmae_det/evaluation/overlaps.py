"""How much detections and objects overlap: computed once, for COCO's metrics and for all that explains them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths
from tqdm import tqdm

from .tables import Detections, Objects

LEAST = 0.1  # intersection over union: what overlaps less doesn't touch
AT_A_TIME = 512  # detections whose overlaps with all objects of their image are in memory at once


@dataclass(frozen=True)
class Overlaps:
    """P pairs of a detection and an object of one image, by rising detection, then object.

    Attributes:
        detection: (P,) rows of the detections
        object: (P,) rows of the objects
        iou: (P,) intersection over union, at least LEAST; with a crowd, the share of the detection inside
    """

    detection: np.ndarray
    object: np.ndarray
    iou: np.ndarray

    def select(self, chosen: np.ndarray) -> "Overlaps":
        """Selects the pairs that are chosen, (P,) bool."""
        return Overlaps(self.detection[chosen], self.object[chosen], self.iou[chosen])


def find_overlaps(objects: Objects, detections: Detections, object_shapes: Any, found_shapes: Any) -> Overlaps:
    """Finds the pairs of all classes.

    Args:
        objects: G of them
        detections: D of them
        object_shapes: boxes (G, 4), or G masks in run lengths
        found_shapes: the same of the detections
    """
    images = np.intersect1d(objects.image, detections.image)
    first, last = (np.searchsorted(detections.image, images, side).tolist() for side in ("left", "right"))
    start, end = (np.searchsorted(objects.image, images, side).tolist() for side in ("left", "right"))
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    rows = zip(first, last, start, end, strict=True)
    for a, b, c, d in tqdm(rows, "Overlaps", len(first), unit=" images", delay=2, leave=False, disable=None):
        for few in range(a, b, AT_A_TIME):
            shapes = found_shapes[few : min(few + AT_A_TIME, b)]
            iou = np.asarray(run_lengths.iou(shapes, object_shapes[c:d], objects.crowd[c:d].astype(np.uint8)))
            row, column = np.nonzero(iou >= LEAST)
            parts.append((row + few, column + c, iou[row, column]))
    return Overlaps(*map(np.concatenate, zip(*parts, strict=True)))
