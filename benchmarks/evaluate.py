"""COCO's metrics on synthetic detections: pycocotools, as Detectron2 uses it, against the faster evaluations at hand.

Those are Detectron2's own in C++, where its compiled operators are, and faster-coco-eval's, where it is installed. Each
runs inside Detectron2's function for evaluating predictions, and so includes loading and indexing the detections.
"""

import argparse
import contextlib
import importlib
import io
import sys
from collections.abc import Callable

import numpy as np
from detectron2.evaluation.coco_evaluation import _evaluate_predictions_on_coco
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from convmae_det.costs.measuring import describe_machine, measure_medians
from convmae_det.errors import InputError

REFERENCE = "pycocotools"
FASTER = {
    "detectron2 C++": ("detectron2.evaluation.fast_eval_api", "COCOeval_opt"),
    "faster-coco-eval": ("faster_coco_eval", "COCOeval_faster"),
}
TOLERANCE = 1e-9
CATEGORIES, OBJECTS = 80, 7
HEIGHT, WIDTH = 480, 640


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=5000, metavar="N", help="images")
    parser.add_argument("--detections", type=int, default=100, metavar="N", help="in each image")
    parser.add_argument("--tasks", nargs="+", default=["bbox", "segm"], choices=("bbox", "segm"))


def measure(args: argparse.Namespace) -> dict:
    """Seconds of each evaluation, and its ratio to pycocotools'. Exits if their results differ."""
    if min(args.count, args.detections) < 1:
        raise InputError("--count and --detections must be at least 1")
    truth, detections = synthesize(args.count, args.detections)
    found = implementations()
    tasks = {}
    for task in args.tasks:
        stats = {}
        runs = {name: evaluation(task, kind, truth, detections, name, stats) for name, kind in found.items()}
        seconds = measure_medians(runs, args.repeats, "cpu")
        difference = {name: float(np.abs(stats[name] - stats[REFERENCE]).max()) for name in found}
        tasks[task] = {
            "seconds": seconds,
            "speedup": {name: seconds[REFERENCE] / time for name, time in seconds.items()},
            "difference": difference,
            "AP": float(stats[REFERENCE][0]),
        }
        for name, value in difference.items():
            if not value <= TOLERANCE:
                sys.exit(f"error: {task} of {name} differs from {REFERENCE}'s by {value:g}")
    return {**describe_machine("cpu"), "images": args.count, "detections": args.detections, "tasks": tasks}


def report(result: dict) -> None:
    print(f"{result['device']}, torch {result['torch']}")
    print(f"{result['images']} images with {result['detections']} detections each")
    for task, figures in result["tasks"].items():
        print(f"{task}: AP {100 * figures['AP']:.3f}")
        for name, seconds in figures["seconds"].items():
            print(
                f"  {name:18} {seconds:8.2f} s, {figures['speedup'][name]:.2f} times as fast, "
                f"metrics differ by {figures['difference'][name]:.0e}"
            )
    if len(figures["seconds"]) == 1:
        print("nothing to compare with: pip install faster-coco-eval, or build Detectron2 from source")


def implementations() -> dict[str, type]:
    found = {REFERENCE: COCOeval}
    for name, (module, kind) in FASTER.items():
        with contextlib.suppress(ImportError):
            found[name] = getattr(importlib.import_module(module), kind)
    return found


def evaluation(task: str, kind: type, truth: COCO, detections: list[dict], name: str, stats: dict) -> Callable:
    """A function that evaluates, and leaves the twelve metrics, as shares, under the name in `stats`."""
    results = [{key: value for key, value in detection.items() if key != "segmentation"} for detection in detections]

    def evaluate() -> None:
        chosen = detections if task == "segm" else results
        with contextlib.redirect_stdout(io.StringIO()):
            coco_eval = _evaluate_predictions_on_coco(truth, chosen, task, cocoeval_fn=kind)
        stats[name] = np.asarray(coco_eval.stats[:12], dtype=float)

    return evaluate


def synthesize(images: int, detections: int) -> tuple[COCO, list[dict]]:
    """Annotations, and detections of which a part lies near them, in COCO's format; boxes and elliptic masks."""
    rng = np.random.default_rng(0)
    annotations, found = [], []
    for image in range(images):
        shapes = np.stack([rng.uniform(50, WIDTH - 50, OBJECTS), rng.uniform(50, HEIGHT - 50, OBJECTS)], axis=1)
        shapes = np.concatenate([shapes, np.exp(rng.uniform(np.log(8), np.log(150), (OBJECTS, 2)))], axis=1)
        categories = rng.integers(CATEGORIES, size=OBJECTS)
        for shape, category, crowd in zip(shapes, categories, rng.random(OBJECTS) < 0.02, strict=True):
            entry = instance(shape, image, category)
            area = float(masks.area(entry["segmentation"]))
            annotations.append({**entry, "area": area, "iscrowd": int(crowd), "id": len(annotations) + 1})
        near = rng.integers(OBJECTS, size=detections)
        moved = shapes[near]
        moved[:, :2] += 0.1 * moved[:, 2:] * rng.standard_normal((detections, 2))
        moved[:, 2:] *= np.exp(0.1 * rng.standard_normal((detections, 2)))
        right = rng.random(detections) < 0.7
        scores = rng.beta(np.where(right, 3, 1), 2).round(3)
        guesses = np.where(right, categories[near], rng.integers(CATEGORIES, size=detections))
        for shape, category, score in zip(moved, guesses, scores, strict=True):
            found.append({**instance(shape, image, category), "score": float(score)})
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": image, "height": HEIGHT, "width": WIDTH} for image in range(images)],
        "categories": [{"id": category, "name": str(category)} for category in range(CATEGORIES)],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth, found


def instance(shape: np.ndarray, image: int, category: int) -> dict:
    """An ellipse, given by its centre and its extents, (4,): x, y, width, height in pixels."""
    x, y, width, height = shape
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    outline = np.stack([x + width / 2 * np.cos(angles), y + height / 2 * np.sin(angles)], axis=1)
    (mask,) = masks.frPyObjects([outline.ravel().tolist()], HEIGHT, WIDTH)
    box = [x - width / 2, y - height / 2, width, height]
    return {
        "image_id": image,
        "category_id": int(category),
        "bbox": [float(value) for value in box],
        "segmentation": mask,
    }
