"""Exports detectors and encoders, and compares the result with the original network."""

from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torchvision.transforms.v2 import functional as transforms

from ..checkpoint.loading import read_weights
from ..data.detection.mapper import DetectionMapper
from ..data.image import read_image
from ..errors import InputError
from . import export
from .exportable import (
    DetectionComparison,
    ExportableDetector,
    ExportableEncoder,
    MapComparison,
    compare_detections,
    compare_maps,
    describe_detector,
    describe_encoder,
)
from .feature_extractor import FeatureExtractor, create_encoder
from .model import build_trained_model

FORMATS = ("torchscript", "onnx")
SIDES = (224, 1024)  # pixels: the shorter side that an encoder is compared at, and the largest of the longer one

Report = Callable[[str], None]
Compare = Callable[[list[torch.Tensor], list[torch.Tensor]], DetectionComparison | MapComparison]


def export_detector(cfg: CfgNode, weights: str, image_file: str, format: str, report: Report = print) -> bytes:
    """Exports a trained detector, and runs the result on an image and on the upper three quarters of it.

    Args:
        cfg: of the detector, on the device for which it is traced; for ONNX the CPU
        weights: the path of its checkpoint
        image_file: a photo with objects, used for tracing and for the comparison
        format: one of FORMATS
        report: called with progress, and with the result of the comparison

    Returns:
        The content of the file; inference/exportable.py describes its inputs and outputs.

    Raises:
        InputError: nothing is found in the image, or the detections differ from those of eager mode by more than
            rounding; or a package that the format needs is missing.
    """
    _require_packages(format)
    image = DetectionMapper(cfg, is_train=False)({"file_name": image_file})["image"].to(cfg.MODEL.DEVICE)
    detector = ExportableDetector(build_trained_model(cfg, weights))
    if not len(detector(image)[0]):
        raise InputError(f"nothing is detected in {image_file}, so there is nothing to compare: name another --image")
    report(f"Exporting, traced on {image_file} at {_format_size(image)} pixels")
    content, run = _write(detector, image, describe_detector(cfg), format)
    for part in (image, image[:, : 3 * image.shape[1] // 4]):
        _compare(detector, run, part, compare_detections, report)
    return content


def export_encoder(
    weights: str,
    image_file: str,
    format: str,
    report: Report = print,
    *,
    config: str | Path | None = None,
    device: str = "cpu",
) -> bytes:
    """Exports an encoder as `create_encoder` gives it, and compares the result on an image and on two smaller ones.

    The image is resized. The smaller ones are its upper three quarters, whose sides are no multiple of a stride, and
    their mirror image, in one batch.

    Args:
        weights: the path of a checkpoint with an encoder
        image_file: any photo, used for tracing and for the comparison
        format: one of FORMATS
        report: called with progress, and with the result of the comparison
        config: as for `create_encoder`
        device: for which it is traced; for ONNX the CPU

    Returns:
        The content of the file; inference/exportable.py describes its inputs and outputs.

    Raises:
        InputError: the maps differ from those of eager mode by more than rounding; the weights or the image can't be
            read; or a package that the format needs is missing.
    """
    _require_packages(format)
    extractor = create_encoder(pretrained=weights, config=config).to(device)
    images = _read_normalised(image_file, extractor).to(device)
    encoder = ExportableEncoder(extractor)
    report(f"Exporting the encoder, traced on {image_file} at {_format_size(images)} pixels")
    content, run = _write(encoder, images, describe_encoder(extractor), format)
    height, width = (_make_odd(side) for side in (3 * images.shape[2] // 4, images.shape[3]))
    upper = images[..., :height, :width]
    for batch in (images, torch.cat([upper, upper.flip(-1)])):
        _compare(encoder, run, batch, compare_maps, report)
    return content


def refuse_whole_detector(weights: str) -> None:
    """Checks that a file isn't a detector's, whose configuration must be named if it is to be exported.

    Raises:
        InputError: it has heads.
    """
    content = read_weights(weights)
    backbone = "backbone."
    if (content.prefix or "").startswith(backbone) and not all(name.startswith(backbone) for name in content.tensors):
        raise InputError(
            f"{weights} is a detector: name the config.yaml of its run with --config-file, or export its encoder alone "
            "with --encoder"
        )


def _require_packages(format: str) -> None:
    if format == "onnx":
        for package in ("onnx", "onnxruntime"):
            export.import_onnx(package)


def _read_normalised(image_file: str, extractor: FeatureExtractor) -> torch.Tensor:
    """Reads an image as an encoder takes it, (1, C, H, W) float32.

    Raises:
        InputError: it can't be read, or the meaning of the encoder's channels is unknown.
    """
    mean, std = extractor.mean, extractor.std
    if extractor.image_format is None or mean is None or std is None:
        raise InputError(
            f"the encoder takes {extractor.in_channels} channels, and which ones the weights don't tell: name the "
            "config.yaml of the run that wrote them with --config-file"
        )
    pixels = torch.from_numpy(read_image(image_file, extractor.image_format)).permute(2, 0, 1)
    side, largest = SIDES
    resized = transforms.resize(pixels, [side], max_size=largest, antialias=True)
    return transforms.normalize(resized / 255, list(mean), list(std))[None]


def _write(network: export.Exportable, example: torch.Tensor, text: str, format: str) -> tuple[bytes, export.Runner]:
    """Returns the content of the file, and a function that runs it."""
    if format == "onnx":
        content = export.to_onnx(network, example, text)
        return content, export.build_onnx_runner(content)
    content = export.to_torchscript(network, example, text)
    return content, export.build_torchscript_runner(content, str(example.device))


def _compare(
    network: export.Exportable, run: export.Runner, example: torch.Tensor, compare: Compare, report: Report
) -> None:
    """Compares what a network and its file give.

    Raises:
        InputError: more than rounding is different.
    """
    comparison = compare([output.cpu() for output in network(example)], list(run(example)))
    report(f"{_format_size(example)} pixels: {comparison}")
    if not comparison.agrees:
        raise InputError("the exported network differs from eager mode by more than rounding, so no file is written")


def _make_odd(side: int) -> int:
    """Returns the largest odd number up to `side`, at least 1."""
    return max(0, side - 1) | 1


def _format_size(image: torch.Tensor) -> str:
    return f"{image.shape[-1]}×{image.shape[-2]}"
