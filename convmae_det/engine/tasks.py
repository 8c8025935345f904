"""Which trainer a configuration with labels needs, by its META_ARCHITECTURE."""

from detectron2.config import CfgNode

from ..config.architectures import is_classifier, is_panoptic, is_segmentor
from .classification import ClassificationTrainer
from .detection import DetectionTrainer
from .evaluated_trainer import EvaluatedTrainer
from .panoptic import PanopticTrainer
from .segmentation import SegmentationTrainer


def choose_trainer(cfg: CfgNode) -> type[EvaluatedTrainer]:
    """Chooses the trainer; one that refuses the configuration says what it needs instead."""
    if is_segmentor(cfg):
        return SegmentationTrainer
    if is_panoptic(cfg):
        return PanopticTrainer
    return ClassificationTrainer if is_classifier(cfg) else DetectionTrainer
