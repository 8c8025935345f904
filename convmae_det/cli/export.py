r"""Writes a trained detector as a file that runs without this project: TorchScript or ONNX.

Examples:
    convmae-det export --config-file output/b/config.yaml --weights output/b/model_final.pth --format onnx \
        --image photo.jpg --output detector.onnx
    convmae-det export --config-file output/b/config.yaml --weights output/b/model_final.pth --format torchscript \
        --device cuda --image photo.jpg --output detector.pt MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.3

The file takes one image, (C, H, W) uint8 with the channels of INPUT.FORMAT, resized as for evaluation, of any height
and width, and gives boxes (n, 4) in pixels of that image, classes (n,) from 0, scores (n,) and, with MODEL.MASK_ON,
masks (n, 28, 28), probabilities over the box. It is run on the image that you name, and on the upper three quarters of
it, and is kept only if its detections are those of eager mode. docs/export.md shows how to use it.
"""

import argparse

from ..data.configuration import read_tool_config
from ..files import atomic_write
from ..inference.export import suppress_tracing_warnings
from ..inference.verified_export import FORMATS, export_detector
from .arguments import command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    cfg = read_tool_config(args.config_file, args.pairs, "cpu" if args.format == "onnx" else args.device)
    with suppress_tracing_warnings():
        content = export_detector(cfg, args.weights, args.image, args.format, lambda text: print(text, flush=True))
    with atomic_write(args.output) as file:
        file.write(content)
    print(f"{args.output} written, {len(content) / 1e6:,.1f} MB")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("export", __doc__)
    add = parser.add_argument_group("detector").add_argument
    add("--config-file", metavar="FILE", required=True, help="config.yaml of the training run")
    add("--weights", metavar="FILE", required=True, help="its checkpoint")
    add("--device", default="", help="that TorchScript is to run on: cpu or cuda; ONNX runs on any")
    add("pairs", metavar="KEY VALUE", nargs="*", help="settings, such as a score threshold")
    add = parser.add_argument_group("result").add_argument
    add("--format", choices=FORMATS, required=True)
    add("--image", metavar="FILE", required=True, help="a photo with objects, to compare on")
    add("--output", metavar="FILE", required=True, help="the file to write")
    return parser.parse_intermixed_args(arguments)
