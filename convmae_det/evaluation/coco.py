"""COCO's metrics of a detector: average precision (AP) and recall (AR) of boxes and masks, in percent."""

import contextlib
import io
import itertools
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from ..data.detection.annotation_file import read_content
from ..data.detection.coco_format import sort_images
from ..data.detection.outlines import compute_area
from ..data.detection.variants import unify_content
from ..errors import InputError
from ..files import atomic_write

logger = logging.getLogger(__name__)

LIMIT = 100  # objects of an image that COCO's metrics count, those with the highest scores
MEASURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR")  # COCO's
RESULTS = "coco_instances_results.json"
COLUMNS = 6  # of the table of classes


def list_tasks(cfg: CfgNode) -> tuple[str, ...]:
    """Lists what COCO's metrics are computed for: boxes and, with MODEL.MASK_ON, masks."""
    return ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)


def choose_implementation() -> type[COCOeval]:
    """Chooses Detectron2's compiled evaluation, else faster-coco-eval, else pycocotools: equal, each slower.

    benchmarks/benchmark.py evaluate compares them.
    """
    with contextlib.suppress(ImportError):
        from detectron2.evaluation.fast_eval_api import COCOeval_opt

        return COCOeval_opt
    with contextlib.suppress(ImportError):
        from faster_coco_eval import COCOeval_faster

        return COCOeval_faster
    return COCOeval


