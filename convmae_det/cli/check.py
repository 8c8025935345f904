"""Looks for what is wrong with data before anything is trained on them: images, annotations, classes, sizes, leaks.

Examples:
    convmae-det check --config-file my_detector.yaml
    convmae-det check train.json photos/ --test val.json photos_val/ --html check.html
    convmae-det check coco_2017_train --test coco_2017_val INPUT.LSJ.IMAGE_SIZE 512
    convmae-det check photos/
    convmae-det check 'shards/{000000..000009}.tar'
    convmae-det check flowers/train --classes --test flowers/test --json check.json --strict

The data are those of DATASETS in a configuration; or, named here, an annotation file in COCO's format with its folder
of images, a registered data set, or a folder or tar shards of images without annotations; with --classes a folder of
classes, or a CSV file. Every image is read. Exit status: 0 if there is no error; 1 if there is one, with --strict also
if there is a warning, or if the data can't be read.
"""

import argparse

from yacs.config import CfgNode

from ..config.keys import split_pairs
from ..data.inspection.account import encode_account, format_account, give_account
from ..data.inspection.findings import Severity
from ..data.inspection.inspection import inspect_data
from ..data.inspection.request import read_request
from ..files import write_json
from .arguments import check_number, check_output_files, command_parser


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    pairs, words = split_pairs([*args.dataset])
    test_pairs, test_words = split_pairs(args.test or [])
    cfg = read_request(args.config_file, words, test_words, [*pairs, *test_pairs], args.classes)
    _check_output_files(args, cfg)
    data = inspect_data(cfg, bool(args.config_file), args.threads)
    account = give_account(data)
    print(format_account(account))
    if args.json:
        write_json(args.json, encode_account(account), indent=1)
        print(f"{args.json} written")
    if args.html:
        from ..report.data_check import render_data_check
        from ..report.page import save_page

        save_page(render_data_check(account, data.cfg), args.html, "--html")
        print(f"{args.html} written")
    least = Severity.WARNING if args.strict else Severity.ERROR
    return int(any(finding.severity >= least for finding in account.findings))


def _check_output_files(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Checks that the results can be written, and replace nothing that is read, before images are."""
    data = cfg.DATASETS
    keys = (data.COCO_FORMAT, data.CLASS_FOLDERS, data.SEMANTIC)  # with what the command names; None is refused later
    words = (word for key in keys for entry in key or () if isinstance(entry, (list, tuple)) for word in entry)
    inputs = [word for word in (args.config_file, *words) if isinstance(word, str) and word]
    check_output_files([("--json", args.json, "check.json"), ("--html", args.html, "check.html")], inputs)
    if args.html:
        from ..report.page import check_page_file  # which the text can do without

        check_page_file(args.html, "--html")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("check", __doc__)
    add = parser.add_argument_group("data").add_argument
    add(
        "dataset",
        metavar="DATASET",
        nargs="*",
        help="ANNOTATIONS.json IMAGES, or NAME, FOLDER or SHARDS.tar; then KEY VALUE pairs",
    )
    add("--test", metavar="DATASET", nargs="+", help="of the same kind: what will be tested on")
    add(
        "--config-file",
        metavar="FILE",
        default="",
        help="of training: how large the network's input is, and which data",
    )
    add("--classes", action="store_true", help="DATASET is a folder of classes or a CSV file")
    add("--threads", metavar="N", type=int, help="how many images are read at a time; by itself by the machine")
    add = parser.add_argument_group("result").add_argument
    add("--json", metavar="FILE", default="", help="also write all findings, with every example")
    add("--html", metavar="FILE", default="", help="also write a page with pictures")
    add("--strict", action="store_true", help="end with status 1 for warnings, too")
    args = parser.parse_intermixed_args(arguments)
    if args.threads is not None:
        check_number("--threads", args.threads)
    return args
