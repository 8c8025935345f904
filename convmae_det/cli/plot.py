"""Draws the curves of training: losses, AP, learning rate, speed.

Examples:
    convmae-det plot output/b                               # writes output/b/curves.png
    convmae-det plot output/b output/s --output both.png    # compares runs; by itself in ./curves.png

An OUTPUT_DIR is that of a run, which may still be going on; its metrics.json, or that of any other program that trains
with Detectron2, can be named as well.
"""

import argparse
import os

from ..evaluation.metrics_file import read_metrics
from ..visualization.curves import draw_curves
from ..visualization.sheet import save_png
from .arguments import command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    runs = {path.removesuffix("metrics.json").rstrip(os.sep) or path: read_metrics(path) for path in args.runs}
    folder = args.runs[0] if os.path.isdir(args.runs[0]) else os.path.dirname(args.runs[0])
    output = args.output or os.path.join(folder if len(runs) == 1 else "", "curves.png")
    save_png(draw_curves(runs), output)
    print(f"{output} written")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("plot", __doc__)
    parser.add_argument("runs", metavar="OUTPUT_DIR", nargs="+", help="a folder with metrics.json, or that file")
    parser.add_argument("--output", metavar="FILE.png", help="the picture to write")
    return parser.parse_intermixed_args(arguments)
