"""COCO's metrics on synthetic detections: pycocotools, as Detectron2 uses it, against ours and faster ones at hand.

Ours is measured twice: the metrics alone, and with what explains them, errors, confusion, thresholds and calibration.
The faster ones are faster-coco-eval and Detectron2's own in C++, where they are installed. All begin with results as
Python objects, and so include indexing them.
"""

import argparse
import contextlib
import functools
import importlib
import io
import sys
from collections.abc import Callable, Mapping

import numpy as np
from detectron2.evaluation.coco_evaluation import _evaluate_predictions_on_coco
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from convmae_det.costs.measuring import describe_machine, measure_medians
from convmae_det.errors import InputError
from convmae_det.evaluation.explanation import explain_results
from convmae_det.evaluation.metrics import MEASURES, evaluate_results

REFERENCE, METRICS, EXPLAINED = "pycocotools", "convmae_det", "convmae_det, explained"
FASTER = {
    "detectron2 C++": ("detectron2.evaluation.fast_eval_api", "COCOeval_opt"),
    "faster-coco-eval": ("faster_coco_eval", "COCOeval_faster"),
}
STATS = [0, 1, 2, 3, 4, 5, 8]  # where pycocotools has MEASURES
TOLERANCE = 1e-7  # percent
CATEGORIES, OBJECTS = 80, 7
HEIGHT, WIDTH = 480, 640


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=5000, metavar="N", help="images")
    parser.add_argument("--detections", type=int, default=100, metavar="N", help="in each image")
    parser.add_argument("--tasks", nargs="+", default=["bbox", "segm"], choices=("bbox", "segm"))


def measure(args: argparse.Namespace) -> dict:
    """Seconds of each evaluation, and its share of pycocotools' time. Exits if their metrics differ."""
    if min(args.count, args.detections) < 1:
        raise InputError("--count and --detections must be at least 1")
    truth, detections = synthesize(args.count, args.detections)
    tasks = {}
    for task in args.tasks:
        metrics: dict[str, np.ndarray] = {}
        runs = {name: _keep(name, way, metrics) for name, way in list_ways(task, truth, detections).items()}
        seconds = measure_medians(runs, args.repeats, "cpu")
        difference = {name: float(np.abs(found - metrics[REFERENCE]).max()) for name, found in metrics.items()}
        tasks[task] = {
            "seconds": seconds,
            "share": {name: time / seconds[REFERENCE] for name, time in seconds.items()},
            "difference": difference,
            "AP": float(metrics[REFERENCE][0]),
        }
        for name, value in difference.items():
            if not value <= TOLERANCE:
                sys.exit(f"error: {task} of {name} differs from {REFERENCE}'s by {value:g}")
    return {**describe_machine("cpu"), "images": args.count, "detections": args.detections, "tasks": tasks}


def report(result: dict) -> None:
    print(f"{result['device']}, torch {result['torch']}")
    print(f"{result['images']} images with {result['detections']} detections each")
    for task, figures in result["tasks"].items():
        print(f"{task}: AP {figures['AP']:.3f}")
        for name, seconds in figures["seconds"].items():
            print(
                f"  {name:22} {seconds:8.2f} s, {figures['share'][name]:6.1%} of pycocotools' time, "
                f"metrics differ by {figures['difference'][name]:.0e}"
            )


def list_ways(task: str, truth: COCO, detections: list[dict]) -> dict[str, Callable[[], np.ndarray]]:
    """Lists the ways to evaluate, each a function that returns MEASURES in percent."""
    found = {REFERENCE: COCOeval}
    for name, (module, kind) in FASTER.items():
        with contextlib.suppress(ImportError):
            found[name] = getattr(importlib.import_module(module), kind)
    ways: dict[str, Callable[[], np.ndarray]] = {
        name: functools.partial(evaluate_as_detectron2, task, kind, truth, detections) for name, kind in found.items()
    }

    def collect(scores: Mapping) -> np.ndarray:
        return np.array([scores[name] for name in MEASURES], float)

    ways[METRICS] = lambda: collect(evaluate_results(truth.dataset, detections, (task,))[task])
    ways[EXPLAINED] = lambda: collect(explain_results(truth.dataset, detections, (task,))["tasks"][task]["metrics"])
    return ways


def _keep(name: str, way: Callable[[], np.ndarray], metrics: dict) -> Callable[[], None]:
    """Makes a function that leaves what `way` returns under the name in `metrics`."""

    def run() -> None:
        metrics[name] = way()

    return run


def evaluate_as_detectron2(task: str, kind: type, truth: COCO, detections: list[dict]) -> np.ndarray:
    """Evaluates with a class of pycocotools' kind, inside Detectron2's function."""
    if task == "bbox":
        detections = [{key: value for key, value in found.items() if key != "segmentation"} for found in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluate_predictions_on_coco(truth, detections, task, cocoeval_fn=kind)
    return 100 * np.asarray(evaluation.stats, float)[STATS]


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
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(images)],
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
