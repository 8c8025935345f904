"""Networks as functions of tensors, which can be traced, and the comparison of what two runs of one give.

A detector takes one image and gives what it finds in it, before anything is scaled or drawn:

========  ===============  ==============================================================================
image     (C, H, W) uint8  the channels of INPUT.FORMAT, 0–255, resized as for evaluation; H and W are free
boxes     (n, 4) float32   x0, y0, x1, y1 in pixels of that image
classes   (n,) int64       counted from 0
scores    (n,) float32     falling
masks     (n, M, M)        float32 probabilities over the box, M = 28 by default; without MODEL.MASK_ON left out
========  ===============  ==============================================================================

Normalisation, padding, the score threshold and the suppression of duplicates are inside. Detectron2 patches its own
part for tracing; `modeling` says where ours needs care.

An encoder takes and gives what :class:`.feature_extractor.FeatureExtractor` does: normalised images (N, C, H, W)
float32 of any size → the maps e1, e2, e3, e4, (N, C1, ⌈H/4⌉, ⌈W/4⌉) … float32.
"""

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.modeling import GeneralizedRCNN
from torch import nn

from ..errors import InputError
from .feature_extractor import FeatureExtractor

OUTPUTS = ("boxes", "classes", "scores", "masks")  # of a detector

Axes = dict[str, dict[int, str]]  # names of inputs or outputs, and of those of their axes that have any length


class ExportableDetector(nn.Module):
    """A GeneralizedRCNN on tensors: image → boxes, classes, scores and, if it has them, masks (see above)."""

    def __init__(self, model: nn.Module):
        """Takes a detector, in evaluation mode from now on.

        Raises:
            InputError: another architecture, or keypoints.
        """
        super().__init__()
        if not isinstance(model, GeneralizedRCNN) or getattr(model.roi_heads, "keypoint_on", False):
            raise InputError(
                "only detectors with boxes and masks are exported: set MODEL.META_ARCHITECTURE GeneralizedRCNN and "
                "MODEL.KEYPOINT_ON False"
            )
        self.model = model
        self.input_axes: Axes = {"image": {1: "height", 2: "width"}}
        self.output_axes: Axes = {name: {0: "detections"} for name in OUTPUTS[: 3 + model.roi_heads.mask_on]}
        self.eval()

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with patch_builtin_len():  # so that the number of detections is traced, not fixed
            (found,) = self.model.inference([{"image": image}], do_postprocess=False)
        masks = (found.pred_masks[:, 0],) if found.has("pred_masks") else ()
        return found.pred_boxes.tensor, found.pred_classes, found.scores, *masks


def describe_detector(cfg: CfgNode) -> str:
    """Describes the detector as JSON: input channels, sizes for resizing, names of classes."""
    return json.dumps(
        {
            "channels": cfg.INPUT.FORMAT,
            "min_size": cfg.INPUT.MIN_SIZE_TEST,  # pixels: resize the shorter side to this ...
            "max_size": cfg.INPUT.MAX_SIZE_TEST,  # ... unless the longer one would exceed this
            "classes": [name for _, name in cfg.DATASETS.CATEGORIES],
        }
    )


class ExportableEncoder(nn.Module):
    """An encoder on tensors: images → its maps, in the order of their names (see above)."""

    def __init__(self, extractor: FeatureExtractor):
        """Takes an encoder, in evaluation mode from now on."""
        super().__init__()
        self.extractor = extractor
        self.input_axes: Axes = {"images": {0: "number", 2: "height", 3: "width"}}
        self.output_axes: Axes = {
            name: {0: "number", 2: f"{name}_height", 3: f"{name}_width"} for name in extractor.features
        }
        self.eval()

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.extractor(images).values())


def describe_encoder(extractor: FeatureExtractor) -> str:
    """Describes the encoder as JSON: how to make its input, and the strides of its maps in pixels.

    `channels`, `mean` and `std`, for values of 0–1, are null where the weights came without a configuration and don't
    tell.
    """
    return json.dumps(
        {
            "channels": extractor.image_format,
            "mean": extractor.mean,
            "std": extractor.std,
            "strides": extractor.strides,
        }
    )


class DetectionComparison(NamedTuple):
    """Detections of two runs of one network, in pairs, and the largest differences within the pairs."""

    expected: int  # number of detections
    found: int
    paired: int
    boxes: float  # pixels
    scores: float
    masks: float | None  # probability; None without masks

    # Rounding sometimes changes what duplicate suppression removes: one detection in fifty may be unpaired.
    UNPAIRED = 0.02
    BOXES, SCORES, MASKS = 0.1, 1e-3, 1e-2

    @property
    def agrees(self) -> bool:
        unpaired = max(self.expected, self.found) - self.paired
        return (
            unpaired <= self.UNPAIRED * max(self.expected, self.found)
            and self.boxes <= self.BOXES
            and self.scores <= self.SCORES
            and (self.masks or 0) <= self.MASKS
        )

    def __str__(self) -> str:
        masks = "" if self.masks is None else f", masks {self.masks:.1e}"
        return (
            f"{self.expected} detections in eager mode, {self.found} in the file, {self.paired} of the same class at "
            f"the same place; largest difference: boxes {self.boxes:.1e} pixels, scores {self.scores:.1e}{masks}"
        )


def compare_detections(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> DetectionComparison:
    """Pairs the detections of two runs, each as :class:`ExportableDetector` returns them, in any order.

    The two of a pair have the same class, their boxes differ by less than a pixel, and each is the other's nearest.
    """
    (boxes, classes, scores, *masks), (other_boxes, other_classes, other_scores, *other_masks) = expected, found
    distance = (boxes[:, None] - other_boxes).abs().amax(2)
    distance = distance.masked_fill(classes[:, None] != other_classes, torch.inf)
    counts = len(boxes), len(other_boxes)
    if not min(counts):
        return DetectionComparison(*counts, 0, 0.0, 0.0, 0.0 if masks else None)
    nearest, back = distance.argmin(1), distance.argmin(0)
    rows = torch.arange(len(boxes))
    rows = rows[(back[nearest] == rows) & (distance[rows, nearest] < 1)]
    columns = nearest[rows]

    def largest(a: torch.Tensor, b: torch.Tensor) -> float:
        return (a[rows] - b[columns]).abs().max().item() if len(rows) else 0.0

    return DetectionComparison(
        *counts,
        len(rows),
        largest(boxes, other_boxes),
        largest(scores, other_scores),
        largest(masks[0], other_masks[0]) if masks else None,
    )


class MapComparison(NamedTuple):
    """The largest difference between two runs within a map, relative to the map's largest value, over all maps."""

    difference: float  # infinite for maps of different sizes

    LARGEST = 1e-3

    @property
    def agrees(self) -> bool:
        return self.difference <= self.LARGEST

    def __str__(self) -> str:
        return f"largest difference between eager mode and the file: {self.difference:.1e} of a map's largest value"


def compare_maps(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> MapComparison:
    """Compares the maps of two runs, each as :class:`ExportableEncoder` returns them."""
    if [a.shape for a in expected] != [b.shape for b in found]:
        return MapComparison(math.inf)
    differences = [(a - b).abs().max() / a.abs().max() for a, b in zip(expected, found, strict=True)]
    return MapComparison(float(torch.stack(differences).max()))  # NaN if one is
