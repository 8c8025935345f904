"""Publishes a trained model on the Hugging Face hub: weights, configuration, and a card filled in from its metrics.

Examples:
    convmae-det push output/b USER/NAME --folder published    # only writes the folder: look at it before
    convmae-det push output/b USER/NAME                       # model_best.pth, or without it model_final.pth
    convmae-det push output/b/model_final.pth USER/NAME --private

Uploading needs `hf auth login`. From then on convmae_det.from_pretrained("USER/NAME") gives the model to anyone.
"""

import argparse
import os

from ..hub.publish import FILES, push, write_folder
from .arguments import command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    if args.folder:
        write_folder(args.run, args.folder, args.repository, args.license)
        for name in FILES:
            path = os.path.join(args.folder, name)
            print(f"{path}: {os.path.getsize(path):,} bytes")
        print("Nothing was uploaded.")
    else:
        print(push(args.run, args.repository, private=args.private, license=args.license))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("push", __doc__)
    add = parser.add_argument_group("model").add_argument
    add("run", metavar="RUN", help="an OUTPUT_DIR, or a checkpoint with its config.yaml beside it")
    add("--license", default="apache-2.0", help="of the weights, as the hub abbreviates it")
    add = parser.add_argument_group("where to").add_argument
    add("repository", metavar="USER/NAME", help="of the model on the hub")
    add("--private", action="store_true", help="a new repository is for you alone")
    add("--folder", metavar="DIR", help="write the files there, and upload nothing")
    return parser.parse_args(arguments)
