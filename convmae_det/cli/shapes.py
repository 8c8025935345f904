"""Draws the shapes data set, in COCO's layout: a small one to try everything on.

Examples:
    convmae-det shapes
    convmae-det shapes my_data --train 16 --val 4 --size 320
    convmae-det shapes crowded --train 16 --val 4 --size 512 --objects 100 300

DIR receives annotations/instances_train.json, annotations/instances_val.json, the images in train/ and val/ (ellipses,
rectangles, triangles and stars), and in masks/ the number of the class at each pixel. It is left as it is if it holds
the very same already.
"""

import argparse
import inspect

from ..data.shapes import find_default_root, write_shapes
from .arguments import command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    outcome = "written" if write_shapes(**vars(args)) else "kept: they are there already"
    print(f"{args.root or find_default_root()}: {args.train} training, {args.val} validation images {outcome}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("shapes", __doc__)
    parser.add_argument("root", metavar="DIR", nargs="?", help="by itself shapes in $DETECTRON2_DATASETS or datasets/")
    for name, metavar, meaning in [
        ("train", "N", "training images"),
        ("val", "N", "validation images"),
        ("size", "PIXELS", "side of the square images"),
        ("objects", ("LEAST", "MOST"), "shapes in an image; the more, the smaller"),
        ("seed", "S", "other seeds give other images"),
    ]:
        default = inspect.signature(write_shapes).parameters[name].default
        count = len(metavar) if isinstance(metavar, tuple) else None
        parser.add_argument(f"--{name}", type=int, metavar=metavar, nargs=count, default=default, help=meaning)
    return parser.parse_args(arguments)
