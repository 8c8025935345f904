"""Which trainer a configuration with labels needs, by its META_ARCHITECTURE."""

from detectron2.config import CfgNode

from ..config.architectures import is_classifier
from .classification import ClassificationTrainer
from .detection import DetectionTrainer
from .evaluated_trainer import EvaluatedTrainer


def choose_trainer(cfg: CfgNode) -> type[EvaluatedTrainer]:
    """Chooses the trainer; one that refuses the configuration says what it needs instead."""
    return ClassificationTrainer if is_classifier(cfg) else DetectionTrainer
