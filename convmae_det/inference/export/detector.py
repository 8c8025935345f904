"""Detectors as files.

The file takes one image and gives what it finds in it, before anything is scaled or drawn:

========  ===============  ==============================================================================
image     (C, H, W) uint8  the channels of INPUT.FORMAT, 0–255, resized as for evaluation; H and W are free
boxes     (n, 4) float32   x0, y0, x1, y1 in pixels of that image
classes   (n,) int64       counted from 0
scores    (n,) float32     falling
masks     (n, M, M)        float32 probabilities over the box, M = 28 by default; without MODEL.MASK_ON left out
========  ===============  ==============================================================================

Normalisation, padding, the score threshold and the suppression of duplicates are inside. Detectron2 patches its own
part for tracing; `modeling` says where ours needs care.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.modeling import GeneralizedRCNN
from torch import nn

from ...config.checks.rules import require
from ...data.detection.mapper import DetectionMapper
from ...errors import InputError
from ..model import build_trained_model
from .tracing import TraceableNetwork
from .verification import Report, export_network, format_size, require_packages

OUTPUTS = ("boxes", "classes", "scores", "masks")


def export_detector(cfg: CfgNode, weights: str, image_file: str, format: str, report: Report = print) -> bytes:
    """Exports a trained detector, and runs the result on an image and on the upper three quarters of it.

    Args:
        cfg: of the detector, on the device for which it is traced; for ONNX the CPU
        weights: the path of its checkpoint
        image_file: a photo with objects, used for tracing and for the comparison
        format: one of FORMATS
        report: called with progress, and with the result of the comparison

    Returns:
        The content of the file; see above for its inputs and outputs.

    Raises:
        InputError: nothing is found in the image, or the detections differ from those of eager mode by more than
            rounding; or a package that the format needs is missing.
    """
    require_packages(format)
    key, method = "MODEL.ROI_HEADS.SOFT_NMS.METHOD", cfg.MODEL.ROI_HEADS.SOFT_NMS.METHOD
    require(not method, key, method, "be empty for a file, which holds no loop over boxes")
    image = DetectionMapper(cfg, is_train=False)({"file_name": image_file})["image"].to(cfg.MODEL.DEVICE)
    detector = ExportableDetector(build_trained_model(cfg, weights))
    if not len(detector(image)[0]):
        raise InputError(f"nothing is detected in {image_file}, so there is nothing to compare: name another --image")
    report(f"Exporting, traced on {image_file} at {format_size(image)} pixels")
    examples = [image, image[:, : 3 * image.shape[1] // 4]]
    return export_network(detector, examples, describe_detector(cfg), format, compare_detections, report)


class ExportableDetector(TraceableNetwork):
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
        self.input_axes = {"image": {1: "height", 2: "width"}}
        self.output_axes = {name: {0: "detections"} for name in OUTPUTS[: 3 + model.roi_heads.mask_on]}
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
