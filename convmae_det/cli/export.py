r"""Writes a trained network, or an encoder, as a file that runs without this project: TorchScript or ONNX.

Examples:
    convmae-det export --config-file output/b/config.yaml --weights output/b/model_final.pth --format onnx \
        --image photo.jpg --output detector.onnx
    convmae-det export --config-file output/b/config.yaml --weights output/b/model_final.pth --format torchscript \
        --device cuda --image photo.jpg --output detector.pt MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.3
    convmae-det export --config-file output/classify/config.yaml --weights output/classify/model_final.pth \
        --format onnx --image photo.jpg --output classifier.onnx
    convmae-det export --weights output/pretrain/model_final.pth --format onnx --image photo.jpg --output encoder.onnx

The file of a detector takes one image, (C, H, W) uint8 with the channels of INPUT.FORMAT, resized as for evaluation, of
any height and width, and gives boxes (n, 4) in pixels of that image, classes (n,) from 0, scores (n,) and, with
MODEL.MASK_ON, masks (n, 28, 28), probabilities over the box. That of a classifier takes images (N, C, H, W) uint8 and
gives scores (N, classes), that of a segmentor an image as a detector's does and gives logits (classes, H, W). The file
of an encoder takes and gives what convmae_det.create_encoder does: normalised images (N, C, H, W) float32 of any size,
and the maps e1, e2, e3, e4.

It is run on the image that you name, and on the upper three quarters of it, and is kept only if it gives what eager
mode gives. docs/export.md shows how to use it.
"""

import argparse

from ..config.architectures import is_classifier, is_detector, is_panoptic, is_segmentor
from ..config.device import find_available_device
from ..data.configuration import read_tool_config
from ..errors import InputError
from ..files import atomic_write
from ..inference.export.classifier import export_classifier
from ..inference.export.detector import export_detector
from ..inference.export.encoder import export_encoder, refuse_whole_detector
from ..inference.export.segmentor import export_segmentor
from ..inference.export.verification import FORMATS
from .arguments import command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    content = _export(args)
    with atomic_write(args.output) as file:
        file.write(content)
    print(f"{args.output} written, {len(content) / 1e6:,.1f} MB")


def _export(args: argparse.Namespace) -> bytes:
    device = "cpu" if args.format == "onnx" else args.device
    if args.config_file and not args.encoder:
        cfg = read_tool_config(args.config_file, args.pairs, device)
        if is_panoptic(cfg):
            raise InputError(f"{args.config_file} describes a panoptic FPN; its encoder can be exported: add --encoder")
        if is_detector(cfg):
            return export_detector(cfg, args.weights, args.image, args.format, _say)
        if is_classifier(cfg):
            return export_classifier(cfg, args.weights, args.image, args.format, _say)
        if is_segmentor(cfg):
            return export_segmentor(cfg, args.weights, args.image, args.format, _say)
    if args.pairs:
        raise InputError(f"{args.pairs[0]} is a setting of a detector, and this is an encoder: leave it out")
    if not args.encoder:
        refuse_whole_detector(args.weights)
    device = find_available_device(device or "cpu")
    return export_encoder(args.weights, args.image, args.format, _say, config=args.config_file, device=device)


def _say(text: str) -> None:
    print(text, flush=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("export", __doc__)
    add = parser.add_argument_group("network").add_argument
    add("--weights", metavar="FILE", required=True, help="a checkpoint")
    add("--config-file", metavar="FILE", help="config.yaml of the run that wrote it; an encoder may do without")
    add("--encoder", action="store_true", help="the encoder alone of another network")
    add("--device", default="", help="that TorchScript is to run on: cpu or cuda; ONNX runs on any")
    add("pairs", metavar="KEY VALUE", nargs="*", help="settings of a detector, such as a score threshold")
    add = parser.add_argument_group("result").add_argument
    add("--format", choices=FORMATS, required=True)
    add("--image", metavar="FILE", required=True, help="a photo to compare on; for a detector one with objects")
    add("--output", metavar="FILE", required=True, help="the file to write")
    return parser.parse_intermixed_args(arguments)
