r"""Converts ConvMAE weights, published or ours, for Detectron2's MODEL.WEIGHTS, or back to the published layout.

Examples:
    convmae-det convert convmae_base.pth --inspect
    convmae-det convert convmae_base.pth for_detectron2.pth                  # for the default Mask R-CNN
    convmae-det convert convmae_base.pth for_detectron2.pth --config-file configs/mask_rcnn_convmae_b_sfp.yaml \
        MODEL.CONVMAE.IMAGE_SIZE 512
    convmae-det convert output/pretrain/model_final.pth published.pth --to official
    convmae-det convert output/b/model_final.pth encoder.pth --to encoder    # without FPN, heads and decoder
    convmae-det convert distilled.pth teacher.pth --to official --key teacher    # one of several encoders in a file

With --config-file, position tables are resized to what that model has; its KEY VALUE pairs follow the file's. Without,
a detector's weights keep their sizes, and others are made to fit the default detector. OUTPUT ends in .pth, .pt or
.safetensors (which plain Detectron2 doesn't read; this project does). docs/checkpoints.md says more.
"""

import argparse

from tabulate import tabulate

from ..checkpoint.inspection import describe_file
from ..checkpoint.weights import read_weights
from ..checkpoint.writing import write_checkpoint
from ..errors import InputError
from ..inference.weight_conversion import LAYOUTS, convert_weights
from .arguments import command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    if args.inspect:
        print(tabulate(describe_file(args.input, args.key).items(), tablefmt="plain"))
        return
    if not args.output:
        raise InputError("OUTPUT is missing: name the file to write, or ask for --inspect")
    state, report = convert_weights(read_weights(args.input, args.key), args.config_file, args.pairs, args.to)
    print(report)
    write_checkpoint({"model": state, "__author__": "convmae_det", "matching_heuristics": False}, args.output)
    print(f"{args.output}: {len(state)} tensors written")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("convert", __doc__)
    add = parser.add_argument_group("files").add_argument
    add("input", metavar="INPUT", help="a .pth, .pt or .safetensors file")
    add("output", metavar="OUTPUT", nargs="?", help="the file to write")
    add("--key", metavar="WORDS", default="", help="which encoder of INPUT, if it holds several")
    add("--inspect", action="store_true", help="only say what INPUT holds")
    add = parser.add_argument_group("what becomes of it").add_argument
    add("--config-file", metavar="FILE", default="", help="of the model that is to take the weights")
    add("--to", choices=LAYOUTS, help="another layout than the model's")
    add("pairs", metavar="KEY VALUE", nargs="*", help="settings of the configuration")
    return parser.parse_intermixed_args(arguments)