class Evaluator(DatasetEvaluator):
    """Collects a detector's results on a data set, writes them to a file and computes COCO's metrics."""

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str],
        output_dir: str = "",
        *,
        max_detections: int = LIMIT,
        crowd_as_objects: bool = False,
    ):
        """Takes what to evaluate.

        Args:
            dataset_name: of a registered data set
            tasks: bbox, segm
            output_dir: where coco_instances_results.json is written; empty: nowhere
            max_detections: objects of an image that are also counted, beside COCO's 100, if this is more
            crowd_as_objects: as DATASETS.CROWD_AS_OBJECTS
        """
        self.dataset_name, self.tasks, self.output_dir = dataset_name, tasks, output_dir
        self.max_detections, self.crowd_as_objects = max_detections, crowd_as_objects
        self.reset()

    def reset(self) -> None:
        self.results: list[dict] = []
        self.images = 0

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Takes a model's inputs, with their "image_id", and its outputs, with their "instances"."""
        for image, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to(torch.device("cpu"))
            self.results += instances_to_coco_json(instances, image["image_id"])

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Writes the results of all processes and computes the metrics.

        Returns:
            By task the metrics of :func:`evaluate_results`; empty if the data set has no annotations, and on all
            processes but the main one.
        """
        comm.synchronize()
        gathered = comm.gather(self.results, dst=0)
        if not comm.is_main_process():
            return {}
        truth = read_ground_truth(self.dataset_name, self.crowd_as_objects)
        ids = [category["id"] for category in truth["categories"]]
        results = [
            result | {"category_id": ids[result["category_id"]]} for result in itertools.chain.from_iterable(gathered)
        ]
        if self.output_dir:
            os.makedirs(self.output_dir, exist_ok=True)
            with atomic_write(os.path.join(self.output_dir, RESULTS)) as file:
                file.write(json.dumps(results).encode())
        if "annotations" not in truth:
            logger.info(f"{self.dataset_name} has no annotations to evaluate the results with")
            return {}
        scores = evaluate_results(truth, results, self.tasks, self.max_detections)
        for task, measures in scores.items():
            logger.info(f"{self.dataset_name}, {task}:\n{format_table(measures)}")
        return scores


def read_ground_truth(dataset_name: str, crowd_as_objects: bool = False) -> dict:
    """Reads the annotations of a registered data set.

    Args:
        dataset_name: of data that are checked already
        crowd_as_objects: as DATASETS.CROWD_AS_OBJECTS

    Returns:
        The content of a file in COCO's format, its categories in the order of the detector's classes; without
        "annotations" if they are not public.
    """
    metadata = MetadataCatalog.get(dataset_name)
    if path := metadata.get("json_file"):
        content = read_content(path, metadata.get("image_root"))
        content["categories"] = sorted(content["categories"], key=lambda category: category["id"])
    else:
        content = convert_to_coco_dict(dataset_name)
        unify_content(content)
    if crowd_as_objects:
        for annotation in content.get("annotations", ()):
            annotation["iscrowd"] = 0
    if computed := fill_areas(content):
        logger.info(f"{dataset_name}: {computed} annotations have no area; it is computed from their outlines")
    return content


def fill_areas(content: dict) -> int:
    """Computes the areas that are missing or 0 in an annotation file's content, in place.

    Returns:
        How many were.
    """
    images, computed = {image["id"]: image for image in content["images"]}, 0
    for annotation in content.get("annotations", ()):
        with contextlib.suppress(TypeError, ValueError):
            annotation["area"] = float(annotation.get("area"))
            if 0 < annotation["area"] < float("inf"):
                continue
        image = images[annotation["image_id"]]
        annotation["area"] = compute_area(annotation, image["height"], image["width"])
        computed += 1
    return computed


def evaluate_results(
    truth: Mapping, results: Sequence[dict], tasks: Sequence[str], max_detections: int = LIMIT
) -> dict[str, dict[str, float]]:
    """Computes COCO's metrics.

    Args:
        truth: from :func:`read_ground_truth`
        results: entries of COCO's results format, with the ids that `truth` has
        tasks: bbox, segm
        max_detections: objects of an image that are also counted, if this is more than COCO's 100

    Returns:
        By task: MEASURES; with `max_detections` N above 100 also these as "AP@N", …; and of several classes "AP-" with
        the name of each. All in percent; NaN where there is no object to find.

    Raises:
        InputError: a result of an image or category that `truth` doesn't have.
    """
    coco, images, categories = _index(truth)
    found = [
        result | {"image_id": images.get(result["image_id"]), "category_id": categories.get(result["category_id"])}
        for result in results
    ]
    for result, number in zip(results, found, strict=True):
        if None in (number["image_id"], number["category_id"]):
            raise InputError(
                f"a result is of image {result['image_id']!r} and category {result['category_id']!r}, one of which the "
                "annotations don't have: evaluate it with the annotations of its images"
            )
    limits = sorted({1, 10, LIMIT, max(max_detections, LIMIT)})
    names = [category["name"] for category in truth["categories"]]
    with contextlib.redirect_stdout(io.StringIO()):
        return {task: _evaluate_task(coco, found, task, limits, names) for task in tasks}


def _index(truth: Mapping) -> tuple[Any, dict, dict]:
    """Indexes annotations by numbers of our own: evaluations use ids as truth values, and as integers of 32 bits.

    Returns:
        pycocotools' index, and our numbers by the ids of images and of categories
    """
    images = {image["id"]: number for number, image in enumerate(sort_images(truth["images"]), start=1)}
    categories = {category["id"]: number for number, category in enumerate(truth["categories"], start=1)}
    coco: Any = COCO()
    coco.dataset = {
        "images": [image | {"id": images[image["id"]]} for image in truth["images"]],
        "categories": [category | {"id": categories[category["id"]]} for category in truth["categories"]],
        "annotations": [
            annotation
            | {"id": number}
            | {"image_id": images[annotation["image_id"]], "category_id": categories[annotation["category_id"]]}
            for number, annotation in enumerate(truth["annotations"], start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco, images, categories


def _evaluate_task(
    coco: Any, found: Sequence[dict], task: Any, limits: list[int], names: Sequence[str]
) -> dict[str, float]:
    if task == "segm":  # without boxes, whose areas would replace those of the masks
        found = [{key: value for key, value in result.items() if key != "bbox"} for result in found]
    if found:
        detections = coco.loadRes(list(found))
    else:
        detections: Any = COCO()
        detections.dataset = coco.dataset | {"annotations": []}
        detections.createIndex()
    evaluation = choose_implementation()(coco, detections, task)
    evaluation.params.maxDets = limits
    evaluation.evaluate()
    evaluation.accumulate()
    return summarize(evaluation, names)


def summarize(evaluation: COCOeval, names: Sequence[str]) -> dict[str, float]:
    """Computes the measures of :func:`evaluate_results` from an evaluation's curves."""
    params = evaluation.params
    precision = np.asarray(evaluation.eval["precision"])  # (overlap, recall, class, area, limit), -1: nothing to find
    recall = np.asarray(evaluation.eval["recall"])  # (overlap, class, area, limit)
    overlaps, areas = np.round(params.iouThrs, 2).tolist(), list(params.areaRngLbl)
    scores = {}
    for index, limit in enumerate(params.maxDets):
        if limit < LIMIT:
            continue
        parts = [precision[:, :, :, 0, index]]
        parts += [precision[overlaps.index(overlap), :, :, 0, index] for overlap in (0.5, 0.75)]
        parts += [precision[:, :, :, areas.index(size), index] for size in ("small", "medium", "large")]
        parts.append(recall[:, :, 0, index])
        suffix = "" if limit == LIMIT else f"@{limit}"
        scores |= {f"{name}{suffix}": _average(part) for name, part in zip(MEASURES, parts, strict=True)}
    if len(names) > 1:
        limit = list(params.maxDets).index(LIMIT)
        scores |= {f"AP-{name}": _average(precision[:, :, i, 0, limit]) for i, name in enumerate(names)}
    return scores


def _average(values: np.ndarray) -> float:
    values = values[values > -1]
    return float(100 * np.mean(values)) if values.size else float("nan")


def format_table(scores: Mapping[str, float]) -> str:
    """Formats the measures of a task: a row for each number of objects counted in an image, then the classes."""
    suffixes = dict.fromkeys(name.removeprefix("AR") for name in scores if name == "AR" or name.startswith("AR@"))
    rows = [
        [f"{suffix[1:]} (TEST.DETECTIONS_PER_IMAGE)" if suffix else f"{LIMIT} (as COCO does)"]
        + [scores[name + suffix] for name in MEASURES]
        for suffix in suffixes
    ]
    tables = [tabulate(rows, ["objects counted in an image", *MEASURES], "pipe", floatfmt=".3f")]
    cells = list(itertools.chain(*((name[3:], scores[name]) for name in scores if name.startswith("AP-"))))
    if cells:
        columns = min(COLUMNS, len(cells))
        lines = [cells[start : start + columns] for start in range(0, len(cells), columns)]
        headers = ["class", "AP"] * (columns // 2)
        tables.append(tabulate(lines, headers, "pipe", floatfmt=".3f", disable_numparse=[0, 2, 4][: columns // 2]))
    return "\n\n".join(tables)
