"""Training a panoptic FPN: what it adds to `DetectionTrainer`."""

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..config.checks.panoptic import check_panoptic
from ..data.image import Decoding
from ..evaluation.coco import Evaluator, list_tasks
from ..evaluation.panoptic import TASK, PanopticEvaluator
from .detection import DetectionTrainer


class PanopticTrainer(DetectionTrainer):
    """Trains a panoptic FPN on the data sets of DATASETS.PANOPTIC, or Detectron2's, and evaluates it, in percent.

    The metrics are {"panoptic_seg": {"PQ": …}, "bbox": {"AP": …}, "segm": …}; of data without segments, which have
    objects and masks of classes, the last two alone.
    """

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        super().check_config(cfg)
        check_panoptic(cfg)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, folder: str) -> Evaluator:
        metadata = MetadataCatalog.get(dataset_name)
        if not metadata.get("panoptic_format"):
            return super().build_evaluator(cfg, dataset_name, folder)
        return PanopticEvaluator(
            *(dataset_name, list_tasks(cfg), folder),
            max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
            things=metadata.thing_classes,
            stuff=metadata.stuff_classes[1:],
            decoding=Decoding.from_config(cfg),
        )

    @classmethod
    def describe_scores(cls, scores: dict) -> str:
        quality = [f"PQ {scores[TASK]['PQ']:.1f}"] if TASK in scores else []
        return ", ".join([*quality, super().describe_scores(scores)])

    @classmethod
    def check_evaluation(cls, cfg: CfgNode) -> None:
        super().check_evaluation(cfg)
        check_panoptic(cfg)
