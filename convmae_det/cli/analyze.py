r"""Says what a network costs: parameters and operations by part, time and memory by image size.

Examples:
    convmae-det analyze --config-file configs/mask_rcnn_convmae_b.yaml --output costs.png
    convmae-det analyze --config-file configs/mask_rcnn_convmae_b.yaml --train --batch-size 2 --json costs.json \
        --sizes 512 1024 MODEL.CONVMAE.WINDOW_SIZE 14
    convmae-det analyze --config-file configs/pretrain_convmae_b.yaml --gpu H100 --train --batch-size 256

Images are square, random, and so are the weights. An operation is a multiplication or an addition of a matrix product,
a convolution or attention, counted in a forward pass for one image; a multiply-add is two.
Detectors run with a score threshold of 0 unless you set it, so that they find as many objects as they may, which is the
most that the mask head can cost. Time is the median of --repeats passes, with --train of optimizer steps. Memory is the
peak with weights (with --train gradients and optimizer, too): on a GPU of what torch holds, on the CPU of what a
process of its own holds beyond the imported libraries.

With --gpu nothing is measured: operations and bytes are counted, as that card would run them in mixed precision, and
divided by what its data sheet says. A pass takes at least the longer of both times, but for bytes that stay in a cache.
"""

import argparse
import itertools

from ..costs.bounds import compute_bounds
from ..costs.cards import CARDS
from ..costs.measuring import print_peak
from ..costs.network import Workload, analyze
from ..costs.tables import format_bounds, format_costs
from ..errors import InputError
from ..files import write_json
from ..visualization.costs import draw_costs
from ..visualization.sheet import check_png, save_png
from .arguments import command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    workload = Workload(args.config_file, args.pairs, args.device, args.batch_size, args.train)
    if args.memory_at:
        print_peak(lambda: workload.run_for_memory(args.memory_at))
        return
    if args.gpu:
        result = compute_bounds(workload, CARDS[args.gpu], args.sizes)
        print(format_bounds(result))
    else:
        result = analyze(workload, args.sizes, args.repeats)
        print(format_costs(result))
    if args.json:
        write_json(args.json, result, indent=2)
    if args.output:
        save_png(draw_costs(result), args.output)
        print(f"{args.output} written")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("analyze", __doc__)
    add = parser.add_argument_group("network").add_argument
    add("--config-file", metavar="FILE", required=True, help="of a detector, or of pretraining")
    add("--device", default="", help="cpu, cuda or cuda:N; by itself MODEL.DEVICE")
    add("pairs", metavar="KEY VALUE", nargs="*", help="settings")
    add = parser.add_argument_group("what is measured").add_argument
    add("--sizes", metavar="PIXELS", nargs="+", default=[], help="sides of images; by itself up to the configuration's")
    add("--batch-size", metavar="N", type=int, default=1, help="images in a pass")
    add("--train", action="store_true", help="measure optimizer steps")
    add("--repeats", metavar="N", type=int, default=3, help="passes that are timed, after one that isn't")
    add("--gpu", choices=CARDS, help="count, for this card, in place of measuring here")
    add("--memory-at", metavar="PIXELS", type=int, help=argparse.SUPPRESS)  # in a process that costs/network.py starts
    add = parser.add_argument_group("results").add_argument
    add("--output", metavar="FILE.png", help="draw the figures there")
    add("--json", metavar="FILE", help="write the figures there")
    args = parser.parse_intermixed_args(arguments)
    sizes = list(itertools.takewhile(str.isdigit, args.sizes))
    args.pairs += args.sizes[len(sizes) :]  # KEY VALUE after the last size
    args.sizes = [int(size) for size in sizes]
    if args.output and args.gpu:
        raise InputError("--output draws what is measured, and --gpu measures nothing: leave one of them out")
    if args.output:
        check_png(args.output)
    return args
