"""Intersection over union of a segmentor's classes, in percent: of their pixels, and of those near their outlines.

K classes. What has no class in the mask doesn't count, in truth or prediction.
"""

import base64
import io
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from PIL import Image
from tabulate import tabulate

from ..config.checks.rules import require
from ..data.image import DEFAULT, Decoding
from ..data.segmentation.masks import check_size, check_values, read_mask
from ..errors import InputError
from ..files import write_json
from .result_folders import list_prefixes

logger = logging.getLogger(__name__)

RESULTS = "segmentation_results.json"
TASK = "sem_seg"  # what the names of metrics begin with
MEASURES = ("mIoU", "mACC", "pACC", "boundary_mIoU")
WORST = 12  # images with the smallest share of right pixels, which are kept for the report
OUTLINE = 0.02  # how far from its outline a class's pixels are taken for boundary IoU, as a share of the diagonal


def choose_best_metric(cfg: CfgNode) -> str:
    """Chooses the metric for model_best.pth, by its name in metrics.json.

    Returns:
        TEST.BEST_METRIC or, if that is empty, mIoU on the first data set of DATASETS.TEST; "" without any.

    Raises:
        InputError: a name that is not computed.
    """
    prefixes = [f"{prefix}{TASK}/" for prefix in list_prefixes(cfg)]
    classes = [f"IoU-{name}" for _, name in cfg.DATASETS.CATEGORIES]
    wanted = cfg.TEST.BEST_METRIC
    metrics = [prefix + measure for prefix in prefixes for measure in MEASURES]
    others = [prefix + measure for prefix in prefixes for measure in classes]
    must = f"be one of {', '.join(metrics)}, or end in IoU-NAME" if metrics else "be empty without DATASETS.TEST"
    require(not wanted or wanted in metrics + others, "TEST.BEST_METRIC", wanted, must)
    return wanted or next(iter(metrics), "")


class SegmentationEvaluator(DatasetEvaluator):
    """Collects a segmentor's results on a data set, writes a summary to a file and computes the metrics."""

    def __init__(
        self,
        dataset_name: str,
        classes: Sequence[str],
        ignore_value: int,
        folder: str = "",
        decoding: Decoding = DEFAULT,
    ):
        """Takes what to evaluate.

        Args:
            dataset_name: for the log
            classes: their names, by number
            ignore_value: in masks, of pixels without a class
            folder: where RESULTS is written; empty: nowhere
            decoding: of masks
        """
        self.dataset_name, self.classes, self.ignore_value = dataset_name, list(classes), ignore_value
        self.folder, self.decoding = folder, decoding
        self.reset()

    def reset(self) -> None:
        number = len(self.classes)
        self.confusion = np.zeros((number, number), np.int64)  # pixels, by class and by what it was taken for
        self.outlines = np.zeros((2, number), np.int64)  # intersections and unions of the pixels near outlines
        self.images = 0
        self.worst: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Takes images with their "sem_seg_file_name", and the model's "sem_seg", logits (K, H, W).

        Raises:
            InputError: a mask that can't be used.
        """
        for image, output in zip(inputs, outputs, strict=True):
            found = output[TASK].argmax(dim=0).to(torch.int32).cpu().numpy()
            path = image["sem_seg_file_name"]
            truth = read_mask(path, self.decoding)
            check_size(path, truth, image["file_name"], found.shape)
            check_values(path, truth, len(self.classes), self.ignore_value)
            confusion = count_confusion(truth, found, len(self.classes), self.ignore_value)
            self.confusion += confusion
            self.outlines += compare_outlines(truth, found, len(self.classes), self.ignore_value)
            self.images += 1
            if pixels := int(confusion.sum()):
                self._note(image, found, 100 * int(confusion.trace()) / pixels)

    def _note(self, image: Mapping[str, Any], found: np.ndarray, accuracy: float) -> None:
        """Keeps what was found in an image as long as it is one of the worst."""
        if len(self.worst) < WORST or accuracy < self.worst[-1]["accuracy"]:
            paths = {key: image[key] for key in ("file_name", "sem_seg_file_name")}
            self.worst.append(paths | {"accuracy": accuracy, "found": encode_mask(found)})
            self.worst = choose_worst(self.worst)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Writes RESULTS and computes the metrics over all processes.

        Returns:
            {"sem_seg": MEASURES and IoU-NAME of each class that occurs}; empty on all processes but the main one.

        Raises:
            InputError: in all processes; no pixel of the data set has a class.
        """
        comm.synchronize()
        gathered = comm.all_gather((self.confusion, self.outlines, self.images, self.worst))
        confusion, outlines = (np.sum([part[i] for part in gathered], axis=0) for i in (0, 1))
        images = sum(part[2] for part in gathered)
        if not confusion.any():
            raise InputError(f"No pixel in the masks of {self.dataset_name} has a class: choose other data.")
        if not comm.is_main_process():
            return {}
        worst = {"worst": choose_worst([image for part in gathered for image in part[3]])}
        summary: dict[str, Any] = {"images": images} | summarize(confusion, outlines, self.classes) | worst
        if self.folder:
            os.makedirs(self.folder, exist_ok=True)
            write_json(os.path.join(self.folder, RESULTS), summary)
        logger.info(f"{self.dataset_name}, {images} images:\n{format_classes(summary)}")
        by_class = {f"IoU-{entry['name']}": entry["IoU"] for entry in summary["classes"] if entry["IoU"] is not None}
        return {TASK: {name: summary[name] for name in MEASURES} | by_class}


