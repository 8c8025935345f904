#!/usr/bin/env python3
"""Draws the curves of training: losses, AP, learning rate, speed.

    plot_metrics.py OUTPUT_DIR                      # writes OUTPUT_DIR/curves.png
    plot_metrics.py OUTPUT_DIR OUTPUT_DIR ...       # compares runs, in ./curves.png

An OUTPUT_DIR is that of a run of train_net.py or pretrain_net.py, which may still be going on; its metrics.json, or
that of any other program that trains with Detectron2, can be named as well.
"""

import argparse
import os
import sys

from ..errors import InputError
from ..evaluation.metrics_file import read_metrics
from ..visualization.curves import draw_curves
from ..visualization.sheet import save_png


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    runs = {path.removesuffix("metrics.json").rstrip(os.sep) or path: read_metrics(path) for path in args.runs}
    folder = args.runs[0] if os.path.isdir(args.runs[0]) else os.path.dirname(args.runs[0])
    output = args.output or os.path.join(folder if len(runs) == 1 else "", "curves.png")
    save_png(draw_curves(runs), output)
    print(f"{output} written")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", metavar="OUTPUT_DIR", nargs="+", help="a folder with metrics.json, or that file")
    parser.add_argument("--output", metavar="FILE.png", help="the picture to write")
    return parser.parse_intermixed_args(arguments)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
