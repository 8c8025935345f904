"""Soft-NMS (Bodla et al., 2017): boxes that overlap better ones of their class get lower scores instead of going.

n boxes of an image.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, fast_rcnn_inference_single_image
from detectron2.structures import Instances
from torch import nn

from ..ops.layers import Form

EVERYTHING = 2.0  # intersection over union, above which no box is left out

Lower = Callable[[np.ndarray], np.ndarray]  # intersections over union with a better box → factors of scores


def soften_suppression(model: nn.Module, method: str, sigma: float) -> None:
    """Lets the box heads of a detector suppress softly, in evaluation.

    Args:
        model: whose FastRCNNOutputLayers are changed
        method: linear, for boxes that overlap by more than MODEL.ROI_HEADS.NMS_THRESH_TEST, or gaussian, for all
        sigma: of the Gaussian: the larger, the less scores fall
    """
    for layers in model.modules():
        if isinstance(layers, FastRCNNOutputLayers):
            vars(layers)["inference"] = Form(functools.partial(_find_boxes, method=method, sigma=sigma), layers)


def _find_boxes(
    layers: Any, predictions: Any, proposals: list[Instances], *, method: str, sigma: float
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Does what FastRCNNOutputLayers.inference does."""
    boxes, scores = layers.predict_boxes(predictions, proposals), layers.predict_probs(predictions, proposals)
    lower = functools.partial(lower_linearly, bound=layers.test_nms_thresh)
    if method == "gaussian":
        lower = functools.partial(lower_smoothly, sigma=sigma)
    results, kept = [], []
    for few, some, proposal in zip(boxes, scores, proposals, strict=True):
        least = layers.test_score_thresh
        found, rows = fast_rcnn_inference_single_image(few, some, proposal.image_size, least, EVERYTHING, -1)
        chosen, lowered = suppress_softly(found.pred_boxes.tensor, found.scores, found.pred_classes, lower, least)
        chosen, lowered = chosen[: layers.test_topk_per_image], lowered[: layers.test_topk_per_image]
        found = found[chosen]
        found.scores = lowered
        results.append(found)
        kept.append(rows[chosen])
    return results, kept


def lower_linearly(overlaps: np.ndarray, bound: float) -> np.ndarray:
    return np.where(overlaps >= bound, 1 - overlaps, 1.0)


def lower_smoothly(overlaps: np.ndarray, sigma: float) -> np.ndarray:
    return np.exp(-(overlaps**2) / sigma)


def suppress_softly(
    boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, lower: Lower, least: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowers the scores of boxes, class by class, and chooses those that stay above `least`.

    Args:
        boxes: (n, 4) x0 y0 x1 y1
        scores: (n,)
        classes: (n,)
        lower: factors of the scores of other boxes
        least: score above which a box stays

    Returns:
        Rows of those that stay, by falling new score, and these
    """
    places, values, numbers = (tensor.cpu().numpy() for tensor in (boxes.double(), scores.double(), classes))
    lowered = np.zeros_like(values)
    for number in np.unique(numbers):
        members = np.flatnonzero(numbers == number)
        lowered[members] = _lower_class(places[members], values[members], lower, least)
    rows = np.argsort(-lowered, kind="stable")
    rows = torch.from_numpy(rows[lowered[rows] > least]).to(boxes.device)
    return rows, torch.from_numpy(lowered).to(scores)[rows]


def _lower_class(boxes: np.ndarray, scores: np.ndarray, lower: Lower, least: float) -> np.ndarray:
    """Lowers the scores of the boxes of one class; 0 where they fall to `least`, from where they don't come back."""
    scores, lowered = scores.copy(), np.zeros_like(scores)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    left = np.flatnonzero(scores > least)
    while len(left):
        place = scores[left].argmax()
        best, left = left[place], np.delete(left, place)
        lowered[best] = scores[best]
        sides = np.minimum(boxes[left, 2:], boxes[best, 2:]) - np.maximum(boxes[left, :2], boxes[best, :2])
        shared = np.clip(sides, 0, None).prod(1)
        scores[left] *= lower(shared / np.maximum(areas[left] + areas[best] - shared, 1e-12))
        left = left[scores[left] > least]
    return lowered
