"""Exports detectors, and compares the result with the original network."""

from collections.abc import Callable

import torch
from detectron2.config import CfgNode

from ..data.detection.mapper import DetectionMapper
from ..errors import InputError
from . import export
from .model import build_trained_model

FORMATS = ("torchscript", "onnx")


def export_detector(
    cfg: CfgNode, weights: str, image_file: str, format: str, report: Callable[[str], None] = print
) -> bytes:
    """Exports a trained detector, and runs the result on an image and on the upper three quarters of it.

    Args:
        cfg: of the detector, on the device for which it is traced; for ONNX the CPU
        weights: the path of its checkpoint
        image_file: a photo with objects, used for tracing and for the comparison
        format: one of FORMATS
        report: called with progress, and with the result of the comparison

    Returns:
        The content of the file; inference/export.py describes its inputs and outputs.

    Raises:
        InputError: nothing is found in the image, or the detections differ from those of eager mode by more than
            rounding; or a package that the format needs is missing.
    """
    if format == "onnx":
        for package in ("onnx", "onnxruntime"):
            export.import_onnx(package)
    image = DetectionMapper(cfg, is_train=False)({"file_name": image_file})["image"].to(cfg.MODEL.DEVICE)
    detector = export.ExportableDetector(build_trained_model(cfg, weights))
    expected = [output.cpu() for output in detector(image)]
    if not len(expected[0]):
        raise InputError(f"nothing is detected in {image_file}, so there is nothing to compare: name another --image")

    report(f"Exporting, traced on {image_file} at {_size(image)} pixels")
    text = export.describe_detector(cfg)
    if format == "onnx":
        content = export.to_onnx(detector, image, text)
        run = export.build_onnx_runner(content)
    else:
        content = export.to_torchscript(detector, image, text)
        run = export.build_torchscript_runner(content, cfg.MODEL.DEVICE)
    upper = image[:, : 3 * image.shape[1] // 4]
    for part, outputs in ((image, expected), (upper, [output.cpu() for output in detector(upper)])):
        comparison = export.compare_detections(outputs, run(part))
        report(f"{_size(part)} pixels: {comparison}")
        if not comparison.agrees:
            raise InputError(
                "the exported network differs from eager mode by more than rounding, so no file is written"
            )
    return content


def _size(image: torch.Tensor) -> str:
    return f"{image.shape[2]}×{image.shape[1]}"
