"""Accuracy of a classifier in percent: top-1, top-5, by class; and which classes it takes for which."""

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from ..config.checks.rules import require
from ..errors import InputError
from ..files import write_json
from .result_folders import list_prefixes

logger = logging.getLogger(__name__)

RESULTS = "classification_results.json"
BEST_FEW = 5  # classes with the highest scores, among which the right one counts for top-5
SHOWN = 10  # classes in the log, those with the lowest accuracy
MISTAKES = 24  # that are listed, those with the highest scores


def list_measures(num_classes: int) -> tuple[str, ...]:
    """Lists the metrics of a data set: top5 says nothing of so few classes."""
    return ("top1", "top5", "class_mean") if num_classes > BEST_FEW else ("top1", "class_mean")


def choose_best_metric(cfg: CfgNode) -> str:
    """Chooses the metric for model_best.pth, by its name in metrics.json.

    Returns:
        TEST.BEST_METRIC or, if that is empty, top1 on the first data set of DATASETS.TEST; "" without any.

    Raises:
        InputError: a name that is not computed.
    """
    measures = list_measures(cfg.MODEL.CLASSIFIER.NUM_CLASSES)
    metrics = [prefix + measure for prefix in list_prefixes(cfg) for measure in measures]
    wanted = cfg.TEST.BEST_METRIC
    must = f"be one of {', '.join(metrics)}" if metrics else "be empty without DATASETS.TEST"
    require(not wanted or wanted in metrics, "TEST.BEST_METRIC", wanted, must)
    return wanted or next(iter(metrics), "")


class ClassificationEvaluator(DatasetEvaluator):
    """Collects a classifier's results on a data set, writes a summary to a file and computes the metrics."""

    def __init__(self, dataset_name: str, classes: Sequence[str], folder: str = ""):
        """Takes what to evaluate.

        Args:
            dataset_name: for the log
            classes: their names, by label
            folder: where RESULTS is written; empty: nowhere
        """
        self.dataset_name, self.classes, self.folder = dataset_name, list(classes), folder
        self.reset()

    def reset(self) -> None:
        self.labels: list[torch.Tensor] = []
        self.found: list[torch.Tensor] = []  # classes by falling score, the first few
        self.skipped: list[tuple[str, str]] = []
        self.mistakes: list[dict[str, Any]] = []

    def process(self, inputs: Mapping[str, Any], outputs: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Takes a batch with its "labels", of which those below 0 don't count, and the model's "scores".

        Mistakes are listed where the batch has "file_names".
        """
        counted = inputs["labels"] >= 0
        scores = torch.stack([output["scores"] for output in outputs])[counted.to(outputs[0]["scores"].device)]
        scores, found = (values.cpu() for values in scores.topk(min(BEST_FEW, len(self.classes))))
        self.found.append(found)
        self.labels.append(inputs["labels"][counted])
        self.skipped += inputs.get("skipped", ())
        names = inputs.get("file_names") or []
        wrong = (self.labels[-1] != found[:, 0]).nonzero()[:, 0].tolist() if names else []
        names = [name for name, counts in zip(names, counted.tolist(), strict=False) if counts]
        labels, best, highest = self.labels[-1].tolist(), found[:, 0].tolist(), scores[:, 0].tolist()
        self.mistakes = choose_surest(
            self.mistakes
            + [{"file_name": names[i], "label": labels[i], "found": best[i], "score": highest[i]} for i in wrong]
        )

    def evaluate(self) -> dict[str, float]:
        """Writes RESULTS and computes the metrics over all processes.

        Returns:
            Those of :func:`list_measures`; empty on all processes but the main one.

        Raises:
            InputError: in all processes; no image could be read.
        """
        comm.synchronize()
        gathered = comm.all_gather((self.labels, self.found, self.skipped, self.mistakes))
        labels, found, skipped, mistakes = (list(itertools.chain(*parts)) for parts in zip(*gathered, strict=True))
        count = sum(map(len, labels))
        if not count:
            raise InputError(f"None of the {len(skipped)} images of {self.dataset_name} can be read: {skipped[0][0]} …")
        if not comm.is_main_process():
            return {}
        if skipped:
            logger.warning(
                f"{self.dataset_name}: {len(skipped)} of {len(skipped) + count} images can't be read and don't count, "
                f"such as {skipped[0][0]}: it {skipped[0][1]}"
            )
        summary = summarize(torch.cat(labels), torch.cat(found), self.classes)
        if self.folder:
            self.write(summary | {"skipped": [name for name, _ in skipped], "mistakes": choose_surest(mistakes)})
        logger.info(f"{self.dataset_name}, {count} images:\n{format_classes(summary)}")
        return {name: summary[name] for name in list_measures(len(self.classes))}

    def write(self, summary: dict) -> None:
        """Writes RESULTS to the folder."""
        os.makedirs(self.folder, exist_ok=True)
        write_json(os.path.join(self.folder, RESULTS), summary)


def choose_surest(mistakes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chooses the mistakes with the highest scores, each a dict with "score", the highest first."""
    return sorted(mistakes, key=lambda mistake: -mistake["score"])[:MISTAKES]


def summarize(labels: torch.Tensor, found: torch.Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Computes the metrics, in percent.

    Args:
        labels: (N,) int64, at least one
        found: (N, k) int64, classes by falling score
        classes: their names, by label

    Returns:
        "top1"; "top5" over all columns; "class_mean", the mean over the classes that have images; "images", N;
        "classes", for each its "name", "accuracy" (None without images) and number of "images"; "confusion", by label
        a row with the number of images that each class was found in
    """
    right = found == labels[:, None]
    number = len(classes)
    confusion = torch.bincount(labels * number + found[:, 0], minlength=number**2).view(number, number)
    images, hits = confusion.sum(dim=1), confusion.diagonal().double()
    accuracies = (100 * hits / images).tolist()
    return {
        "images": len(labels),
        "top1": 100 * right[:, 0].double().mean().item(),
        "top5": 100 * right.any(dim=1).double().mean().item(),
        "class_mean": 100 * (hits / images)[images > 0].mean().item(),
        "classes": [
            {"name": name, "accuracy": accuracy if count else None, "images": count}
            for name, accuracy, count in zip(classes, accuracies, images.tolist(), strict=True)
        ],
        "confusion": confusion.tolist(),
    }


def format_classes(summary: Mapping[str, Any]) -> str:
    """Formats a table of the classes with the lowest accuracy, and what each is taken for most often."""
    names = [entry["name"] for entry in summary["classes"]]
    rows = []
    for label, entry in enumerate(summary["classes"]):
        if not entry["images"]:
            continue
        others = list(summary["confusion"][label])
        others[label] = 0
        most = max(range(len(others)), key=others.__getitem__)
        taken = f"{names[most]} ({others[most]})" if others[most] else ""
        rows.append((entry["accuracy"], entry["name"], entry["images"], taken))
    rows = [(name, f"{accuracy:.1f}", images, taken) for accuracy, name, images, taken in sorted(rows)[:SHOWN]]
    return tabulate(rows, ["class", "accuracy", "images", "most often taken for"], "pipe", disable_numparse=True)
