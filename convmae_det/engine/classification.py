"""Training a classifier, whole or as a linear probe: what it adds to `EvaluatedTrainer`."""

import os
from collections.abc import Iterable, Sequence

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from ..config.checks.data import check_classification_input
from ..config.checks.model import check_classifier
from ..config.checks.training import check_classification
from ..data.classification.loader import build_test_loader, build_train_dataset, build_train_loader, check_test_data
from ..evaluation.classification import ClassificationEvaluator, choose_best_metric
from ..inference.predictor import read_classes
from ..visualization.confusion import draw_confusion
from ..visualization.sheet import save_png
from .evaluated_trainer import EvaluatedTrainer
from .parallel import share_norm_statistics
from .skipped_images import SkippedImageRecorder, report_skipped_images

CONFUSION = "confusion.png"


class ClassificationTrainer(EvaluatedTrainer):
    """Trains a classifier on the data sets of DATASETS.CLASS_FOLDERS and evaluates its accuracy, in percent.

    The metrics are {"top1": …, "top5": …, "class_mean": …}.
    """

    load_train_dataset = staticmethod(build_train_dataset)
    check_test_data = staticmethod(check_test_data)
    build_test_loader = staticmethod(build_test_loader)
    choose_best_metric = staticmethod(choose_best_metric)

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        check_classification(cfg, comm.get_world_size())

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iteration: int, dataset: Sequence) -> Iterable[dict]:
        return SkippedImageRecorder(build_train_loader(cfg, start_iteration, dataset), cfg)

    def train(self) -> dict | None:
        results = super().train()
        report_skipped_images(self.cfg)
        return results

    @classmethod
    def prepare_model(cls, cfg: CfgNode, model: nn.Module) -> nn.Module:
        """Gives all processes the statistics of a probe's batch norm that the main one has, and checkpoints hold."""
        share_norm_statistics(model)
        return model

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, folder: str) -> "DrawingEvaluator":
        return DrawingEvaluator(dataset_name, read_classes(cfg)[0], folder)

    @classmethod
    def describe_scores(cls, scores: dict) -> str:
        return ", ".join(f"{name} {value:.2f}" for name, value in scores.items())

    @classmethod
    def check_evaluation(cls, cfg: CfgNode) -> None:
        check_classifier(cfg)
        check_classification_input(cfg)


class DrawingEvaluator(ClassificationEvaluator):
    """Draws the confusion of classes, too."""

    def write(self, summary: dict) -> None:
        super().write(summary)
        title = f"{self.dataset_name}: top-1 {summary['top1']:.1f} %"
        picture = draw_confusion(summary["confusion"], self.classes, title)
        save_png(picture, os.path.join(self.folder, CONFUSION))
