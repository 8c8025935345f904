r"""Evaluates the results of a detector with COCO's metrics, and says what is wrong with them.

Examples:
    convmae-det evaluate val.json output/b/inference/coco_instances_results.json
    convmae-det evaluate val.json found/results.json --json evaluation.json --thresholds thresholds.json

ANNOTATIONS are in COCO's format; RESULTS, of any detector, in COCO's results format, such as the results.json of
`convmae-det predict --annotations val.json`. Printed are COCO's metrics; for each class its AP, and precision, recall
and F1 at the score threshold where F1 is highest; the kinds of errors, and the AP50 that mending each would give; and
how far scores are from the precision that they promise. The last lines are the AP of boxes and, where the results have
them, of masks, in percent: those that `convmae-det train --eval-only` gives. docs/evaluation.md explains the numbers.
"""

import argparse
import sys

from ..data.detection.annotation_file import check_masks
from ..errors import InputError
from ..evaluation.coco import read_ground_truth_file
from ..evaluation.comparison import LIMIT
from ..evaluation.explanation import explain_results
from ..evaluation.results_file import count_most, list_tasks_of_results, read_results
from ..evaluation.text import format_explanation, format_last_lines
from ..evaluation.thresholds import list_chosen_thresholds
from ..files import write_json
from .arguments import check_number, check_output_files, command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    outputs = [("--json", args.json, "evaluation.json"), ("--thresholds", args.thresholds, "thresholds.json")]
    check_output_files(outputs, (args.annotations, args.results))
    truth = read_ground_truth_file(args.annotations, args.crowd_as_objects, args.boxes_only)
    results = read_results(args.results, truth, args.boxes_only)
    tasks = ("bbox",) if args.boxes_only else list_tasks_of_results(results)
    if "segm" in tasks and not any(annotation.get("segmentation") for annotation in truth["annotations"]):
        print(f"{args.annotations} has no masks: those of the results are left out", file=sys.stderr)
        tasks = ("bbox",)
    if "segm" in tasks:
        check_masks(truth, args.annotations)
    limit = args.max_detections or max(LIMIT, count_most(results))
    explanation = explain_results(truth, results, tasks, limit, verdicts=bool(args.json))
    print(format_explanation(explanation))
    thresholds = list_chosen_thresholds(explanation)
    found = thresholds["overall"] is not None
    for path, content in ((args.json, explanation), (args.thresholds if found else "", thresholds)):
        if path:
            write_json(path, content)
            print(f"{path} written")
    print(format_last_lines(explanation))
    if args.thresholds and not found:
        raise InputError(
            f"--thresholds {args.thresholds} is not written, for nothing was found that is right: leave it out, or "
            "evaluate the results of a detector that has been trained for longer"
        )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("evaluate", __doc__)
    parser.add_argument("annotations", metavar="ANNOTATIONS.json", help="what is in the images")
    parser.add_argument("results", metavar="RESULTS.json", help="what was found in them")
    add = parser.add_argument_group("what counts").add_argument
    add("--max-detections", metavar="N", type=int, help="of a class in an image that are also counted, if more than "
        "COCO's 100; by itself all")  # fmt: skip
    add("--crowd-as-objects", action="store_true", help="annotations with iscrowd 1 are objects, as CVAT's brush "
        "writes them (DATASETS.CROWD_AS_OBJECTS)")  # fmt: skip
    add("--boxes-only", action="store_true", help="leaves out masks")
    add = parser.add_argument_group("files").add_argument
    add("--json", metavar="FILE", default="", help="receives all numbers, and a verdict on each detection")
    add("--thresholds", metavar="FILE", default="", help="receives the best score threshold of each class, for "
        "`convmae-det predict --thresholds`")  # fmt: skip
    args = parser.parse_args(arguments)
    if args.max_detections is not None:
        check_number("--max-detections", args.max_detections, least=LIMIT)
    return args
