"""Fine-tuning a detector: what it adds to `EvaluatedTrainer`."""

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from ..config.checks.detections import check_detections
from ..config.checks.model import check_architecture
from ..config.checks.training import check_fine_tuning
from ..data.detection.catalog import check_data_sets_exist
from ..data.detection.loader import build_test_loader, build_train_dataset, build_train_loader, check_test_data
from ..evaluation.coco import Evaluator, list_tasks
from ..inference.augmentation import augment_predictions
from ..inference.tiling import tile_predictions
from .evaluated_trainer import EvaluatedTrainer
from .hooks.evaluation import choose_best_metric


class DetectionTrainer(EvaluatedTrainer):
    """Fine-tunes a detector on registered data sets and evaluates it with COCO's metrics, in percent.

    They are {"bbox": {"AP": …}, "segm": …}.
    """

    load_train_dataset = staticmethod(build_train_dataset)
    check_test_data = staticmethod(check_test_data)
    build_test_loader = staticmethod(build_test_loader)
    build_train_loader = staticmethod(build_train_loader)
    choose_best_metric = staticmethod(choose_best_metric)

    @classmethod
    def prepare_model(cls, cfg: CfgNode, model: nn.Module) -> nn.Module:
        return tile_predictions(cfg, augment_predictions(cfg, model))

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        check_fine_tuning(cfg, comm.get_world_size())
        check_data_sets_exist([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST], cfg)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, folder: str) -> Evaluator:
        return Evaluator(
            dataset_name,
            list_tasks(cfg),
            folder,
            max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
            crowd_as_objects=cfg.DATASETS.CROWD_AS_OBJECTS,
        )

    @classmethod
    def describe_scores(cls, scores: dict) -> str:
        kinds = {"box": "bbox", "mask": "segm"}
        found = (f"{kind} AP {scores[task]['AP']:.1f}" for kind, task in kinds.items() if task in scores)
        return ", ".join(found) or "no AP, since its annotations are not public"

    @classmethod
    def check_evaluation(cls, cfg: CfgNode) -> None:
        check_architecture(cfg)
        check_detections(cfg)
        check_data_sets_exist(cfg.DATASETS.TEST, cfg)
