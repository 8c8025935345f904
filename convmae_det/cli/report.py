"""Says what is wrong with a detector, or what a run has come to, in one HTML file that needs no network.

Examples:
    convmae-det report output/b                             # writes output/b/report.html
    convmae-det report output/quickstart --output demo.html # a folder of several runs: one page with all of them
    convmae-det report output/studies/pays                  # a study

Of a detector the page shows which errors cost most, each class, curves, confusions, calibration, and the worst and best
images with every error marked; of a pretraining run reconstructions and probes; of a classifier its mistakes; of all
how they were trained. Trainings write it at their end, with numbers of their last evaluation. The file is smaller than
10 MB. docs/report.md says how to read it.
"""

import argparse

from ..report.writing import write_report
from .arguments import check_output_file, command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    check_output_file("--output", args.output, "report.html")
    path = write_report(args.folder, args.output)
    print(f"{path} written, {path.stat().st_size / 1e6:.1f} MB")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("report", __doc__)
    parser.add_argument("folder", metavar="OUTPUT_DIR", help="of a run or a study, or a folder that holds several")
    parser.add_argument("--output", metavar="FILE.html", default="", help="the page to write, not report.html there")
    return parser.parse_args(arguments)
