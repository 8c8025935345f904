"""Says what `make demo` has come to: how good its detector is, where everything lies, and how to go on with your data.

Examples:
    convmae-det demo-summary output/quickstart
"""

import argparse
import os
import sys
from pathlib import Path

from ..errors import InputError
from ..evaluation.metrics_file import read_metrics
from .arguments import PROGRAM, command_parser

REPORT = "report.html"
FILES = {
    "reconstructions.png": "images, what the encoder saw of them, and what it made of the rest",
    "predictions/overview.png": "annotated objects, and those that the detector found",
    "predictions/results.json": "all that it found, as COCO's results",
    "pretrain/model_final.pth": "the pretrained model",
    "mask_rcnn/model_final.pth": "the detector",
    "mask_rcnn/config.yaml": "its configuration, with the names of its classes",
}

NEXT = """\
The same with your own data (docs/own_data.md), for example with images in photos/, and with COCO annotations of those
to train on in train.json and of others, to test on, in val.json. Write mine.yaml:

  _BASE_: configs/quickstart/mask_rcnn_convmae_tiny_photos.yaml
  DATASETS:
    COCO_FORMAT: [[mine_train, train.json, photos], [mine_val, val.json, photos]]
    TRAIN: [mine_train]
    TEST: [mine_val]
  OUTPUT_DIR: output/mine

  1. {program} visualize --config-file mine.yaml
  2. {program} train --config-file mine.yaml
  3. {program} predict --config-file output/mine/config.yaml --weights output/mine/model_best.pth \\
       --output output/mine/predictions photos

On a GPU, take configs/mask_rcnn_convmae_b.yaml and MODEL.WEIGHTS convmae_base.pth (docs/checkpoints.md) instead."""


def main(arguments: list[str] | None = None) -> None:
    folder = parse(arguments).folder
    curves = read_metrics(os.path.join(folder, "mask_rcnn"))
    if "bbox/AP" not in curves:
        raise InputError(f"{folder}/mask_rcnn has not been evaluated: run make demo to its end")
    box, mask = (curves[name][-1][1] for name in ("bbox/AP", "segm/AP"))
    print(f"\n{'─' * 100}\nThe tiny detector reaches a box AP of {box:.1f} and a mask AP of {mask:.1f}. Look at:\n")
    paths = {os.path.join(folder, name): meaning for name, meaning in FILES.items()}
    for path, meaning in paths.items():
        if os.path.exists(path):
            print(f"  {path:<{max(map(len, paths))}}  {meaning}")
    program = os.path.join(os.path.relpath(os.path.dirname(sys.executable)), PROGRAM)
    print(f"\n{NEXT.format(program=program)}\n{'─' * 100}")
    report = Path(folder, REPORT)
    if report.exists():
        print(f"Open the report on both trainings in a browser: {report.resolve().as_uri()}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("demo-summary", __doc__)
    parser.add_argument("folder", metavar="DIR", help="where the demonstration wrote")
    return parser.parse_args(arguments)
