#!/usr/bin/env python3
"""Publishes a trained model on the Hugging Face hub: weights, configuration, and a card filled in from its metrics.

    push_to_hub.py output/b USER/NAME                       # model_best.pth, or without it model_final.pth
    push_to_hub.py output/b/model_final.pth USER/NAME --private
    push_to_hub.py output/b USER/NAME --folder published    # only writes the folder: look at it before

The first needs `hf auth login`. From then on convmae_det.from_pretrained("USER/NAME") gives the model to anyone.
"""

import argparse
import os
import sys

import convmae_det  # noqa: F401  (first, for it silences what PyTorch says of Detectron2)

# isort: split
from ..errors import InputError
from ..hub.publish import FILES, push, write_folder


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="an OUTPUT_DIR, or a checkpoint with its config.yaml beside it")
    parser.add_argument("repository", metavar="USER/NAME", help="of the model on the hub")
    parser.add_argument("--folder", metavar="DIR", help="write the files there, and upload nothing")
    parser.add_argument("--private", action="store_true", help="a new repository is for you alone")
    parser.add_argument("--license", default="apache-2.0", help="of the weights, as the hub abbreviates it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
