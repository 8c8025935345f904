r"""Says how well an encoder's features tell classes apart, without training it: k nearest neighbours, a linear probe.

Examples:
    convmae-det probe --weights output/pretrain/model_final.pth --train images/train --test images/val
    convmae-det probe --weights mae.pth --train train.csv --test val.csv --features all --size 128 --output probe.json
    convmae-det probe --weights none --config-file configs/pretrain_convmae_b.yaml --train images/train \
        --test images/val                                               # random weights, to compare with

Labelled images are a folder with a folder for each class, or a CSV file whose first line names the columns path
(relative to the file) and label. The encoder stays as it is; its maps, averaged over their cells, are the features of
an image, of which the middle square is taken. Printed are, in percent of the test part, the accuracy of the vote of the
20 nearest images of the training part (cosine, temperature 0.07) and that of a logistic regression, whose
regularisation is chosen on a tenth of the training part; and the effective rank of the features (RankMe, less their
mean), which is 1 where all images give the same. Files that can't be read are named and left out.
"""

import argparse
import os
import sys

import torch

from ..config.checks.data import BANDS
from ..config.device import find_available_device
from ..files import write_json
from ..inference.pooled_features import SCALES, load_pooler
from ..inference.probe import list_probe_data, probe_encoder
from .arguments import check_number, check_output_file, command_parser

NONE = "none"  # in place of weights


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    check_output_file("--output", args.output or "", "probe.json")
    check_number("--workers", args.workers, least=0)
    torch.manual_seed(args.seed)
    weights = "" if args.weights == NONE else args.weights
    device = find_available_device(args.device)
    pooler = load_pooler(weights, args.config_file, device, args.size, args.features, args.workers)
    data = list_probe_data(args.train, args.test, arrays=pooler.image_format == BANDS)
    result = probe_encoder(pooler, data)
    for name, reason in result["skipped"]:
        print(f"{name} is left out: it {reason}", file=sys.stderr)
    if args.output:
        settings = {name: getattr(args, name) for name in ("weights", "train", "test", "features")}
        write_json(args.output, settings | {"size": pooler.size} | result, indent=1)
        print(f"{args.output} written")
    knn, linear, rank = (result[name] for name in ("knn_top1", "linear_top1", "rank"))
    print(f"k-NN top-1 {knn:.2f}, linear top-1 {linear:.2f}, rank {rank:.1f}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("probe", __doc__)
    add = parser.add_argument_group("encoder").add_argument
    add("--weights", metavar="FILE", required=True, help="any checkpoint with an encoder; none: random weights")
    add("--config-file", metavar="FILE", default="", help="config.yaml of the run that wrote it, where it isn't beside "
        "the weights; of random weights, any configuration")  # fmt: skip
    add("--seed", type=int, default=0, help="of random weights")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add = parser.add_argument_group("images").add_argument
    add("--train", metavar="FOLDER|CSV", required=True, help="labelled images whose features are learnt from")
    add("--test", metavar="FOLDER|CSV", required=True, help="labelled images that are classified")
    add("--workers", metavar="N", type=int, default=min(4, os.cpu_count() or 1), help="processes that read images")
    add = parser.add_argument_group("features").add_argument
    add("--features", choices=SCALES, default="e3", help="e3: the last map; all: e1, e2 and e3, one after the other")
    add("--size", metavar="PIXELS", type=int, default=0, help="side of the square, a multiple of 16; by itself that of "
        "pretraining, at most 224")  # fmt: skip
    parser.add_argument_group("result").add_argument("--output", metavar="FILE.json", help="the report to write")
    return parser.parse_args(arguments)
