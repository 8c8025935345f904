"""Shows what the network sees: training images after augmentation, with their boxes, masks and classes.

Examples:
    convmae-det visualize --config-file configs/mask_rcnn_convmae_b.yaml --output data.png
    convmae-det visualize --config-file my_detector.yaml --split test --max-images 20 --output pictures/
    convmae-det visualize --config-file configs/pretrain_convmae_b.yaml --seed 1 DATASETS.TRAIN '("coco_2017_train",)'

The picture has a row for each image: as its file and annotations have it, and beside that what the network gets, in the
order of training. --output names a file for all rows or, without .png, a folder for one file each. Of a configuration
for pretraining, which takes no annotations, it shows the random crops.
"""

import argparse

from ..data.configuration import read_tool_config
from ..visualization.data import SPLITS, save_panels, stream_panels
from .arguments import check_number, command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    cfg = read_tool_config(args.config_file, args.pairs, "cpu")
    panels, total = stream_panels(cfg, args.split, args.seed)
    number = min(args.max_images, total)
    print(f"{number} of {total:,} images; --max-images and --seed show others.")
    rows, captions = zip(*(panels[position] for position in range(number)), strict=True)
    for path in save_panels(rows, captions, args.output):
        print(f"{path} written")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("visualize", __doc__)
    add = parser.add_argument_group("data").add_argument
    add("--config-file", metavar="FILE", required=True, help="of training or pretraining")
    add("--split", choices=SPLITS, default="train", help="DATASETS.TRAIN or DATASETS.TEST")
    add("--max-images", metavar="N", type=int, default=8, help="how many to show")
    add("--seed", type=int, default=0, help="of the order and the augmentation")
    add("pairs", metavar="KEY VALUE", nargs="*", help="settings, as of convmae-det train")
    add = parser.add_argument_group("result").add_argument
    add("--output", metavar="FILE.png|FOLDER", default="data.png", help="what to write")
    args = parser.parse_intermixed_args(arguments)
    check_number("--max-images", args.max_images)
    return args
