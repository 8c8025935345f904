"""Segmentors as files.

The file takes one image and gives the logits of its classes, at each pixel:

========  =====================  =============================================================================
image     (C, H, W) uint8        the channels of INPUT.FORMAT, 0–255, resized as for evaluation; H and W are free
logits    (classes, H, W)        float32; a pixel's class is the one with the highest
========  =====================  =============================================================================

Normalisation and padding are inside. The windows of TEST.SLIDING_WINDOW are not: cut the image, and average the logits
where windows overlap, or give it whole.
"""

import json
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from ...data.image import read_image
from ...data.segmentation.mapper import EvaluationMapper
from ..model import build_trained_model
from .encoder import compare_maps
from .tracing import TraceableNetwork
from .verification import Report, export_network, format_size, require_packages


def export_segmentor(cfg: CfgNode, weights: str, image_file: str, format: str, report: Report = print) -> bytes:
    """Exports a trained segmentor, and runs the result on an image and on the upper three quarters of it.

    Args:
        cfg: of the segmentor, on the device for which it is traced; for ONNX the CPU
        weights: the path of its checkpoint
        image_file: any photo, used for tracing and for the comparison
        format: one of FORMATS
        report: called with progress, and with the result of the comparison

    Returns:
        The content of the file; see above for its inputs and outputs.

    Raises:
        InputError: the logits differ from those of eager mode by more than rounding; or a package that the format
            needs is missing.
    """
    require_packages(format)
    mapper = EvaluationMapper(cfg)
    pixels = read_image(image_file, cfg.INPUT.FORMAT, mapper.decoding)
    image = mapper.convert(pixels)["image"].to(cfg.MODEL.DEVICE)
    segmentor = ExportableSegmentor(build_trained_model(cfg, weights))
    report(f"Exporting, traced on {image_file} at {format_size(image)} pixels")
    examples = [image, image[:, : max(1, 3 * image.shape[1] // 4)]]
    return export_network(segmentor, examples, describe_segmentor(cfg), format, compare_maps, report)


class ExportableSegmentor(TraceableNetwork):
    """A segmentor on tensors: image → logits (see above)."""

    def __init__(self, model: nn.Module):
        """Takes a segmentor, in evaluation mode from now on."""
        super().__init__()
        for name, module in list[tuple[str, Any]](model.named_modules()):
            if isinstance(module, nn.AdaptiveAvgPool2d):
                size: Any = module.output_size
                model.set_submodule(name, TraceablePool(size))
        self.model: Any = model
        self.input_axes = {"image": {1: "height", 2: "width"}}
        self.output_axes = {"logits": {1: "height", 2: "width"}}
        self.eval()

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.model([{"image": image}])[0]["sem_seg"].float(),)


class TraceablePool(nn.Module):
    """nn.AdaptiveAvgPool2d to a square, as products with matrices: ONNX knows it for maps of one size alone."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        rows, columns = (self._average(torch.arange(maps.shape[axis], device=maps.device)) for axis in (2, 3))
        return rows.to(maps.dtype) @ maps @ columns.to(maps.dtype).T

    def _average(self, places: torch.Tensor) -> torch.Tensor:
        """Builds (size, n) of the places 0 to n − 1: cell i is the mean of ⌊i·n/size⌋ to ⌈(i+1)·n/size⌉ − 1."""
        cells, length = torch.arange(self.size, device=places.device)[:, None], places[-1] + 1
        start, end = cells * length // self.size, ((cells + 1) * length + self.size - 1) // self.size
        inside = ((places >= start) & (places < end)).float()
        return inside / inside.sum(1, keepdim=True)


def describe_segmentor(cfg: CfgNode) -> str:
    """Describes the segmentor as JSON: input channels, sizes for resizing, windows, names of classes."""
    return json.dumps(
        {
            "channels": cfg.INPUT.FORMAT,
            "min_size": cfg.INPUT.MIN_SIZE_TEST,  # pixels: resize the shorter side to this ...
            "max_size": cfg.INPUT.MAX_SIZE_TEST,  # ... unless the longer one would exceed this
            "window": cfg.TEST.SLIDING_WINDOW,  # pixels, of windows that evaluation cuts; 0: none
            "stride": cfg.TEST.SLIDING_STRIDE,  # pixels from one to the next
            "classes": [name for _, name in cfg.DATASETS.CATEGORIES],
        }
    )