def choose_worst(images: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chooses those with the lowest "accuracy", the worst first."""
    return sorted(images, key=lambda image: image["accuracy"])[:WORST]


def encode_mask(labels: np.ndarray) -> str:
    """Encodes the numbers of classes (H, W) as a PNG, as text in base 64."""
    buffer = io.BytesIO()
    Image.fromarray(labels.astype(np.uint8 if labels.max() < 256 else np.uint16)).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def count_confusion(truth: np.ndarray, found: np.ndarray, classes: int, ignore_value: int) -> np.ndarray:
    """Counts pixels by their class and the class found.

    Args:
        truth: (H, W), 0 to K − 1 or `ignore_value`
        found: (H, W), 0 to K − 1
        classes: K
        ignore_value: of pixels that don't count

    Returns:
        (K, K) int64
    """
    counted = truth != ignore_value
    pairs = truth[counted].astype(np.int64) * classes + found[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def compare_outlines(truth: np.ndarray, found: np.ndarray, classes: int, ignore_value: int) -> np.ndarray:
    """Compares the pixels of each class that lie near its outline (boundary IoU, Cheng et al., arXiv 2103.16562).

    Args:
        truth, found, classes, ignore_value: as for :func:`count_confusion`

    Returns:
        (2, K) int64: intersections and unions
    """
    counted = truth != ignore_value
    width = max(1, round(OUTLINE * float(np.hypot(*truth.shape))))
    result = np.zeros((2, classes), np.int64)
    for label in np.union1d(truth[counted], found[counted]):
        ours, theirs = (_cut_outline(counted & (labels == label), width) for labels in (truth, found))
        result[:, label] = (ours & theirs).sum(), (ours | theirs).sum()
    return result


def _cut_outline(region: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a region (H, W) bool that are at most `width` steps from its outside; the border is outside."""
    framed = np.pad(region.astype(np.uint8), 1)
    inner = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return region & (inner == 0)


def summarize(confusion: np.ndarray, outlines: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Computes the metrics, in percent.

    Args:
        confusion: (K, K), some of it not zero
        outlines: (2, K)
        classes: their names, by number

    Returns:
        "mIoU", the mean of the classes that occur in truth or prediction; "mACC", the mean share of the pixels of the
        classes in the truth that are found; "pACC", that of all pixels; "boundary_mIoU"; "classes", for each its
        "name", "IoU", "accuracy" and "boundary_IoU" (None where it doesn't occur) and number of "pixels"; "confusion"
    """
    pixels, hits = confusion.sum(1), confusion.diagonal()
    ious = _divide(hits, pixels + confusion.sum(0) - hits)
    accuracies, boundaries = _divide(hits, pixels), _divide(*outlines)
    return {
        "mIoU": float(np.nanmean(ious)),
        "mACC": float(np.nanmean(accuracies)),
        "pACC": float(100 * hits.sum() / pixels.sum()),
        "boundary_mIoU": float(np.nanmean(boundaries)),
        "classes": [
            {"name": name, "IoU": iou, "accuracy": accuracy, "boundary_IoU": boundary, "pixels": count}
            for name, iou, accuracy, boundary, count in zip(
                classes, *map(_list_numbers, (ious, accuracies, boundaries)), pixels.tolist(), strict=True
            )
        ],
        "confusion": confusion.tolist(),
    }


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Percents; NaN where there is nothing."""
    return np.divide(100 * part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _list_numbers(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def format_classes(summary: Mapping[str, Any]) -> str:
    """Formats a table of the classes, those that are found least first, and the means below."""
    present = [entry for entry in summary["classes"] if entry["IoU"] is not None]
    rows = [
        (entry["name"], *(_format_percent(entry[key]) for key in ("IoU", "accuracy", "boundary_IoU")), entry["pixels"])
        for entry in sorted(present, key=lambda entry: entry["IoU"])
    ]
    means = [_format_percent(summary[name]) for name in ("mIoU", "mACC", "boundary_mIoU")]
    rows.append(("mean", *means, sum(entry["pixels"] for entry in present)))
    headers = ["class", "IoU", "accuracy", "boundary IoU", "pixels"]
    return tabulate(rows, headers, "pipe", disable_numparse=True, colalign=("left", *["right"] * 4))


def _format_percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
