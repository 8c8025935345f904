"""What many objects in an image cost after the network: its proposals to results, and results to metrics.

The network is left out: it gives boxes, scores and masks near random objects. Results: duplicates among the
proposals are suppressed, masks are pasted and encoded, by Detectron2's functions and by ours. Metrics: of boxes and
masks, by pycocotools with as many detections as there are objects, and by ours with all that explains them. Seconds are
those that the process spends on the processor, which other processes don't change.
"""

import argparse
import contextlib
import ctypes
import functools
import gc
import io
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from convmae_det.costs.measuring import describe_machine
from convmae_det.errors import InputError
from convmae_det.evaluation.coco import describe_instances
from convmae_det.evaluation.explanation import explain_results
from convmae_det.files import atomic_write
from convmae_det.inference.pasting import RegionMasks
from convmae_det.memory import read_resident_peak

CLASSES, SIDE = 4, 28  # of the detector; of its masks, in pixels
PROPOSALS = 1.5  # for each object
TASKS = ("bbox", "segm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--objects", type=int, nargs="+", default=[100, 300, 1000, 3000], metavar="N", help="in an image"
    )
    parser.add_argument("--size", type=int, default=2048, metavar="PIXELS", help="side of the image")
    parser.add_argument(
        "--stock-up-to", type=int, default=1000, metavar="N", help="objects from which Detectron2's masks don't fit"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the curves there, as PNG")


class Scene:
    """Objects of an image of `size` pixels, and what a network gives for them.

    Attributes:
        boxes: (R, 4), a box a proposal
        scores: (R, CLASSES + 1)
        masks: (R, 1, SIDE, SIDE) probabilities
    """

    def __init__(self, count: int, size: int):
        generator = torch.Generator().manual_seed(0)
        self.count, self.size, spacing = count, size, size / count**0.5
        places = size * torch.rand(count, 2, generator=generator)
        sides = spacing * (0.5 + torch.rand(count, 2, generator=generator))
        self.objects = torch.cat((places - sides / 2, places + sides / 2), dim=1)
        self.labels = torch.randint(CLASSES, (count,), generator=generator)
        near = torch.arange(round(PROPOSALS * count)) % count
        noise = 0.05 * spacing * torch.randn(len(near), 4, generator=generator)
        self.boxes = self.objects[near] + noise
        self.scores = torch.full((len(near), CLASSES + 1), 0.01)
        self.scores[torch.arange(len(near)), self.labels[near]] = 0.3 + 0.6 * torch.rand(len(near), generator=generator)
        y, x = (torch.linspace(-1, 1, SIDE)[shape] for shape in ((slice(None), None), (None, slice(None))))
        waves = 0.2 * torch.rand(len(near), 1, 1, generator=generator)
        self.masks = torch.sigmoid(8 * (1 - waves - x**2 - y**2))[:, None]

    def detect(self) -> Instances:
        """Suppresses duplicates, and adds the masks that the network would give."""
        size = (self.size, self.size)
        found, rows = fast_rcnn_inference_single_image(self.boxes, self.scores, size, 0.05, 0.5, self.count)
        found.pred_masks = self.masks[rows]
        return found

    def annotate(self) -> dict:
        """The objects as an annotation file."""
        found = Instances((self.size, self.size), scores=torch.ones(self.count), pred_classes=self.labels)
        found.pred_boxes = type(self.detect().pred_boxes)(self.objects.clone())
        found.pred_masks = RegionMasks(self.masks[: self.count, 0])
        objects = describe_instances(detector_postprocess(found, self.size, self.size), 1)
        return {
            "images": [{"id": 1, "file_name": "1.png", "height": self.size, "width": self.size}],
            "categories": [{"id": k, "name": str(k)} for k in range(CLASSES)],
            "annotations": [
                entry | {"id": number, "iscrowd": 0, "area": entry["bbox"][2] * entry["bbox"][3]}
                for number, entry in enumerate(objects, start=1)
            ],
        }


def find_stock(scene: Scene) -> list[dict]:
    found = detector_postprocess(scene.detect(), scene.size, scene.size)
    return instances_to_coco_json(found, 1)


def find_ours(scene: Scene) -> list[dict]:
    return describe_instances(paste(scene), 1)


def paste(scene: Scene) -> Instances:
    found = scene.detect()
    found.pred_masks = RegionMasks(found.pred_masks[:, 0])
    return detector_postprocess(found, scene.size, scene.size)


def evaluate_stock(scene: Scene, truth: dict, results: list[dict]) -> float:
    """Box AR at as many detections as objects, in percent."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco, recall = COCO(), 0.0
        coco.dataset = {"info": {}, **truth}
        coco.createIndex()
        for task in reversed(TASKS):
            evaluation = COCOeval(coco, coco.loadRes([dict(result) for result in results]), task)
            evaluation.params.maxDets = [scene.count]
            evaluation.evaluate()
            evaluation.accumulate()
            recall = 100 * float(evaluation.eval["recall"][:, :, 0, 0].mean())
    return recall


def evaluate_ours(scene: Scene, truth: dict, results: list[dict]) -> float:
    metrics = explain_results(truth, results, TASKS, scene.count)["tasks"]["bbox"]["metrics"]
    return metrics[f"AR@{scene.count}" if scene.count > 100 else "AR"]


FINDING = {"results, Detectron2": find_stock, "results, ours": find_ours}
EVALUATING = {"metrics, pycocotools": evaluate_stock, "metrics, ours": evaluate_ours}
WORKLOADS = (*FINDING, *EVALUATING)


def build_workload(name: str, scene: Scene) -> Callable[[], Any]:
    if name in FINDING:
        return functools.partial(FINDING[name], scene)
    return functools.partial(EVALUATING[name], scene, scene.annotate(), find_ours(scene))


def measure(args: argparse.Namespace) -> dict:
    """Seconds, peak memory and the memory of what is kept, by number of objects. Exits if results differ."""
    if min(*args.objects, args.size, args.objects[0]) < 1:
        raise InputError("--objects and --size must be at least 1")
    rows = []
    for count in sorted(args.objects):
        scene = Scene(count, args.size)
        names = [name for name in WORKLOADS if name != "results, Detectron2" or count <= args.stock_up_to]
        if "results, Detectron2" in names and find_stock(scene) != find_ours(scene):
            sys.exit(f"error: at {count} objects, our results differ from Detectron2's")
        workloads = {name: build_workload(name, scene) for name in names}
        recalls = [workloads[name]() for name in EVALUATING]
        if abs(recalls[0] - recalls[1]) > 1e-7:
            sys.exit(f"error: at {count} objects, our recall {recalls[1]} differs from pycocotools' {recalls[0]}")
        seconds = measure_processor(workloads, args.repeats)
        peaks = {name: measure_peak(run) for name, run in workloads.items()}
        kept = measure_kept(lambda scene=scene: (paste(scene).pred_masks, find_ours(scene)))
        rows.append(
            {"objects": count, "seconds": seconds, "peak": peaks, "kept": kept, "stock_kept": count * args.size**2}
        )
    result = {**describe_machine("cpu"), "size": args.size, "rows": rows}
    if args.plot:
        plot(result, args.plot)
    return result


def measure_processor(workloads: Mapping[str, Callable], repeats: int) -> dict[str, float]:
    """Measures the seconds of the processor that a call takes, the median of turns."""
    times: dict[str, list[float]] = {name: [] for name in workloads}
    for _ in range(repeats):
        for name, run in workloads.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def measure_peak(run: Callable) -> int:
    """Measures the bytes by which a call raises the resident set of this process (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free would be used again, and not be counted
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = read_resident_peak()
    run()
    return read_resident_peak() - before


def measure_kept(build: Callable[[], Any]) -> int:
    """Measures the bytes of what a function returns, tensors of torch left out."""
    build()
    tracemalloc.start()
    kept = build()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size


def report(result: dict) -> None:
    print(f"{result['device']}, torch {result['torch']}; an image of {result['size']}×{result['size']} pixels")
    print("objects  kept: ours    tensor   " + "".join(f"{name:>28}" for name in WORKLOADS))
    for row in result["rows"]:
        cells = [
            f"{row['seconds'][name]:.2f} s, {row['peak'][name] / 1e6:,.0f} MB" if name in row["seconds"] else "–"
            for name in WORKLOADS
        ]
        kept = f"{row['kept'] / 1e6:8.1f} MB {row['stock_kept'] / 1e6:9,.0f} MB"
        print(f"{row['objects']:7,} {kept} " + "".join(f"{cell:>28}" for cell in cells))


def plot(result: dict, path: str) -> None:
    """Draws time and memory over the number of objects."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for panel, key, unit, label in ((panels[0], "seconds", 1, "seconds"), (panels[1], "peak", 1e6, "MB, peak")):
        for name in WORKLOADS:
            points = [(row["objects"], row[key][name] / unit) for row in result["rows"] if name in row[key]]
            panel.plot(*np.transpose(points), "o-", label=name)
        panel.set(xscale="log", yscale="log", xlabel="objects in the image", ylabel=label)
        panel.grid(alpha=0.3)
    rows = result["rows"]
    panels[1].plot([r["objects"] for r in rows], [r["kept"] / 1e6 for r in rows], "k--", label="kept, ours")
    panels[1].plot([r["objects"] for r in rows], [r["stock_kept"] / 1e6 for r in rows], "k:", label="kept, Detectron2")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize="small")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)
