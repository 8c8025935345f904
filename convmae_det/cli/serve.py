r"""Serves a page in the browser to try a trained network on.

Examples:
    convmae-det serve output/b/model_final.pth
    convmae-det serve --config-file output/b/config.yaml --weights output/b/model_final.pth --port 8000
    convmae-det serve output/pretrain/model_final.pth MODEL.DEVICE cpu

Drop an image on the page, or choose one of the test images, if they are there. A detector shows boxes and masks by
score and class, and gives them as JSON; a classifier the likeliest classes; a pretrained model what it makes of hidden
patches; each of them the features of its encoder as colours. The configuration is the config.yaml beside the weights
unless --config-file names another. The page is for this machine alone, needs no network, and is closed by Ctrl-C.
"""

import argparse
import os

from ..app.server import HOST, PORT, find_port, import_gradio, keep_files_together, serve
from ..config.keys import split_pairs
from ..config.reading import CONFIG
from ..errors import InputError
from .arguments import command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    config_file = args.config_file or _find_config(args.weights)
    with keep_files_together():
        import_gradio()  # whose absence is said, as that of a free port, before what takes long
        find_port(args.host, args.port)
        from ..app.launch import build_page

        serve(build_page(config_file, args.weights, args.device, args.pairs, args.precision), args.host, args.port)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("serve", __doc__)
    add = parser.add_argument_group("network").add_argument
    add("words", metavar="[KEY VALUE] [WEIGHTS]", nargs="*", help="a checkpoint of training; settings")
    add("--config-file", metavar="FILE", help=f"by itself the {CONFIG} beside the weights")
    add("--weights", metavar="FILE", help="the same as WEIGHTS")
    add("--device", default="", help="auto, cpu, cuda or cuda:N; by itself MODEL.DEVICE")
    add("--precision", help="trained, auto, float32, bfloat16 or float16 (GPU); by itself TEST.PRECISION")
    add = parser.add_argument_group("page").add_argument
    add("--host", default=HOST, help="the address to serve on; 0.0.0.0: to all who reach this machine")
    add("--port", metavar="N", type=int, help=f"by itself the first that is free, from {PORT} on")
    args = parser.parse_intermixed_args(arguments)
    args.pairs, named = split_pairs(args.words)
    weights = [*named, *([args.weights] if args.weights else [])]
    if len(weights) != 1:
        raise InputError(f"the page shows one network, but {len(weights)} weights are named: name one file of weights")
    (args.weights,) = weights
    return args


def _find_config(weights: str) -> str:
    path = os.path.join(os.path.dirname(weights), CONFIG)
    if not os.path.exists(path):
        raise InputError(f"there is no {CONFIG} beside {weights}: name that of the run by --config-file")
    return path
