r"""Computes mean and deviation of each channel of a data set, as MODEL.PIXEL_MEAN and MODEL.PIXEL_STD.

Examples:
    convmae-det stats --config-file my_detector.yaml --output statistics.yaml
    convmae-det stats photos/ --max-images 2000
    convmae-det stats "shards/{000000..000009}.tar"
    convmae-det stats train.json satellite/ INPUT.FORMAT bands --channels 13

The data are those of DATASETS.TRAIN in a configuration; or, named here, an annotation file in COCO's format with its
folder of images, a registered data set, or a folder or tar shards of images alone; with --classes a folder of classes,
or a CSV file. Images are read as for training, by INPUT.FORMAT and INPUT.WHITE_LEVEL, and all their pixels count alike.
What is printed is YAML: copy it into a configuration, or let that begin with "_BASE_: statistics.yaml". Exit status: 0;
1 if an image could not be read, the others being counted.
"""

import argparse
import sys

import yaml
from yacs.config import CfgNode

from ..config.checks.data import BANDS, check_decoding, check_format
from ..config.keys import split_pairs
from ..data.channels import ChannelStatistics, count_values, find_training_images
from ..data.image import Decoding
from ..data.inspection.request import read_request
from ..data.survey import resolve_white_level, spread_indices
from ..errors import InputError, shorten_list
from ..files import atomic_write
from .arguments import check_number, check_output_file, command_parser

DIGITS = 3  # after the point


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    check_output_file("--output", args.output, "statistics.yaml", [args.config_file, *args.dataset])
    cfg = read_request(args.config_file, args.dataset, [], args.pairs, args.classes)
    check_format(cfg.INPUT.FORMAT)
    check_decoding(cfg)
    if args.channels and cfg.INPUT.FORMAT != BANDS:
        raise InputError(f"--channels has no effect unless INPUT.FORMAT is {BANDS}: leave it out, or set that")
    images = find_training_images(cfg)
    indices = spread_indices(len(images), args.max_images or len(images))
    cfg = resolve_white_level(cfg, images)
    decoding = Decoding.from_config(cfg)._replace(bands=args.channels)
    found = count_values(images, indices, cfg.INPUT.FORMAT, decoding)
    text = _format(found, cfg)
    print(text, end="")
    print(f"of {found.images:,} of {len(images):,} images", file=sys.stderr)
    if args.output:
        with atomic_write(args.output) as file:
            file.write(text.encode())
        print(f"{args.output} written", file=sys.stderr)
    for reason in found.skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    return int(bool(found.skipped))


def _format(found: ChannelStatistics, cfg: CfgNode) -> str:
    """Formats the keys as YAML; a channel without any difference gets the deviation 1, which is said."""
    mean, std = ([round(value, DIGITS) for value in values] for values in (found.mean, found.std))
    if same := [number for number, value in enumerate(std) if not value]:
        where = shorten_list(same)
        print(
            f"all pixels have the same value in channel {where}, counted from 0: deviation 1 is taken", file=sys.stderr
        )
    keys = {"MODEL": {"PIXEL_MEAN": mean, "PIXEL_STD": [value or 1.0 for value in std]}}
    keys["INPUT"] = {"FORMAT": cfg.INPUT.FORMAT}
    if cfg.INPUT.WHITE_LEVEL:
        keys["INPUT"]["WHITE_LEVEL"] = cfg.INPUT.WHITE_LEVEL
    return yaml.safe_dump(keys, default_flow_style=None, sort_keys=False, width=1000)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("stats", __doc__)
    add = parser.add_argument_group("data").add_argument
    add(
        "words",
        metavar="DATASET",
        nargs="*",
        help="ANNOTATIONS.json IMAGES, or NAME, FOLDER or SHARDS.tar; then KEY VALUE pairs",
    )
    add("--config-file", metavar="FILE", default="", help="of training: which data, and how they are read")
    add("--classes", action="store_true", help="DATASET is a folder of classes or a CSV file")
    add("--channels", metavar="N", type=int, default=0, help="of images that INPUT.FORMAT bands reads; others are left "
        "out; by itself as many as the first image has")  # fmt: skip
    add("--max-images", metavar="N", type=int, default=0, help="reads so many, evenly spread; by itself all")
    add = parser.add_argument_group("result").add_argument
    add("--output", metavar="FILE.yaml", default="", help="also write what is printed")
    args = parser.parse_intermixed_args(arguments)
    for option in ("channels", "max_images"):
        check_number(f"--{option.replace('_', '-')}", getattr(args, option), 0)
    args.pairs, args.dataset = split_pairs(args.words)
    return args
