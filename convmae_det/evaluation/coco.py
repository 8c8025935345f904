"""COCO's metrics of a detector: average precision (AP) and recall (AR) of boxes and masks, in percent."""

import contextlib
import itertools
import logging
import os
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from detectron2.utils import comm

from ..data.detection.annotation_file import check_content, read_content
from ..data.detection.outlines import compute_area
from ..data.detection.variants import leave_out_masks, unify_content
from ..data.run_length_masks import RunLengthMasks
from ..errors import InputError
from ..files import write_json
from .comparison import LIMIT
from .explanation import explain_results, list_scores
from .metrics import format_table
from .thresholds import THRESHOLDS, list_chosen_thresholds

logger = logging.getLogger(__name__)

RESULTS, EXPLANATION = "coco_instances_results.json", "evaluation.json"
WITHOUT_AREA = "annotations have no area; it is computed from their outlines"


def list_tasks(cfg: CfgNode) -> tuple[str, ...]:
    """Lists what COCO's metrics are computed for: boxes and, with MODEL.MASK_ON, masks."""
    return ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)


def describe_instances(instances: Instances, image_id: int | str) -> list[dict]:
    """Converts what a detector finds in an image to COCO's results format, "category_id" being the number of the class.

    Args:
        instances: on the CPU, their masks as a tensor or as `RunLengthMasks`
        image_id: of the image
    """
    masks = instances.get_fields().get("pred_masks")
    if not isinstance(masks, RunLengthMasks):
        return instances_to_coco_json(instances, image_id)
    without = Instances(instances.image_size, **{k: v for k, v in instances.get_fields().items() if k != "pred_masks"})
    entries = instances_to_coco_json(without, image_id)
    return [entry | {"segmentation": mask} for entry, mask in zip(entries, masks.to_coco(), strict=True)]


class Evaluator(DatasetEvaluator):
    """Collects a detector's results on a data set, writes them to a file, computes COCO's metrics and explains them."""

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
            output_dir: where RESULTS, EXPLANATION and THRESHOLDS are written; empty: nowhere
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
            self.results += describe_instances(instances, image["image_id"])

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
            write_json(os.path.join(self.output_dir, RESULTS), results)
        if "annotations" not in truth:
            logger.info(f"{self.dataset_name} has no annotations to evaluate the results with")
            return {}
        explanation = explain_results(truth, results, self.tasks, self.max_detections, verdicts=False)
        if self.output_dir:
            write_json(os.path.join(self.output_dir, EXPLANATION), explanation)
            write_json(os.path.join(self.output_dir, THRESHOLDS), list_chosen_thresholds(explanation))
        scores = list_scores(explanation)
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
    else:
        content = convert_to_coco_dict(dataset_name)
        unify_content(content)
    if computed := _complete(content, crowd_as_objects):
        logger.info(f"{dataset_name}: {computed} {WITHOUT_AREA}")
    return content


def read_ground_truth_file(path: str, crowd_as_objects: bool = False, boxes_only: bool = False) -> dict:
    """Reads and checks an annotation file in COCO's format; returns as :func:`read_ground_truth`.

    Args:
        path: of the file
        crowd_as_objects: as DATASETS.CROWD_AS_OBJECTS
        boxes_only: leaves masks out, whatever they are

    Raises:
        InputError: it can't be used, or has no object.
    """
    content = read_content(path)
    if boxes_only and isinstance(content, dict):
        leave_out_masks(content.get("annotations"))
    check_content(content, path, is_train=True)
    if computed := _complete(content, crowd_as_objects):
        logger.warning(f"{path}: {computed} {WITHOUT_AREA}")
    if all(annotation["iscrowd"] for annotation in content["annotations"]):
        advice = "annotate some"
        if crowds := len(content["annotations"]):
            advice = f"all {crowds} annotations are crowds (iscrowd 1); if they are objects, as masks of CVAT's brush "
            advice += "are, add --crowd-as-objects"
        raise InputError(f"{path} has no object: {advice}")
    return content


def _complete(content: dict, crowd_as_objects: bool) -> int:
    """Sorts categories by id, and adds what is missing, in place; returns the number of areas that were."""
    content["categories"] = sorted(content["categories"], key=lambda category: category["id"])
    if crowd_as_objects:
        for annotation in content.get("annotations", ()):
            annotation["iscrowd"] = 0
    return fill_areas(content)


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
