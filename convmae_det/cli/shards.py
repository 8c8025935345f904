"""Writes the images of a folder as tar files, which pretraining reads faster than many small files.

Examples:
    convmae-det shards photos shards
    convmae-det shards photos shards --short-side 256 --shard-size 200

OUTPUT receives 000000.tar, 000001.tar, …, in webdataset's convention, for DATASETS.SHARDS, and shards.json, which says
what they hold. The images are those that pretraining on the folder would read, in its order, with the .npy files that
INPUT.FORMAT bands reads, and stay as they are, byte for byte; with --short-side, larger ones are resized, JPEGs to
JPEGs, others to PNGs, but not those of several pages or more than 8 bits. What can't be read is left out, and named.
The same command goes on where it was interrupted.
"""

import argparse
import os

from ..config.checks.data import MAX_PIXELS
from ..data.shards.writing import Account, Packing, write_shards
from .arguments import check_number, command_parser, format_entry


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    packing = Packing(args.shard_size * 10**6, args.shard_images, args.short_side, args.max_pixels)
    report(write_shards(args.folder, args.output, packing), args)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("shards", __doc__)
    parser.add_argument("folder", metavar="FOLDER", help="of images, flat or nested")
    parser.add_argument("output", metavar="OUTPUT", help="the folder for the shards, new or empty")
    add = parser.add_argument
    add("--shard-size", metavar="MB", type=int, default=500, help="a shard ends with the image that reaches this size")
    add("--shard-images", metavar="N", type=int, default=0, help="or, if that is earlier, with this many images")
    add("--short-side", metavar="PIXELS", type=int, default=0, help="reduce the shorter side of larger images to this")
    add("--max-pixels", metavar="N", type=int, default=MAX_PIXELS, help="height · width of the largest image")
    args = parser.parse_args(arguments)
    check_number("--shard-size", args.shard_size)
    check_number("--shard-images", args.shard_images, 0)
    check_number("--short-side", args.short_side, 0)
    check_number("--max-pixels", args.max_pixels)
    return args


def report(account: Account, args: argparse.Namespace) -> None:
    """Prints what the shards hold, what was left out, and how to name them."""
    shards = account.shards
    print(f"{args.output}: {len(shards):,} shards, {account.images:,} images, {account.size / 1e6:,.1f} MB")
    if account.left_out:
        print(f"Left out, for they can't be read: {len(account.left_out):,} images, which shards.json names.")
    numbers = shards[0] if len(shards) == 1 else f"{{{shards[0][:-4]}..{shards[-1][:-4]}}}.tar"
    name = os.path.basename(os.path.realpath(args.folder)) or "images"
    print(format_entry("DATASETS.SHARDS", name, os.path.join(args.output, numbers)))
