r"""Finds objects in images and videos with a trained detector, or the classes of images or pixels, and draws them.

Examples:
    convmae-det predict --config-file output/b/config.yaml --weights output/b/model_final.pth --output found photos/
    convmae-det predict --config-file output/b/config.yaml --weights output/b/model_final.pth --output found \
        'more/*.jpg' street.mp4 --track --score-threshold 0.3 --classes person car
    convmae-det predict --config-file output/b/config.yaml --weights output/b/model_final.pth --output found \
        --annotations val.json --no-pictures val/ INPUT.MIN_SIZE_TEST 800
    convmae-det predict --config-file output/b/config.yaml --weights output/b/model_final.pth --output found \
        --tile 1024 --overlap 0.2 orthophoto.tif

    convmae-det predict --config-file output/classify/config.yaml --weights output/classify/model_final.pth \
        --output found photos/

An input is an image file, a folder (searched at any depth), a pattern in quotes ('photos/*.jpg'), a video file, or the
number of a webcam (0). The folder --output receives

    results.json   all objects in COCO's results format, as pycocotools' loadRes takes them, and their "file_name"; with
                    --track "track_id", the number of an object within its video
    NAME.jpg       each image with its objects drawn; NAME.mp4 for a video
    overview.png   the first dozen drawn images on one sheet
    thresholds.json   with --score-threshold auto, the thresholds of the classes

and where the configuration is a classifier's

    results.csv    path, class and score of each image, and the next four classes with their scores

and where it is a segmentor's

    masks/NAME.png the number of the class at each pixel; its palette has the colours of the pictures
    results.csv    path of each image, and the share of its pixels that each class has

and where it is a panoptic FPN's, in COCO's panoptic format

    panoptic.json  the segments of each image, with their categories and, of objects, scores
    panoptic/NAME.png   the segment of each pixel, as a colour

File names are relative to the folder that all inputs share. What is done is kept in --output/parts until all is: after
Ctrl-C, SIGTERM or a crash the same command goes on. Started by torchrun, processes share the inputs, each taking the
next whenever it is free, and the last writes the results, which are those of one process:

    torchrun --nproc-per-node 8 -m convmae_det predict --config-file … --weights … --output found photos/

Exit status: 0; 1 if some input could not be read, the results of the others being written; 130 after Ctrl-C, those of
the images done being written.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..config.architectures import is_classifier, is_panoptic, is_segmentor
from ..config.checks.rules import require
from ..config.device import claim_gpu
from ..config.keys import split_pairs
from ..data.configuration import read_config
from ..errors import InputError
from ..inference.class_predictor import ClassPredictor
from ..inference.class_results import ClassResults, predict_classes
from ..inference.ground_truth import GroundTruth
from ..inference.inputs import Input, find_inputs
from ..inference.panoptic_predictor import PanopticPredictor
from ..inference.panoptic_results import PanopticResults
from ..inference.picture_results import PictureResults
from ..inference.predictor import AUTO, Predictor
from ..inference.processes import Processes, ignore_more_signals, join_processes, stop_at_sigterm
from ..inference.results import Results, predict_inputs
from ..inference.segmentation_predictor import SegmentationPredictor
from ..inference.segmentation_results import SegmentationResults, predict_masks
from ..visualization.predictions import DRAWN_FROM
from .arguments import check_number, command_parser
from .main import INTERRUPTED

# options that others don't have
OF_DETECTORS = ("annotations", "score_threshold", "thresholds", "classes", "max_frames", "track", "tile", "overlap")
# that an interrupted run can't change
OF_RESULTS = ("annotations", "classes", "max_frames", "no_pictures", "track", "tile", "overlap")


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    inputs = find_inputs(args.inputs, args.output)
    cfg = read_config(args.config_file, args.pairs)
    claim_gpu(args.device or cfg.MODEL.DEVICE)
    processes = join_processes()
    if is_classifier(cfg):
        return _predict_classes(args, inputs, processes)
    if is_segmentor(cfg) or is_panoptic(cfg):
        return _predict_pixels(args, inputs, processes, is_panoptic(cfg))
    return _predict_objects(args, inputs, processes)


def _predict_classes(args: argparse.Namespace, inputs: Sequence[Input], processes: Processes) -> int:
    _refuse(args, OF_DETECTORS, "a classifier")
    check_number("--batch-size", args.batch_size)
    predictor = ClassPredictor(args.config_file, args.weights, args.device, args.pairs, args.precision)
    results = ClassResults(args.output, predictor, pictures=not args.no_pictures)
    return _run(args, inputs, results, processes, lambda: predict_classes(results, args.batch_size))


def _predict_pixels(args: argparse.Namespace, inputs: Sequence[Input], processes: Processes, panoptic: bool) -> int:
    """Of a segmentor, or of a panoptic FPN."""
    kind = "a panoptic FPN" if panoptic else "a segmentor"
    predict, write = (PanopticPredictor, PanopticResults) if panoptic else (SegmentationPredictor, SegmentationResults)
    _refuse(args, OF_DETECTORS, kind)
    require(args.batch_size == 1, "--batch-size", args.batch_size, f"be 1 for {kind}, which takes images one by one")
    predictor: Any = predict(args.config_file, args.weights, args.device, args.pairs, args.precision)
    results = write(args.output, predictor, pictures=not args.no_pictures)
    return _run(args, inputs, results, processes, lambda: predict_masks(results))


def _refuse(args: argparse.Namespace, options: Sequence[str], kind: str) -> None:
    for option in options:
        if getattr(args, option) not in (None, []) and getattr(args, option) is not False:
            raise InputError(f"--{option.replace('_', '-')} is for detectors, and this is {kind}: leave it out")


def _predict_objects(args: argparse.Namespace, named: Sequence[Input], processes: Processes) -> int:
    inputs = named
    if args.track and not any(entry.is_video for entry in named):
        raise InputError("--track follows objects through videos and webcams, and no input is one: leave it out")
    truth = GroundTruth(args.annotations) if args.annotations else None
    if truth and len(inputs := truth.select_listed(named)) < len(named) and processes.is_first:
        left = len(named) - len(inputs)
        print(f"{left} of {len(named)} inputs are left out, since {args.annotations} doesn't list them.")
    network = (args.config_file, args.weights, args.device)
    options = (args.score_threshold, args.batch_size, args.pairs, args.precision, args.thresholds)
    predictor = Predictor(*network, *options, tile=args.tile, overlap=args.overlap)
    if predictor.thresholds_file and processes.is_first:
        print(f"Score thresholds of the classes: {predictor.thresholds_file}", file=sys.stderr)
    results = Results(args.output, predictor, truth, args.classes, pictures=not args.no_pictures)
    return _run(args, inputs, results, processes, lambda: predict_inputs(results, args.max_frames, args.track))


def _run(
    args: argparse.Namespace,
    inputs: Sequence[Input],
    results: PictureResults,
    processes: Processes,
    predict: Callable[[], None],
) -> int:
    """Predicts and, in the last of the processes, writes the results. Returns the exit status."""
    if processes.is_first:
        print(f"Precision: {results.predictor.precision}", file=sys.stderr)
    results.begin(inputs, _list_options(args, results.predictor), processes, args.resume)
    interrupted = False
    with stop_at_sigterm():
        try:
            predict()
        except KeyboardInterrupt:
            interrupted = True
            ignore_more_signals(processes)
            print("interrupted: what is done is being written", file=sys.stderr)
        if processes.end(interrupted):
            return _finish(results, interrupted)
    return INTERRUPTED if interrupted else 0


def _list_options(args: argparse.Namespace, predictor: Any) -> dict[str, Any]:
    """Lists the options on which results depend, with --score-threshold as the thresholds that it means."""
    options = {f"--{name.replace('_', '-')}": getattr(args, name) for name in OF_RESULTS}
    return options | {"--score-threshold": getattr(predictor, "score_thresholds", None)}


def _finish(results: PictureResults, interrupted: bool) -> int:
    print(results.write())
    total = len(results.inputs)
    if results.failures:
        print(f"{results.failures} of {total} inputs could not be read; they are named above", file=sys.stderr)
    if results.missing:
        advice = "the same command goes on with them"
        print(f"{results.missing} of {total} inputs are not done: {advice}", file=sys.stderr)
    return INTERRUPTED if interrupted else int(results.failures + results.missing > 0)


def _convert_threshold(text: str) -> float | str:
    try:
        return text if text == AUTO else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0 to 1 nor {AUTO}") from error


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("predict", __doc__)
    add = parser.add_argument_group("network").add_argument
    add("--config-file", metavar="FILE", required=True, help="the config.yaml that training wrote beside the weights")
    add("--weights", metavar="FILE", required=True, help="a checkpoint of training, such as model_final.pth")
    add("--device", default="", help="auto, cpu, cuda or cuda:N; by itself MODEL.DEVICE")
    add("--precision", help="trained, auto, float32, bfloat16 or float16 (GPU); by itself TEST.PRECISION")
    add("--batch-size", metavar="N", type=int, default=1, help="images, or tiles, that go through the model at once")
    add("--tile", metavar="PIXELS", type=int, help="take images in overlapping tiles of this side, and as a whole, and "
        "join what is found; 0: only as a whole; by itself TEST.TILE")  # fmt: skip
    add("--overlap", metavar="SHARE", type=float, help="of a tile that its neighbours show, too, 0 to 0.9; by itself "
        "TEST.TILE_OVERLAP")  # fmt: skip
    add = parser.add_argument_group("inputs").add_argument
    add("words", metavar="[KEY VALUE] INPUT", nargs="+", help="images, folders, patterns, videos, webcams; settings")
    add("--annotations", metavar="FILE.json", help="in COCO's format: gives image ids by file name, and what is shown "
        "beside the predictions")  # fmt: skip
    add("--max-frames", metavar="N", type=int, help="of each video or webcam")
    add("--track", action="store_true", help="follow objects through videos and webcams: numbers and traces")
    add = parser.add_argument_group("results").add_argument
    add("--output", metavar="DIR", required=True, help="the folder to write to")
    add("--score-threshold", metavar="T", type=_convert_threshold, help="0 to 1: leaves out objects of a lower score; "
        "auto: of each class from its own threshold on, see --thresholds; by itself pictures show those from "
        f"{DRAWN_FROM} on, and results.json holds all that the detector returns")  # fmt: skip
    add("--thresholds", metavar="FILE", help="for --score-threshold auto: the thresholds.json of an evaluation; by "
        "itself that which training left in inference/ beside the weights")  # fmt: skip
    add("--classes", metavar="NAME", nargs="+", default=[], help="names or ids: leaves out objects of other classes")
    add("--resume", action="store_true", help="refuse to discard what an interrupted run with other settings left in "
        "--output; one with the same goes on by itself")  # fmt: skip
    add("--no-pictures", action="store_true", help="write results.json, or results.csv and masks, alone")
    args = parser.parse_intermixed_args(arguments)
    args.pairs, args.inputs = split_pairs(args.words)
    if args.thresholds is not None and args.score_threshold != AUTO:
        raise InputError(f"--thresholds {args.thresholds} has no effect without --score-threshold {AUTO}: add it")
    if args.max_frames is not None:
        check_number("--max-frames", args.max_frames)
    return args
