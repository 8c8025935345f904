"""Classifiers as files.

The file takes images (N, C, H, W) uint8 with the channels of INPUT.FORMAT, 0–255, resized as for evaluation, and gives
scores (N, classes) float32, which sum to 1 for each image. H and W are multiples of 16.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode

from ...config.presets import STRIDE
from ...data.classification.mapper import EvaluationMapper
from ...data.image import read_image
from ...modeling.classifier import ImageClassifier
from ..model import build_trained_model
from .tracing import TraceableNetwork
from .verification import Report, export_network, format_size, require_packages


def export_classifier(cfg: CfgNode, weights: str, image_file: str, format: str, report: Report = print) -> bytes:
    """Exports a trained classifier, and compares the result on an image, and on its upper half with that mirrored.

    Args:
        cfg: of the classifier, on the device for which it is traced; for ONNX the CPU
        weights: the path of its checkpoint
        image_file: any photo, used for tracing and for the comparison
        format: one of FORMATS
        report: called with progress, and with the result of the comparison

    Returns:
        The content of the file; see above for its inputs and outputs.

    Raises:
        InputError: the scores differ from those of eager mode by more than rounding; or a package that the format
            needs is missing.
    """
    require_packages(format)
    mapper = EvaluationMapper(cfg)
    image = mapper.transform(read_image(image_file, cfg.INPUT.FORMAT, mapper.decoding))[None].to(cfg.MODEL.DEVICE)
    model: Any = build_trained_model(cfg, weights)
    report(f"Exporting, traced on {image_file} at {format_size(image)} pixels")
    upper = image[:, :, : max(STRIDE, mapper.size // 2 // STRIDE * STRIDE)]
    examples = [image, torch.cat([upper, upper.flip(-1)])]
    network = ExportableClassifier(model)
    return export_network(network, examples, describe_classifier(cfg, mapper), format, compare_scores, report)


class ExportableClassifier(TraceableNetwork):
    """A classifier on tensors: images → scores (see above)."""

    def __init__(self, model: ImageClassifier):
        """Takes a classifier, in evaluation mode from now on."""
        super().__init__()
        self.model = model
        self.input_axes = {"images": {0: "number", 2: "height", 3: "width"}}
        self.output_axes = {"scores": {0: "number"}}
        self.eval()

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        normalised = (images.float() - self.model.pixel_mean) / self.model.pixel_std
        return (self.model.logits(normalised).float().softmax(dim=1),)


def describe_classifier(cfg: CfgNode, mapper: EvaluationMapper) -> str:
    """Describes the classifier as JSON: input channels, sizes for resizing and cropping, names of classes."""
    return json.dumps(
        {
            "channels": cfg.INPUT.FORMAT,
            "resized": int(mapper.size / mapper.crop),  # pixels: the shorter side, of which ...
            "size": mapper.size,  # ... a square of this side in the middle is seen
            "classes": [name for _, name in cfg.DATASETS.CATEGORIES],
        }
    )


class ScoreComparison(NamedTuple):
    """The largest difference between the scores of two runs."""

    difference: float

    LARGEST = 1e-4

    @property
    def agrees(self) -> bool:
        return self.difference <= self.LARGEST

    def __str__(self) -> str:
        return f"largest difference of scores between eager mode and the file: {self.difference:.1e}"


def compare_scores(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> ScoreComparison:
    """Compares the scores of two runs, each as :class:`ExportableClassifier` returns them."""
    (ours,), (theirs,) = expected, found
    return ScoreComparison(float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf"))
