"""Test-time augmentation: an image in several sizes, also mirrored, whose predictions are merged."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNNWithTTA
from torch import nn

from ..config.checks.data import check_test_time_augmentation
from ..config.checks.detections import check_detections
from .pasting import RegionMasks


def augment_predictions(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Returns the detector as TEST.AUG says: with Detectron2's test-time augmentation, or as it is.

    Of every image, at its own size, it makes one or two for each of TEST.AUG.MIN_SIZES. They pass the model one by one,
    so that none is padded to the size of another.

    Raises:
        InputError: the detector can't be augmented, or can't find as many objects as TEST.DETECTIONS_PER_IMAGE.
    """
    check_detections(cfg)
    check_test_time_augmentation(cfg)
    if not cfg.TEST.AUG.ENABLED:
        return model
    return AugmentedDetector(cfg, model, batch_size=1).train(model.training)


class AugmentedDetector(GeneralizedRCNNWithTTA):
    """Detectron2's test-time augmentation, but masks in run lengths."""

    def _reduce_pred_masks(self, *parts: Any) -> RegionMasks:
        masks: torch.Tensor = super()._reduce_pred_masks(*parts)
        return RegionMasks(masks[:, 0])
