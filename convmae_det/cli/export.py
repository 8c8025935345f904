#!/usr/bin/env python3
"""Writes a trained detector as a file that runs without this project: TorchScript or ONNX.

    export.py --config-file output/config.yaml --weights output/model_final.pth --format onnx \\
        --image photo.jpg --output detector.onnx

The file takes one image, (C, H, W) uint8 with the channels of INPUT.FORMAT, resized as for evaluation, of any height
and width, and gives boxes (n, 4) in pixels of that image, classes (n,) from 0, scores (n,) and, with MODEL.MASK_ON,
masks (n, 28, 28), probabilities over the box. It is run on the image that you name, and on the upper three quarters of
it, and is kept only if its detections are those of eager mode. docs/export.md shows how to use it.
"""

import argparse
import sys

import convmae_det  # noqa: F401  (first, for it silences what PyTorch says of Detectron2)

# isort: split
import torch

from ..data.configuration import read_tool_config
from ..data.detection.mapper import DetectionMapper
from ..errors import InputError
from ..files import atomic_write
from ..inference import export
from ..inference.model import build_trained_model


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    onnx = args.format == "onnx"
    if onnx:
        for package in ("onnx", "onnxruntime"):
            export.import_onnx(package)
    cfg = read_tool_config(args.config_file, args.pairs, "cpu" if onnx else args.device)
    image = DetectionMapper(cfg, is_train=False)({"file_name": args.image})["image"].to(cfg.MODEL.DEVICE)
    detector = export.ExportableDetector(build_trained_model(cfg, args.weights))
    expected = [output.cpu() for output in detector(image)]
    if not len(expected[0]):
        raise InputError(f"nothing is detected in {args.image}, so there is nothing to compare: name another --image")

    print(f"Exporting, traced on {args.image} at {image.shape[2]}×{image.shape[1]} pixels", flush=True)
    text = export.description(cfg)
    if onnx:
        content = export.to_onnx(detector, image, text)
        run = export.run_onnx(content)
    else:
        content = export.to_torchscript(detector, image, text)
        run = export.run_torchscript(content, cfg.MODEL.DEVICE)
    upper = image[:, : 3 * image.shape[1] // 4]
    require_agreement(expected, run(image), image)
    require_agreement([output.cpu() for output in detector(upper)], run(upper), upper)
    with atomic_write(args.output) as file:
        file.write(content)
    print(f"{args.output} written, {len(content) / 1e6:,.1f} MB")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", metavar="FILE", required=True, help="config.yaml of the training run")
    parser.add_argument("--weights", metavar="FILE", required=True, help="its checkpoint")
    parser.add_argument("--format", choices=("torchscript", "onnx"), required=True)
    parser.add_argument("--image", metavar="FILE", required=True, help="a photo with objects, to compare on")
    parser.add_argument("--output", metavar="FILE", required=True, help="the file to write")
    parser.add_argument("--device", default="", help="that TorchScript is to run on: cpu or cuda; ONNX runs on any")
    parser.add_argument("pairs", metavar="KEY VALUE", nargs="*", help="settings, such as a score threshold")
    return parser.parse_intermixed_args(arguments)


def require_agreement(expected: list[torch.Tensor], found: list[torch.Tensor], image: torch.Tensor) -> None:
    """Prints the comparison. Raises InputError if the differences are more than rounding."""
    comparison = export.compare(expected, found)
    print(f"{image.shape[2]}×{image.shape[1]} pixels: {comparison}", flush=True)
    if not comparison.agrees:
        raise InputError("the exported network differs from eager mode by more than rounding, so no file is written")


if __name__ == "__main__":
    try:
        with export.quiet():
            main()
    except InputError as error:
        sys.exit(f"error: {error}")
