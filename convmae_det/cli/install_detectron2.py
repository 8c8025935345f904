"""Installs Detectron2 for this Python; one that works is kept.

Examples:
    convmae-det install-detectron2
    convmae-det install-detectron2 --source git+https://github.com/facebookresearch/detectron2.git

Detectron2 is not on PyPI under its own name. What is installed is the Python part of a wheel, pinned by its SHA-256;
this project doesn't need the compiled part. A --source is built with it, which takes a C++ compiler and some minutes.
"""

import argparse

from ..detectron2_installation import main as install
from .arguments import command_parser


def main(arguments: list[str] | None = None) -> int:
    return install(parse(arguments).source)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("install-detectron2", __doc__)
    parser.add_argument("--source", help="folder or git URL to build instead of the pinned wheel")
    return parser.parse_args(arguments)
